/** The project's own app before our routes: what it answers, what passes it, and who is asked who they are. */
import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";
import { join } from "node:path";
import { Hono, type MiddlewareHandler } from "hono";
import { bodyLimit } from "hono/body-limit";
import { cors } from "hono/cors";
import { HTTPException } from "hono/http-exception";
import { describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import type { AppSettings } from "../../src/config/http.ts";
import { Denied } from "../../src/errors.ts";
import { type CustomApp, loadApp } from "../../src/http/custom-app.ts";
import type { HttpSettings } from "../../src/http/types.ts";
import { project } from "../support/project.ts";
import { eventually } from "../support/server.ts";
import { doors, type Harness, RUN_ID, type Script, start, THREAD_ID } from "./fake-services.ts";

const runs = `/threads/${THREAD_ID}/runs`;
const EVENTS = [[{ event: "values", data: '{"a":1}', id: 0 }], [{ event: "values", data: '{"a":2}', id: 1 }]];

/** Modules of a project get at what a test made. */
const given = globalThis as unknown as { app?: unknown };

async function adapted(app: unknown): Promise<CustomApp> {
  given.app = app;
  await using made = await project({ "app.mjs": "export const app = globalThis.app;" }, { graphs: {} });
  return await loadApp(placeIn(made.dir), made.dir);
}

const placeIn = (dir: string, export_name = "app"): AppSettings => ({
  file: join(dir, "app.mjs"),
  export_name,
  path: `./app.mjs:${export_name}`,
  order: "middleware_first",
  authenticated: false,
});

const customOf = async (app: unknown, order: AppSettings["order"] = "middleware_first", authenticated = false) => ({
  app: await adapted(app),
  order,
  authenticated,
});

const errors = (_: string, value: unknown): unknown => (value instanceof Error ? value.message : value);

interface With {
  readonly order?: AppSettings["order"];
  readonly authenticated?: boolean;
  readonly authenticate?: MiddlewareHandler;
  readonly script?: Partial<Script>;
  readonly settings?: Partial<HttpSettings>;
}

async function startWith(
  app: unknown,
  { order = "middleware_first", authenticated = false, authenticate, script, settings }: With = {},
): Promise<Harness> {
  const custom = await customOf(app, order, authenticated);
  return start(script, settings, { custom, ...(authenticate === undefined ? {} : { authenticate }) });
}

describe("a Hono app", () => {
  it("its routes come before ours, ours are there where it has none", async () => {
    const app = new Hono();
    app.get("/info", (c) => c.text("mine"));
    app.post("/echo", async (c) => c.json(await c.req.json()));
    await using server = await startWith(app);
    expect(await (await server.fetch("/info")).text()).toBe("mine");
    expect(await (await server.post("/echo", { a: 1 })).json()).toEqual({ a: 1 });
    expect((await server.fetch("/info", { method: "HEAD" })).status).toBe(200);
    expect((await server.fetch("/ok")).status).toBe(200);
    const missing = await server.fetch("/nowhere");
    expect([missing.status, await missing.json()]).toEqual([404, { detail: "Not Found: GET /nowhere" }]);
    expect((await server.fetch("/echo")).status).toBe(404);
    expect((await server.fetch(runs, { method: "PUT" })).status).toBe(405);
  });

  it("its middleware sees the answers of both, streams too, and may change them; the bytes stay the same", async () => {
    const app = new Hono();
    const seen: unknown[] = [];
    app.use(async (c, next) => {
      await next();
      seen.push([c.req.path, c.res.status]);
      c.header("x-mine", "yes");
      c.res.headers.delete("location");
    });
    const script: Partial<Script> = {
      async *events() {
        yield* EVENTS;
      },
    };
    await using server = await startWith(app, { script });
    await using plain = await start(script);
    const body = { assistant_id: "a" };
    const [wrapped, bare] = await Promise.all([
      server.post(`${runs}/stream`, body),
      plain.post(`${runs}/stream`, body),
    ]);
    expect(await wrapped.text()).toBe(await bare.text());
    expect(wrapped.headers.get("x-mine")).toBe("yes");
    expect(wrapped.headers.get("location")).toBeNull();
    for (const name of ["content-type", "content-location", "x-accel-buffering", "access-control-allow-origin"]) {
      expect([name, wrapped.headers.get(name)]).toEqual([name, bare.headers.get(name)]);
    }
    expect(wrapped.headers.get("x-request-id")).not.toBeNull();
    expect((await server.fetch("/nowhere")).headers.get("x-mine")).toBe("yes");
    expect(seen).toEqual([
      [`${runs}/stream`, 200],
      ["/nowhere", 404],
    ]);
  });

  it("its middleware may answer itself, before a run is made", async () => {
    const app = new Hono();
    app.use("/threads/*", async (c, next) => (c.req.header("x-pass") === "yes" ? next() : c.text("no", 403)));
    await using server = await startWith(app);
    expect((await server.post(runs, { assistant_id: "a" })).status).toBe(403);
    expect(server.calls).toEqual([]);
    const headers = { "content-type": "application/json", "x-pass": "yes" };
    expect((await server.post(runs, { assistant_id: "a" }, headers)).status).toBe(200);
  });

  it("its middleware may read a body that is ours", async () => {
    const app = new Hono();
    const read: unknown[] = [];
    app.use(bodyLimit({ maxSize: 200 }));
    app.use(async (c, next) => {
      if (c.req.method === "POST") read.push(await c.req.json());
      await next();
    });
    for (const mountPrefix of ["", "/agents"]) {
      await using server = await startWith(app, { settings: { mountPrefix } });
      const body = { assistant_id: "a", input: { text: "ä" } };
      expect((await server.post(`${mountPrefix}${runs}`, body)).status).toBe(200);
      expect(server.last("runs.create")[1]).toMatchObject(body);
      const large = await server.post(`${mountPrefix}${runs}`, { ...body, input: "x".repeat(300) });
      expect(large.status).toBe(413);
    }
    expect(read).toHaveLength(2);
  });

  it("its middleware that takes a body away is told of", async () => {
    const app = new Hono();
    app.use(async (c, next) => {
      await c.req.raw.text();
      await next();
    });
    await using server = await startWith(app);
    expect((await server.post(runs, { assistant_id: "a" })).status).toBe(500);
    expect(JSON.stringify(server.logged[0]?.fields, errors)).toContain("http.app (./app.mjs:app) threw");
  });

  it("its answers may come from elsewhere", async () => {
    await using other = await start();
    const app = new Hono();
    app.get("/proxied", () => fetch(`${other.url}/ok`));
    await using server = await startWith(app);
    const response = await server.fetch("/proxied");
    expect([response.status, await response.json()]).toEqual([200, { ok: true }]);
  });

  it("stands before WebSockets, too", async () => {
    const app = new Hono();
    app.use("/threads/*", async (c, next) => (c.req.header("x-pass") === "yes" ? next() : c.text("no", 401)));
    const { doors: inside } = doors({}, { mountPrefix: "/agents" }, { custom: await customOf(app) });
    const { url } = await inside.listen({ host: "127.0.0.1", port: 0 });
    const at = `${url.replace("http", "ws")}/threads/${THREAD_ID}/stream/events`;
    const refused = new WebSocket(at);
    expect((await once(refused, "close"))[0]).toBe(4401);
    const let_in = new WebSocket(at, { headers: { "x-pass": "yes" } });
    await once(let_in, "open");
    await eventually(() => inside.sockets === 1);
    await inside.close(0);
  });

  it.each([
    ["middleware_first", ["the app", "ada"]],
    ["auth_first", [null]],
  ] as const)(
    "%s: a WebSocket's sender is asked for in the app's order, as the app hands it on",
    async (order, expected) => {
      const seen: (string | null)[] = [];
      const app = new Hono().use(async (c, next) => {
        seen.push("the app");
        c.req.raw = new Request(c.req.raw, { headers: { "x-user": "ada" } });
        await next();
      });
      const protocolFor = async ({ headers }: Request): Promise<never> => {
        seen.push(headers.get("x-user"));
        throw new Denied(403, "no");
      };
      const { doors: inside } = doors({}, {}, { custom: await customOf(app, order), protocolFor });
      const { url } = await inside.listen({ host: "127.0.0.1", port: 0 });
      const socket = new WebSocket(`${url.replace("http", "ws")}/threads/${THREAD_ID}/stream/events`);
      expect((await once(socket, "close"))[0]).toBe(4403);
      expect(seen).toEqual(expected);
      await inside.close(0);
    },
  );

  it("headers that it sets win over ours", async () => {
    const app = new Hono();
    app.use("/mine", cors({ origin: "https://a.example" }));
    app.get("/mine", (c) => c.text("x"));
    await using server = await startWith(app);
    const { headers } = await server.fetch("/mine", { headers: { origin: "https://a.example" } });
    expect(headers.get("access-control-allow-origin")).toBe("https://a.example");
  });

  it("what it throws is a logged 500 of that request, by name; what it says itself is said", async () => {
    const app = new Hono();
    app.get("/boom", () => {
      throw new TypeError("broken");
    });
    app.get("/late", async (c, next) => {
      await next();
      throw new Error(`after ${c.res.status}`);
    });
    app.get("/text", () => Promise.reject("just text"));
    app.get("/teapot", () => {
      throw new HTTPException(418, { message: "short and stout" });
    });
    await using server = await startWith(app);
    for (const path of ["/boom", "/late", "/text"]) {
      const response = await server.fetch(path);
      expect([response.status, await response.json()]).toEqual([500, { detail: "Internal Server Error" }]);
    }
    expect(server.logged.map(({ fields }) => (fields as { err: Error }).err.message)).toEqual([
      "http.app (./app.mjs:app) threw: broken",
      "http.app (./app.mjs:app) threw: after 404",
      "http.app (./app.mjs:app) threw: just text",
    ]);
    const teapot = await server.fetch("/teapot");
    expect([teapot.status, await teapot.text()]).toEqual([418, "short and stout"]);
    expect((await server.fetch("/ok")).status).toBe(200);
  });

  it("has the last word on its errors where it has said what they look like", async () => {
    const app = new Hono();
    app.onError((error, c) => c.text(`mine: ${error.message}`, 502));
    app.get("/boom", () => {
      throw new Error("broken");
    });
    await using server = await startWith(app);
    const response = await server.fetch("/boom");
    expect([response.status, await response.text()]).toEqual([502, "mine: broken"]);
  });

  it("knows nothing of a prefix, and leaves what it does not know to ours, with its body", async () => {
    const app = new Hono();
    app.get("/mine", (c) => c.text(new URL(c.req.url).pathname));
    app.use(async (_, next) => next());
    await using server = await startWith(app, { settings: { mountPrefix: "/agents" } });
    expect(await (await server.fetch("/agents/mine")).text()).toBe("/mine");
    expect((await server.fetch("/mine")).status).toBe(404);
    const made = await server.post(`/agents${runs}`, { assistant_id: "a" });
    expect([made.status, made.headers.get("content-location")]).toEqual([200, `${runs}/${RUN_ID}`]);
  });
});

describe("anything with a fetch", () => {
  it("what it answers with 404 unread, or not at all, is ours", async () => {
    const asked: string[] = [];
    await using server = await startWith({
      async fetch(request: Request) {
        const { pathname } = new URL(request.url);
        asked.push(pathname);
        if (pathname === "/mine") return new Response("mine");
        if (pathname === "/read") return new Response(`nobody knows ${await request.text()}`, { status: 404 });
        return pathname === "/ok" ? undefined : new Response("?", { status: 404 });
      },
    });
    expect(await (await server.fetch("/mine")).text()).toBe("mine");
    expect(await (await server.fetch("/ok")).json()).toEqual({ ok: true });
    expect(await (await server.post("/read", { a: 1 })).text()).toBe('nobody knows {"a":1}');
    const made = await server.post(`${runs}/stream`, { assistant_id: "a" });
    expect([made.status, made.headers.get("content-type")]).toEqual([200, "text/event-stream"]);
    await made.text();
    expect(asked).toEqual(["/mine", "/ok", "/read", `${runs}/stream`]);
  });

  it("what is no response is told by name", async () => {
    await using server = await startWith({ fetch: () => "text" });
    expect((await server.fetch("/ok")).status).toBe(500);
    expect(server.logged).toMatchObject([
      { fields: { err: { message: "http.app (./app.mjs:app) answered with something that is no Response" } } },
    ]);
  });
});

describe("who is asked who they are", () => {
  const app = (seen: string[]) => {
    const made = new Hono();
    made.use(async (c, next) => {
      seen.push(c.req.path);
      await next();
    });
    made.get("/mine", (c) => c.text("mine"));
    made.get("/info", (c) => c.text("mine"));
    return made;
  };
  const theirs = `/threads/${THREAD_ID}`;
  const authenticate: MiddlewareHandler = async (c, next) =>
    c.req.header("authorization") === "Bearer ada" ? next() : c.json({ detail: "who?" }, 401);
  const cases: readonly (readonly [string, With, own: number, seen: readonly string[]])[] = [
    ["middleware first: the app sees everybody", { order: "middleware_first" }, 200, ["/mine", theirs]],
    ["auth first: the app sees who is known on our routes", { order: "auth_first" }, 200, ["/mine"]],
    ["custom routes, too", { order: "auth_first", authenticated: true }, 401, []],
  ];

  it.each(cases)("%s", async (_, options, own, expected) => {
    const seen: string[] = [];
    await using server = await startWith(app(seen), { ...options, authenticate });
    expect((await server.fetch("/mine")).status).toBe(own);
    expect((await server.fetch(theirs)).status).toBe(401);
    expect(seen).toEqual(expected);
    const known = { headers: { authorization: "Bearer ada" } };
    expect((await server.fetch("/mine", known)).status).toBe(200);
    expect((await server.fetch(theirs, known)).status).toBe(200);
    // On a public path, too, a route of the app is the app's.
    expect((await server.fetch("/info")).status).toBe(own);
    expect(await (await server.fetch("/info", known)).text()).toBe("mine");
    expect((await server.fetch("/ok")).status).toBe(200);
  });

  it("without an app, everybody", async () => {
    await using server = await start({}, {}, { authenticate });
    expect((await server.fetch(theirs)).status).toBe(401);
    expect((await server.fetch(theirs, { headers: { authorization: "Bearer ada" } })).status).toBe(200);
    expect((await server.fetch("/info")).status).toBe(200);
  });

  it("a path that is escaped, and a host in the path that the app reads, pass no guard by", async () => {
    const guard = (request: Request) =>
      new URL(request.url).pathname === theirs ? new Response("no", { status: 403 }) : undefined;
    const byHost = new Hono({
      getPath: (request) => `/${request.headers.get("host")}${new URL(request.url).pathname}`,
    });
    byHost.use("*", async (c) => c.text("no", 403));
    for (const [app, mountPrefix] of [
      [{ fetch: guard }, ""],
      [{ fetch: guard }, "/p"],
      [byHost, "/p"],
    ] as const) {
      await using server = await startWith(app, { settings: { mountPrefix } });
      expect((await server.fetch(`${mountPrefix}${theirs.replace("/t", "/%74")}`)).status).toBe(403);
      expect((await server.fetch(`${mountPrefix}${theirs}?q=%20`)).status).toBe(403);
      expect((await server.fetch(`${mountPrefix}/ok?q=%20`)).status).toBe(app === byHost ? 403 : 200);
    }
  });

  it("TRACE, which no web request can say, is no error of the server", async () => {
    await using server = await startWith(
      new Hono().use(async (_, next) => next()),
      { settings: { mountPrefix: "/p" } },
    );
    const { port } = server.listening;
    const [answer] = (await once(request({ port, method: "TRACE", path: `/p${theirs}` }).end(), "response")) as [
      IncomingMessage,
    ];
    answer.resume();
    expect(answer.statusCode).toBe(405);
  });
});

describe("an app that cannot be served is refused by name", () => {
  it.each([
    ["export const other = 1;", "app", 'has no export "app". It exports: other.'],
    ["export const app = { routes: [] };", "app", "is no Hono app and nothing else with a function fetch"],
    ["throw new Error('at once');", "app", "does not load: at once"],
    [
      "export const app = { fetch() {} }; export const lifespan = 1;",
      "app",
      "the export lifespan beside ./app.mjs:app",
    ],
    ["export const app = { fetch() {} }; export const lifespan = { begin() {} };", "app", "must have a function start"],
  ])("%s", async (text, name, why) => {
    await using made = await project({ "app.mjs": text }, { graphs: {} });
    await expect(loadApp(placeIn(made.dir, name), made.dir)).rejects.toThrow(why);
    await expect(loadApp(placeIn(made.dir, name), made.dir)).rejects.toThrow("http.app");
  });
});
