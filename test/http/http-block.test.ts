/** What the `http` block of langgraph.json says about who may call, what is there, and where. */
import { describe, expect, it } from "vitest";
import { type CorsSettings, corsFor, SWITCHES } from "../../src/config/http.ts";
import { ConfigError, loadProject } from "../../src/config.ts";
import { headerChooser } from "../../src/http/headers.ts";
import { project } from "../support/project.ts";
import { ASSISTANT, RUN_ID, start, THREAD_ID } from "./fake-services.ts";

/** The settings that a block comes to. */
async function settingsOf(http: Record<string, unknown>, env: Record<string, string> = {}) {
  await using made = await project({}, { graphs: {}, http });
  return loadProject(made.dir, env).http;
}

const refusal = (http: Record<string, unknown>): Promise<string> =>
  settingsOf(http).then(
    () => "taken",
    (error: unknown) => (error instanceof ConfigError ? error.message : `no ConfigError: ${error}`),
  );

describe("a block that cannot be honoured is refused by name", () => {
  it.each([
    [{ mount_prefix: "/a b" }, "http.mount_prefix"],
    [{ mount_prefix: "/a/../b" }, "http.mount_prefix"],
    [{ disable_everything: true }, "http.disable_everything is not known"],
    [{ disable_runs: "yes" }, "http.disable_runs"],
    [{ cors: { allow_origin_regex: "(" } }, "http.cors.allow_origin_regex"],
    [{ cors: { allow_credentials: true } }, "http.cors.allow_credentials"],
    [{ cors: { allow_origin: ["x"] } }, "http.cors"],
    [{ cors: { max_age: -1 } }, "http.cors.max_age"],
    [{ configurable_headers: { includes: ["x-api-key"] } }, "http.configurable_headers: x-api-key"],
    [{ logging_headers: { includes: ["a b"] } }, "http.logging_headers"],
    [{ logging_headers: { only: ["a"] } }, "http.logging_headers"],
    [{ app: "./nowhere.ts:app" }, "http.app"],
    [{ middleware_order: "auth_first" }, "http.middleware_order needs http.app"],
    [{ app: "./langgraph.json", middleware_order: "last" }, "http.middleware_order"],
    [
      { app: "./langgraph.json", middleware_order: "middleware_first", enable_custom_route_auth: true },
      "http.enable_custom_route_auth",
    ],
  ])("%j", async (http, named) => {
    expect(await refusal(http)).toContain(named);
  });
});

it("MOUNT_PREFIX wins over the file, and slashes are as they should be", async () => {
  expect((await settingsOf({ mount_prefix: "agents/" })).mountPrefix).toBe("/agents");
  expect((await settingsOf({ mount_prefix: "/" })).mountPrefix).toBe("");
  expect((await settingsOf({ mount_prefix: "/a" }, { MOUNT_PREFIX: "/b/c" })).mountPrefix).toBe("/b/c");
});

describe("cors", () => {
  const given: CorsSettings = {
    ...corsFor(["https://a.example"]),
    originPattern: /^(?:https:\/\/\w+\.b\.example)$/,
    methods: ["GET", "POST"],
    headers: ["x-one", "content-type"],
    credentials: true,
    exposed: ["x-mine"],
    maxAgeSeconds: 5,
  };

  it("every member is honoured", async () => {
    await using server = await start({}, { cors: given });
    const asked = { "access-control-request-method": "POST", "access-control-request-headers": "x-two" };
    const preflight = await server.fetch("/runs", {
      method: "OPTIONS",
      headers: { origin: "https://x.b.example", ...asked },
    });
    expect(Object.fromEntries(preflight.headers)).toMatchObject({
      "access-control-allow-origin": "https://x.b.example",
      "access-control-allow-credentials": "true",
      "access-control-allow-methods": "GET, POST",
      "access-control-allow-headers": "x-one, content-type",
      "access-control-max-age": "5",
      vary: "Origin",
    });
    const exposed = preflight.headers.get("access-control-expose-headers")?.split(", ");
    expect(exposed).toEqual(expect.arrayContaining(["x-mine", "content-location"]));
  });

  it("an origin is matched whole, and another hears nothing of credentials", async () => {
    await using server = await start({}, { cors: given });
    for (const origin of [
      "https://x.b.example.evil.com",
      "https://evil.com/https://x.b.example",
      "https://c.example",
    ]) {
      const { headers } = await server.fetch("/ok", { headers: { origin } });
      expect(headers.get("access-control-allow-origin")).toBeNull();
      expect(headers.get("access-control-allow-credentials")).toBeNull();
    }
  });

  it("the block takes the place of the environment", async () => {
    const cors = (await settingsOf({ cors: { allow_origins: ["https://a.example"] } }, { CORS_ALLOW_ORIGINS: "*" }))
      .cors;
    expect(cors).toEqual(corsFor(["https://a.example"]));
    expect((await settingsOf({})).cors).toBeNull();
  });
});

describe("chosen headers", () => {
  const choose = (includes: string[], excludes: string[], headers: Record<string, string>) =>
    headerChooser({ includes, excludes })?.(new Headers(headers));

  it("by name or wildcard; what is excluded stays out", () => {
    const headers = { "X-User-Id": "1", "x-user-secret": "2", other: "3" };
    expect(choose(["x-user-*"], ["*secret"], headers)).toEqual({ "x-user-id": "1" });
    expect(choose(["x-user-id"], ["x-user-id"], headers)).toBeUndefined();
    expect(choose(["x.user-id"], [], { "x-user-id": "1" })).toBeUndefined();
    expect(headerChooser({ includes: [], excludes: [] })).toBeUndefined();
  });

  it("what clients prove themselves by is not reached by a wildcard", () => {
    const headers = { authorization: "Bearer x", cookie: "a=b", "x-api-key": "k", "x-service-key": "s", plain: "p" };
    expect(choose(["*"], [], headers)).toEqual({ plain: "p" });
    expect(choose(["*", "authorization"], [], headers)).toEqual({ authorization: "Bearer x", plain: "p" });
  });

  const configurable = headerChooser({ includes: ["x-user"], excludes: [] });
  const post = { method: "POST", headers: { "content-type": "application/json", "x-user": "ada", "x-other": "no" } };

  it.each([
    ["runs.create", `/threads/${THREAD_ID}/runs`, { assistant_id: "a" }, 2],
    ["runs.createStateless", "/runs", { assistant_id: "a" }, 1],
    ["runs.createStateless", "/runs/wait", { assistant_id: "a" }, 1],
    ["runs.createStateless", "/runs/stream", { assistant_id: "a" }, 1],
    ["runs.createBatch", "/runs/batch", [{ assistant_id: "a" }], 1],
    ["protocol.command", `/threads/${THREAD_ID}/commands`, { id: 1, method: "run.start", params: {} }, 2],
  ])("come with what makes runs: %s by %s", async (name, path, body, at) => {
    await using server = await start({}, { configurable });
    await (await server.fetch(path, { ...post, body: JSON.stringify(body) })).text();
    expect(server.last(name)[at]).toMatchObject({ configurable: { "x-user": "ada" } });
  });

  it("for the log: with what is told of each request", async () => {
    await using server = await start({}, { logged: headerChooser({ includes: ["x-user"], excludes: [] }) });
    await server.fetch("/assistants/missing", { headers: { "X-User": "ada", authorization: "secret" } });
    await server.fetch("/ok");
    expect(server.observed).toMatchObject([{ status: 404, headers: { "x-user": "ada" } }, { status: 200 }]);
    expect(server.observed[1]).not.toHaveProperty("headers");
    expect(JSON.stringify(server.observed)).not.toContain("secret");
  });
});

describe("a prefix", () => {
  it("stands before every path but /ok", async () => {
    await using server = await start({}, { mountPrefix: "/agents" });
    const status = async (path: string) => (await server.fetch(path)).status;
    expect(await status("/agents/info")).toBe(200);
    expect(await status("/agents/docs")).toBe(200);
    expect(await status("/agents")).toBe(200);
    expect(await status("/agents/ok")).toBe(200);
    expect(await status("/ok")).toBe(200);
    expect(await status("/info")).toBe(404);
    expect(await status("/agentsinfo")).toBe(404);
    expect(await status("/")).toBe(404);
    const { servers } = (await (await server.fetch("/agents/openapi.json")).json()) as { servers: unknown };
    expect(servers).toEqual([{ url: "/agents" }]);
  });

  it("is no part of where a run is: clients add it themselves", async () => {
    await using server = await start({}, { mountPrefix: "/agents" });
    const response = await server.post(`/agents/threads/${THREAD_ID}/runs`, { assistant_id: "a" });
    expect(response.headers.get("content-location")).toBe(`/threads/${THREAD_ID}/runs/${RUN_ID}`);
  });

  it("is a part of where an agent is", async () => {
    await using server = await start({}, { mountPrefix: "/agents" });
    const card = async (path: string) => ((await (await server.fetch(path)).json()) as { url: string }).url;
    const url = `${server.url}/agents/a2a/${ASSISTANT.assistant_id}`;
    expect(await card(`/agents/a2a/${ASSISTANT.assistant_id}/.well-known/agent-card.json`)).toBe(url);
    expect(await card(`/agents/.well-known/agent-card.json?assistant_id=${ASSISTANT.assistant_id}`)).toBe(url);
  });
});

describe("a part that is disabled is not there", () => {
  const paths: Record<(typeof SWITCHES)[number], readonly (readonly [method: string, path: string])[]> = {
    assistants: [
      ["POST", "/assistants"],
      ["POST", "/assistants/search"],
      ["GET", `/assistants/${ASSISTANT.assistant_id}/schemas`],
    ],
    threads: [
      ["POST", "/threads"],
      ["GET", `/threads/${THREAD_ID}/state`],
      ["GET", `/threads/${THREAD_ID}/stream`],
      ["POST", `/threads/${THREAD_ID}/commands`],
      ["POST", `/threads/${THREAD_ID}/stream/events`],
    ],
    runs: [
      ["POST", "/runs/stream"],
      ["POST", `/threads/${THREAD_ID}/runs`],
      ["POST", "/runs/crons"],
      ["POST", `/threads/${THREAD_ID}/commands`],
      ["POST", `/threads/${THREAD_ID}/stream/events`],
    ],
    store: [["PUT", "/store/items"]],
    meta: [
      ["GET", "/info"],
      ["GET", "/metrics"],
      ["GET", "/docs"],
      ["GET", "/openapi.json"],
    ],
    ui: [["POST", "/ui/agent"]],
    mcp: [["POST", "/mcp"]],
    a2a: [["POST", "/a2a/agent"]],
  };

  it.each(SWITCHES)("%s", async (name) => {
    await using server = await start({}, { disabled: new Set([name]) });
    await using whole = await start();
    const listed = async (at: typeof server) =>
      Object.keys(((await (await at.fetch("/openapi.json")).json()) as { paths?: object }).paths ?? {});
    const documented = name === "meta" ? [] : await listed(server);
    for (const [method, path] of paths[name]) {
      const init = {
        method,
        headers: { "content-type": "application/json" },
        ...(method === "GET" ? {} : { body: "{}" }),
      };
      expect([path, (await server.fetch(path, init)).status]).toEqual([path, 404]);
      const pattern = path.replace(THREAD_ID, "{thread_id}");
      expect(documented).not.toContain(pattern);
      expect(await (await whole.fetch(path, init)).text()).not.toContain(`Not Found: ${method}`);
    }
    expect((await server.fetch("/ok")).status).toBe(200);
  });
});
