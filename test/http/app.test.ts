/** What every answer carries, the system routes, the served document, and the life of the listener. */
import { request } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { corsFor } from "../../src/config/http.ts";
import { conflict, SkeinError, unavailable } from "../../src/errors.ts";
import { createApp } from "../../src/http/app.ts";
import { listen, PortInUseError } from "../../src/http/listen.ts";
import { ASSISTANT, RUN_ID, start, THREAD_ID } from "./fake-services.ts";

const runs = `/threads/${THREAD_ID}/runs`;

describe("errors", () => {
  it("are JSON with a detail, whatever went wrong", async () => {
    await using server = await start({ create: () => Promise.reject(thrown) });
    let thrown: unknown;
    const answer = async (error: unknown) => {
      thrown = error;
      const response = await server.post(runs, { assistant_id: "a" });
      return [response.status, await response.json()];
    };
    expect(await answer(conflict("busy"))).toEqual([409, { detail: "busy" }]);
    expect(await answer(unavailable("going down"))).toEqual([503, { detail: "going down" }]);
    expect(await answer(new SkeinError("too_large", "too much"))).toEqual([413, { detail: "too much" }]);
    expect(server.logged).toEqual([]);
    expect(await answer(new TypeError("secret", { cause: "why" }))).toEqual([500, { detail: "Internal Server Error" }]);
    expect(await answer("just text")).toEqual([500, { detail: "Internal Server Error" }]);
    expect(server.logged).toMatchObject([
      { level: "error", fields: { err: { message: "secret", cause: "why" }, path: runs } },
      { level: "error", fields: { err: { message: "just text" } } },
    ]);
  });

  it("unknown routes and methods", async () => {
    await using server = await start();
    const answer = async (method: string, path: string) => {
      const response = await server.fetch(path, { method });
      return [response.status, ((await response.json()) as { detail: string }).detail, response.headers.get("allow")];
    };
    expect(await answer("GET", "/x")).toEqual([404, "Not Found: GET /x", null]);
    expect(await answer("DELETE", "/ok")).toEqual([
      405,
      "Method Not Allowed: DELETE /ok (allowed: GET, HEAD)",
      "GET, HEAD",
    ]);
    expect(await answer("PUT", runs)).toEqual([
      405,
      `Method Not Allowed: PUT ${runs} (allowed: POST, GET, HEAD)`,
      "POST, GET, HEAD",
    ]);
    const options = await server.fetch("/ok", { method: "OPTIONS" });
    expect([options.status, options.headers.get("allow")]).toEqual([204, "GET, HEAD"]);
    expect((await server.fetch("/assistants/missing")).status).toBe(404);
    expect((await server.fetch("/assistants/broken")).status).toBe(500);
    expect((await server.fetch("/ok", { method: "HEAD" })).status).toBe(200);
  });
});

describe("headers", () => {
  it("CORS for anyone by default", async () => {
    await using server = await start();
    for (const path of ["/ok", "/nowhere", `${runs}/${RUN_ID}/stream`]) {
      const response = await server.fetch(path, { headers: { origin: "https://smith.langchain.com" } });
      await response.text();
      expect(response.headers.get("access-control-allow-origin")).toBe("*");
      for (const name of ["content-location", "location", "x-pagination-total", "x-pagination-next", "x-request-id"]) {
        expect(response.headers.get("access-control-expose-headers")?.split(", ")).toContain(name);
      }
    }
  });

  it("answers preflights, also for private networks", async () => {
    await using server = await start();
    const response = await server.fetch(runs, {
      method: "OPTIONS",
      headers: {
        origin: "https://smith.langchain.com",
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,x-api-key",
        "access-control-request-private-network": "true",
      },
    });
    expect(response.status).toBe(204);
    expect(Object.fromEntries(response.headers)).toMatchObject({
      "access-control-allow-origin": "*",
      "access-control-allow-methods": expect.stringContaining("PATCH"),
      "access-control-allow-headers": "content-type,x-api-key",
      "access-control-allow-private-network": "true",
    });
  });

  it("CORS for listed origins only", async () => {
    await using server = await start({}, { cors: corsFor(["https://a.example"]) });
    const allowed = async (origin: string) =>
      (await server.fetch("/ok", { headers: { origin } })).headers.get("access-control-allow-origin");
    expect(await allowed("https://a.example")).toBe("https://a.example");
    expect(await allowed("https://b.example")).toBeNull();
  });

  it("echoes a request id, or makes one", async () => {
    await using server = await start();
    const id = async (given?: string) =>
      (await server.fetch("/ok", given === undefined ? {} : { headers: { "x-request-id": given } })).headers.get(
        "x-request-id",
      );
    expect(await id("abc-1")).toBe("abc-1");
    expect(await id()).toMatch(/^[0-9a-f-]{36}$/);
    expect(await id("a b<script>")).toMatch(/^[0-9a-f-]{36}$/);
  });

  it("pages", async () => {
    await using server = await start({ assistants: { items: [ASSISTANT], total: 25 } });
    const page = async (body: unknown) => {
      const { headers } = await server.post("/assistants/search", body);
      return [headers.get("x-pagination-total"), headers.get("x-pagination-next")];
    };
    expect(await page({})).toEqual(["25", "10"]);
    expect(await page({ offset: 20 })).toEqual(["25", null]);
    expect(await page({ offset: 5, limit: 20 })).toEqual(["25", null]);
  });

  it("tells the metrics hook about patterns, not paths", async () => {
    await using server = await start();
    await server.fetch(`${runs}/${RUN_ID}`);
    await server.fetch("/nope");
    const told = { method: "GET", ms: expect.any(Number), request_id: expect.any(String) };
    expect(server.observed).toEqual([
      { ...told, route: "/threads/{thread_id}/runs/{run_id}", path: `${runs}/${RUN_ID}`, status: 200 },
      { ...told, route: "unknown", path: "/nope", status: 404 },
    ]);
  });
});

describe("system", () => {
  it("/ok with and without the database", async () => {
    await using server = await start({ checkDatabase: () => Promise.reject(new Error("down")) });
    expect(await (await server.fetch("/ok")).json()).toEqual({ ok: true });
    expect(await (await server.fetch("/")).json()).toEqual({ ok: true });
    const down = await server.fetch("/ok?check_db=1");
    expect([down.status, await down.json()]).toEqual([500, { detail: "The database does not answer" }]);
  });

  it("/metrics and /info", async () => {
    await using server = await start();
    const text = await server.fetch("/metrics");
    expect([text.headers.get("content-type"), await text.text()]).toEqual([
      "text/plain; version=0.0.4; charset=utf-8",
      "skein_up 1\n",
    ]);
    expect(await (await server.fetch("/metrics?format=json")).json()).toEqual({ up: 1 });
    expect(await (await server.fetch("/info")).json()).toEqual({ version: "9.9.9" });
  });

  it("/openapi.json has every route, in full", async () => {
    await using server = await start();
    const document = (await (await server.fetch("/openapi.json")).json()) as OpenApi;
    expect(document).toMatchObject({ openapi: "3.1.0", info: { title: "Skein", version: "9.9.9" } });
    const app = createApp({
      services: {} as never,
      settings: { maxBodyBytes: 1, version: "", cors: corsFor([]), mode: "", disabled: new Set(), mountPrefix: "" },
      logger: console,
      observe: () => undefined,
    });
    const unlisted = ["/", "/openapi.json", "/docs", "/mcp"];
    const mounted = app.routes.filter(({ method, path }) => method !== "ALL" && !unlisted.includes(path));
    expect(mounted.length).toBe(68);
    for (const { method, path } of mounted) {
      const operation = document.paths[path.replaceAll(/:(\w+)/g, "{$1}")]?.[method.toLowerCase()];
      expect(operation, `${method} ${path}`).toBeDefined();
      const { 200: ok, 204: done, 404: missing, 405: never } = operation?.responses ?? {};
      const onlyRefuses = path === "/mcp/" && method !== "POST";
      expect(onlyRefuses ? (missing ?? never) : (ok?.content ?? done)).toBeDefined();
      const names = [...path.matchAll(/:(\w+)/g)].map((match) => match[1]);
      expect(
        operation?.parameters?.filter((parameter) => parameter.in === "path").map((parameter) => parameter.name) ?? [],
      ).toEqual(names);
    }
    const stream = document.paths["/threads/{thread_id}/runs/{run_id}/stream"]?.get;
    expect(stream?.parameters?.map((parameter) => [parameter.in, parameter.name, parameter.schema.type])).toEqual([
      ["path", "thread_id", "string"],
      ["path", "run_id", "string"],
      ["query", "stream_mode", ["string", "array"]],
      ["query", "cancel_on_disconnect", "boolean"],
      ["query", "last_event_id", "string"],
      ["header", "Last-Event-ID", "string"],
    ]);
    expect(Object.keys(document.components.schemas)).toEqual(
      expect.arrayContaining([
        "Assistant",
        "Thread",
        "Run",
        "RunCreateStateful",
        "RunCreateStateless",
        "RunBatchCreate",
        "ErrorResponse",
      ]),
    );
    // Every reference in the document leads somewhere.
    for (const [, name] of JSON.stringify(document).matchAll(/"#\/components\/schemas\/(\w+)"/g)) {
      expect(document.components.schemas).toHaveProperty(name ?? "");
    }
  });

  it("/docs needs nothing from elsewhere", async () => {
    await using server = await start();
    const page = await server.fetch("/docs");
    expect(page.headers.get("content-type")).toContain("text/html");
    const html = await page.text();
    expect(html).not.toMatch(/https?:\/\//);
    expect(html).toContain(`new URL("openapi.json", base)`);
  });
});

interface OpenApi {
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, unknown> };
}
interface Operation {
  parameters?: { in: string; name: string; schema: { type?: unknown } }[];
  responses: Record<string, { content?: unknown }>;
}

describe("listen", () => {
  it("names a port in use", async () => {
    await using server = await start();
    const again = listen({} as never, { host: "127.0.0.1", port: server.port });
    await expect(again).rejects.toThrow(PortInUseError);
    await expect(again).rejects.toMatchObject({ port: server.port });
  });

  it("lets open requests finish, and keep-alive connections do not hold it up", async () => {
    await using server = await start({ wait: () => sleep(150, `{"late":true}`) });
    const answer = server.post("/runs/wait", { assistant_id: "a" });
    await (await server.fetch("/ok")).text();
    await sleep(30);
    const started = performance.now();
    const closed = server.listening.close(5000);
    expect(await (await answer).json()).toEqual({ late: true });
    await closed;
    expect(performance.now() - started).toBeLessThan(1000);
    await expect(server.fetch("/ok")).rejects.toThrow();
  });

  it("cuts off after the grace, which is not the client leaving", async () => {
    await using server = await start({ wait: () => new Promise(() => undefined) });
    const answer = server.post("/runs/wait", { assistant_id: "a", on_disconnect: "cancel" });
    const text = expect(answer.then((response) => response.text())).rejects.toThrow();
    await sleep(50);
    await server.listening.close(20);
    await text;
    expect(server.calls.map((call) => call.name)).not.toContain("runs.cancelOnDisconnect");
  });

  it("keeps idle connections longer than proxies do", async () => {
    await using server = await start();
    const keepAlive = await new Promise<string | string[] | undefined>((resolve, reject) => {
      request({ port: server.port, path: "/ok", headers: { connection: "keep-alive" } }, (res) => {
        resolve(res.headers["keep-alive"]);
        res.destroy();
      })
        .on("error", reject)
        .end();
    });
    expect(keepAlive).toBe("timeout=75");
  });
});
