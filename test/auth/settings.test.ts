/** What `auth` in langgraph.json may say, what it does, and what is refused at start. */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { authenticator, userOf } from "../../src/auth/authenticate.ts";
import { authoriser } from "../../src/auth/authorise.ts";
import { handlerOf, keysOf, uncovered } from "../../src/auth/handlers.ts";
import { loadAuth } from "../../src/auth/load.ts";
import { loadProject } from "../../src/config.ts";
import { identifier } from "../../src/http/authenticate.ts";
import { withAuth } from "../../src/http/with-auth.ts";
import type { Any } from "../runs/support.ts";
import { http } from "../support/http.ts";
import { project, startServer } from "../support/server.ts";

const SDK = 'import { Auth, HTTPException } from "@langchain/langgraph-sdk/auth";';
const graph = `import { Annotation, StateGraph } from "@langchain/langgraph";
export const graph = new StateGraph(Annotation.Root({ a: Annotation() })).addNode("n", () => ({})).addEdge("__start__", "n").compile();`;
const logged: string[] = [];
const logger = {
  warn: (_: object, message: string) => logged.push(message),
  error: (_: object, message: string) => logged.push(message),
};
const user = userOf("me");

describe("the file", () => {
  const load = async (code: string, name = "auth") => {
    await using dir = await project({ "sub/auth.ts": code }, { graphs: {} });
    return await loadAuth({ file: join(dir.dir, "sub/auth.ts"), export_name: name }, dir.dir);
  };

  test("handlers in TypeScript, under all kinds of keys", async () => {
    const { callbacks } = await load(
      `${SDK} const user: string = "x"; export const auth = new Auth().authenticate(() => user)
        .on(["threads", "*:create"], () => true).on("store:put", () => true).on("*", () => false);`,
    );
    expect([...callbacks.keys()]).toEqual(["threads", "*:create", "store:put", "*"]);
  });

  test.each([
    ["is no Auth", "export const auth = { authenticate: () => 1 };", "auth"],
    ["is no Auth", "export const auth = null;", "auth"],
    ["authenticates nobody", `${SDK} export const auth = new Auth();`, "auth"],
    [
      'on "thread:create", which is nothing',
      `${SDK} export const auth = new Auth().authenticate(() => "a").on("thread:create", () => true);`,
      "auth",
    ],
    [
      'on "threads:put", which is nothing',
      `${SDK} export const auth = new Auth().authenticate(() => "a").on("threads:put", () => true);`,
      "auth",
    ],
    [
      'what it has on "threads" is no function',
      `${SDK} export const auth = new Auth().authenticate(() => "a").on("threads", true as never);`,
      "auth",
    ],
    ['has no export "other". It exports: auth', "export const auth = 1;", "other"],
    ["does not load: Error: boom", 'throw new Error("boom");', "auth"],
  ])("%s", async (why, code, name) => {
    await expect(load(code, name)).rejects.toThrow(why);
  });
});

test.each<[string, unknown]>([
  ["auth.path", {}],
  ["auth.path: .*does not exist", { path: "./none.ts" }],
  ["auth: .*disable_studio", { path: "./a.mjs", disable_studio: true }],
  ["auth.disable_studio_auth", { path: "./a.mjs", disable_studio_auth: "yes" }],
  ["auth.cache.cache_keys", { path: "./a.mjs", cache: {} }],
  ["auth.cache.cache_keys.0", { path: "./a.mjs", cache: { cache_keys: ["a b"] } }],
  ["auth.cache.ttl_seconds", { path: "./a.mjs", cache: { cache_keys: ["a"], ttl_seconds: 0 } }],
  ["auth.openapi.security", { path: "./a.mjs", openapi: { security: {} } }],
  ["auth.openapi.paths", { path: "./a.mjs", openapi: { paths: { threads: {} } } }],
])("%s is refused at start", async (why, auth) => {
  await using dir = await project({ "a.mjs": "" }, { graphs: {}, auth });
  expect(() => loadProject(dir.dir, {})).toThrow(new RegExp(why));
});

describe("a user", () => {
  test.each<[unknown, object]>([
    ["me", { identity: "me", display_name: "me", is_authenticated: true, permissions: [] }],
    [
      { identity: "me", display_name: "Me", role: 7 },
      { identity: "me", display_name: "Me", role: 7, is_authenticated: true, permissions: [] },
    ],
  ])("%j", (given, user) => expect(userOf(given)).toEqual(user));

  test.each([
    undefined,
    null,
    "",
    7,
    {},
    { identity: 7 },
    { identity: "a", permissions: "all" },
    { identity: "a", is_authenticated: false },
  ])("%j is none", async (given) => {
    const ask = authenticator({ authenticate: () => given, callbacks: new Map() }, logger, null);
    await expect(ask(new Request("http://x"))).rejects.toMatchObject({ status: 401, message: "Unauthorized" });
  });
});

describe("handlers", () => {
  const ask = (said: unknown, change: (value: Any) => void = () => undefined) => {
    const handler = ({ value }: Any): unknown => {
      change(value);
      return said;
    };
    return authoriser({ authenticate: () => "", callbacks: new Map([["*", handler]]) }, user, logger);
  };

  test("the most specific is asked, and no other", () => {
    expect(keysOf("threads:create_run")).toEqual(["threads:create_run", "threads", "*:create_run", "*"]);
    const callbacks = new Map(keysOf("threads:create").map((key) => [key, () => key]));
    for (const key of keysOf("threads:create")) {
      expect(handlerOf(callbacks, "threads:create")?.({} as never)).toBe(key);
      callbacks.delete(key);
    }
    expect(handlerOf(callbacks, "threads:create")).toBeUndefined();
  });

  test("what none covers is named, unless there are none at all or one for all", () => {
    expect(uncovered(new Map())).toEqual([]);
    expect(uncovered(new Map([["*", () => true]]))).toEqual([]);
    const some = new Map(
      ["threads", "assistants", "*:search", "store:put", "store:get"].map((key) => [key, () => true]),
    );
    expect(uncovered(some)).toEqual([
      "crons:create",
      "crons:read",
      "crons:update",
      "crons:delete",
      "store:list_namespaces",
      "store:delete",
    ]);
  });

  test.each<[unknown, unknown]>([
    [undefined, null],
    [null, null],
    [true, null],
    [{}, null],
    [{ a: 1 }, { kind: "equals", key: "a", value: 1 }],
  ])("%j allows", async (said, filter) => {
    expect(await ask(said)("threads:read", { fixed: {} })).toMatchObject({ filter });
  });

  test.each<[string, unknown, RegExp]>([
    ["threads:read", false, /^Forbidden$/],
    ["threads:read", "yes", /returned a string/],
    ["threads:read", 1, /returned a number/],
    ["threads:read", [], /returned a list/],
    ["threads:read", { a: undefined }, /a is undefined/],
    ["store:get", { a: 1 }, /items have no metadata/],
  ])("%s: %j does not", async (event, said, why) => {
    await expect(ask(said)(event as never, { fixed: {} })).rejects.toThrow(why);
  });

  test("what they may not change they cannot, and are told so in the log", async () => {
    const changing = ask(true, (value) => {
      value.thread_id = "other";
    });
    await expect(changing("threads:read", { fixed: { thread_id: "a" } })).rejects.toMatchObject({ status: 403 });
    expect(logged.at(-1)).toContain("threw something else than an HTTPException");
  });
});

describe("cache", () => {
  const times = (count: { asked: number }) => ({
    authenticate: (request: Request) => {
      count.asked += 1;
      const token = request.headers.get("authorization");
      if (token === "bad") throw Object.assign(new Error("no"), { status: 401 });
      return token ?? "nobody";
    },
    callbacks: new Map(),
  });
  const request = (authorization?: string) =>
    new Request("http://x", { headers: authorization === undefined ? {} : { authorization } });

  test("asks once for the same headers, as long as it remembers; never what was refused, nor who shows nothing", async () => {
    const count = { asked: 0 };
    const ask = authenticator(times(count), logger, { headers: ["authorization"], ttlMs: 60_000, maxSize: 2 });
    expect([await ask(request("a")), await ask(request("a"))].map(({ identity }) => identity)).toEqual(["a", "a"]);
    expect(count.asked).toBe(1);
    await ask(request("b"));
    await ask(request("c"));
    await ask(request("a"));
    expect(count.asked).toBe(4);
    for (const _ of [1, 2]) await expect(ask(request("bad"))).rejects.toMatchObject({ status: 401 });
    for (const _ of [1, 2]) await ask(request());
    expect(count.asked).toBe(8);
  });

  test("forgets", async () => {
    const count = { asked: 0 };
    const ask = authenticator(times(count), logger, { headers: ["authorization"], ttlMs: 0, maxSize: 2 });
    await ask(request("a"));
    await ask(request("a"));
    expect(count.asked).toBe(2);
  });
});

test("LangGraph Studio comes in on this machine only, and where it may; the server's own key everywhere", async () => {
  const authenticate = async () => user;
  const studio = new Request("http://x", { headers: { "x-auth-scheme": "langsmith" } });
  const key = (value: string) => new Request("http://x", { headers: { "x-skein-server-key": value } });
  const open = identifier({ authenticate, serverKey: "k", studio: true });
  expect(await open(studio, "127.0.0.1")).toMatchObject({ kind: "StudioUser", identity: "langgraph-studio-user" });
  expect(await open(studio, "::ffff:127.0.0.1")).toMatchObject({ kind: "StudioUser" });
  expect(await open(studio, "10.0.0.7")).toBe(user);
  expect(await open(studio, undefined)).toBe(user);
  expect(await identifier({ authenticate, serverKey: "k", studio: false })(studio, "127.0.0.1")).toBe(user);
  expect(await open(key("k"), "10.0.0.7")).toBeNull();
  expect(await open(key("kk"), "127.0.0.1")).toBe(user);
  expect(await open(key(""), "127.0.0.1")).toBe(user);
});

test("the document gets schemes, security and paths; what is public needs nothing", () => {
  const document = {
    paths: { "/ok": { get: { tags: ["a"] } }, "/threads": { post: { tags: ["b"], responses: { 200: {} } } } },
    components: { schemas: { A: {} } },
  };
  const auth = {
    securitySchemes: { key: { type: "apiKey" } },
    security: [{ key: [] }],
    paths: { "/threads": { post: { security: [] } }, "/mine": { get: {} } },
  };
  expect(withAuth(document, auth)).toEqual({
    security: [{ key: [] }],
    components: { schemas: { A: {} }, securitySchemes: { key: { type: "apiKey" } } },
    paths: {
      "/ok": { get: { tags: ["a"], security: [] } },
      "/threads": {
        post: { tags: ["b"], security: [], responses: { 200: {}, 401: expect.anything(), 403: expect.anything() } },
      },
      "/mine": { get: {} },
    },
  });
});

test("a server in dev: Studio's user, variables of the project, the warning, the document", async () => {
  const code = `${SDK}
    const wanted = process.env.TOKEN;
    export default new Auth()
      .authenticate((request) => {
        if (request.headers.get("authorization") !== wanted) throw new HTTPException(401);
        return { identity: "me", token: wanted };
      })
      .on("threads", ({ user }) => user.kind === "StudioUser" || user.token === wanted);`;
  const auth = { path: "./auth/a.mjs", openapi: { security: [{ key: [] }] } };
  await using dir = await project({ "g.mjs": graph, "auth/a.mjs": code }, { env: { TOKEN: "t0ken" }, auth });
  await using server = await startServer({ project: dir, command: "dev", env: { LOG_LEVEL: "info" } });
  const { get, post } = http(server.url);
  expect((await post("/threads", {})).status).toBe(401);
  expect((await post("/threads", {}, { headers: { authorization: "t0ken" } })).status).toBe(200);
  expect((await post("/threads", {}, { headers: { "x-auth-scheme": "langsmith" } })).status).toBe(200);
  expect(server.output).toMatch(/no handler for assistants:create, .*store:delete.*auth\.on\("\*", \(\) => false\)/);
  const { body } = await get("/openapi.json");
  expect([body.security, body.paths["/ok"].get.security]).toEqual([[{ key: [] }], []]);
});

test("a server in production takes nobody for Studio", async () => {
  const code = `${SDK} export const auth = new Auth().authenticate(() => { throw new HTTPException(401, { message: "no" }); });`;
  await using dir = await project({ "g.mjs": graph, "auth/a.mjs": code }, { auth: { path: "./auth/a.mjs:auth" } });
  await using server = await startServer({ project: dir });
  const headers = { "x-auth-scheme": "langsmith" };
  expect((await http(server.url).post("/threads", {}, { headers })).body).toEqual({ detail: "no" });
  expect(server.output).not.toContain("no handler for");
});

test("a server whose auth does not load does not start", async () => {
  await using dir = await project(
    { "g.mjs": graph, "auth/a.mjs": "export const auth = 1;" },
    { auth: { path: "./auth/a.mjs:auth" } },
  );
  await expect(startServer({ project: dir })).rejects.toThrow(
    /skein: auth\.path: export "auth" of .*a\.mjs is no Auth/,
  );
});

test("under a prefix, beside routes of the project's own that need a user too, a graph reaches its server", async () => {
  const code = `${SDK} export const auth = new Auth().authenticate((request) => {
    const name = request.headers.get("x-user");
    if (name === null) throw new HTTPException(401, { message: "no" });
    return name;
  });`;
  const app = `export default { fetch: (request) =>
    new URL(request.url).pathname.endsWith("/mine") ? new Response("mine") : new Response("", { status: 404 }) };`;
  const asking = `import { Client } from "@langchain/langgraph-sdk";
    import { Annotation, StateGraph } from "@langchain/langgraph";
    export const graph = new StateGraph(Annotation.Root({ a: Annotation() }))
      .addNode("n", async () => ({ a: (await new Client().threads.search()).length })).addEdge("__start__", "n").compile();`;
  const http_ = { app: "./app/a.mjs", mount_prefix: "/agents", enable_custom_route_auth: true };
  await using dir = await project(
    { "g.mjs": asking, "auth/a.mjs": code, "app/a.mjs": app },
    { auth: { path: "./auth/a.mjs:auth" }, http: http_ },
  );
  await using server = await startServer({ project: dir });
  const base = new URL(server.url).origin;
  const headers = { "x-user": "me" };
  const { get, post } = http(base);
  const statuses = async (path: string) => [(await get(path)).status, (await get(path, { headers })).status];
  expect(await statuses("/agents/ok")).toEqual([200, 200]);
  expect(await statuses("/agents/info")).toEqual([200, 200]);
  expect(await statuses("/agents/mine")).toEqual([401, 200]);
  expect(await statuses("/agents/assistants/g")).toEqual([401, 200]);
  const body = { assistant_id: "g", input: {} };
  expect((await post("/agents/runs/wait", body)).status).toBe(401);
  expect((await post("/agents/runs/wait", body, { headers })).body).toEqual({ a: 0 });
});
