/** Webhooks: one POST when the run ends, tried again when it fails, and never to this machine unless configured. */
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually, startServer } from "../support/server.ts";
import { type Any, Api, fixturesWith, Gate, type Place, useServer, useTempDir, WAYS } from "./support.ts";

interface Call {
  readonly path: string;
  readonly body: Any;
  readonly at: number;
  readonly contentType: string | undefined;
}

/** Somebody's endpoint. Fails as often as the path says: `/x?fail=2`. */
class Receiver {
  readonly calls: Call[] = [];
  readonly #server: Server;

  constructor() {
    this.#server = createServer(async (request, response) => {
      let text = "";
      for await (const chunk of request) text += chunk;
      const { pathname, searchParams } = new URL(request.url ?? "", "http://x");
      this.calls.push({
        path: pathname,
        body: JSON.parse(text),
        at: performance.now(),
        contentType: request.headers["content-type"],
      });
      const failing = this.to(pathname).length <= Number(searchParams.get("fail") ?? 0);
      response.writeHead(failing ? 503 : 200).end();
    });
  }

  async listen(): Promise<void> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  url(path: string): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}${path}`;
  }

  to(path: string): Call[] {
    return this.calls.filter((call) => call.path === path);
  }

  /** The calls to a path, once there are so many. */
  async wait(path: string, count = 1): Promise<Call[]> {
    return eventually(() => (this.to(path).length >= count ? this.to(path) : undefined), { ms: 15_000 });
  }
}

const receiver = new Receiver();
const temp = useTempDir();
beforeAll(() => receiver.listen());
afterAll(() => receiver.close());

const allowing = { webhooks: { url: { disable_loopback: false } } };
const plain = { assistant_id: "plain", input: { value: 1 } };

describe("where loopback is allowed", () => {
  const api = useServer(async () => ({ project: await fixturesWith(allowing) }));
  const background = (graph: string, path: string, extra = {}): Promise<Place> =>
    api.background({ assistant_id: graph, input: { value: 1 }, webhook: receiver.url(path), ...extra });

  test.each(WAYS)("one POST of a run made by $name", async (way) => {
    const path = `/way-${WAYS.indexOf(way)}`;
    await way.output(api, { ...plain, webhook: receiver.url(path) });
    const [call] = await receiver.wait(path);
    expect(call?.contentType).toBe("application/json");
    expect(call?.body).toMatchObject({ status: "success", values: { value: 4, steps: ["first", "second"] } });
  });

  test("success: the run, its times, its values", async () => {
    const { thread_id, run_id, path } = await background("plain", "/success", { metadata: { who: "me" } });
    const [call] = await receiver.wait("/success");
    const { kwargs: _, ...run } = await api.get(path);
    expect(call?.body).toMatchObject({ ...run, run_id, thread_id, status: "success", error: null });
    expect(call?.body.metadata).toMatchObject({ who: "me", graph_id: "plain" });
    for (const time of ["run_started_at", "run_ended_at", "webhook_sent_at", "created_at", "updated_at"]) {
      expect([time, new Date(call?.body[time]).toISOString()]).toEqual([time, call?.body[time]]);
    }
  });

  test("error: name and message", async () => {
    await background("error", "/error");
    const [call] = await receiver.wait("/error");
    expect(call?.body).toMatchObject({
      status: "error",
      error: { error: "TypeError", message: "kaboom" },
      values: { value: "before the error" },
    });
  });

  test("interrupted: by the graph, and by a cancel", async () => {
    await background("hitl", "/asks");
    expect((await receiver.wait("/asks"))[0]?.body).toMatchObject({ status: "interrupted", error: null });
    const gate = new Gate(temp.dir, "webhook");
    const { path } = await background("slow", "/cancelled", { input: gate.input });
    await eventually(() => gate.log.includes("start 1"));
    await api.http.post(`${path}/cancel?wait=1`);
    expect((await receiver.wait("/cancelled"))[0]?.body).toMatchObject({ status: "interrupted" });
    const pending = await background("plain", "/never-started", { after_seconds: 600 });
    await api.http.post(`${pending.path}/cancel`);
    expect((await receiver.wait("/never-started"))[0]?.body).toMatchObject({ status: "interrupted" });
  });

  test("messages are plain objects with a type", async () => {
    await background("chat", "/chat", { input: { messages: [{ role: "user", content: "hi" }] } });
    const [call] = await receiver.wait("/chat");
    expect(call?.body.values.messages.map(({ type }: Any) => type)).toEqual(["human", "ai"]);
    expect(JSON.stringify(call?.body)).not.toContain('"lc"');
  });

  test("a failing receiver is called again, later and later, until it takes it; then no more", async () => {
    await background("plain", "/flaky?fail=2");
    const calls = await receiver.wait("/flaky", 3);
    const [first = 0, second = 0, third = 0] = calls.map(({ at }) => at);
    expect(second - first).toBeGreaterThan(500);
    expect(third - second).toBeGreaterThan(1.5 * (second - first));
    const { webhook_sent_at: _a, ...one } = calls[0]?.body ?? {};
    const { webhook_sent_at: _b, ...two } = calls[2]?.body ?? {};
    expect(two).toEqual(one);
    expect(receiver.calls.filter(({ path }) => path !== "/flaky").map(({ path }) => path)).toEqual([
      ...new Set(receiver.calls.filter(({ path }) => path !== "/flaky").map(({ path }) => path)),
    ]);
  });

  test("a slow receiver does not hold up the run", async () => {
    expect(await api.wait({ ...plain, webhook: receiver.url("/unhurried?fail=1") })).toMatchObject({ value: 4 });
    expect(receiver.to("/unhurried").length).toBeLessThan(2);
  });
});

test("a webhook that could not be delivered is delivered after a crash", async () => {
  await using project = await fixturesWith(allowing);
  await using server = await startServer({ project });
  const api = new Api(server);
  await api.wait({ ...plain, webhook: receiver.url("/later?fail=1") });
  await receiver.wait("/later", 1);
  await server.restart("SIGKILL");
  const [, call] = await receiver.wait("/later", 2);
  expect(call?.body).toMatchObject({ status: "success", values: { value: 4 } });
});

describe("where nothing is configured", () => {
  const api = useServer();

  test.each([
    "http://127.0.0.1:9/x",
    "http://localhost/x",
    "http://x.localhost/x",
    "http://[::1]/x",
    "http://[::ffff:127.0.0.1]/x",
    "http://0.0.0.0/x",
    "http://2130706433/x",
    "http://0x7f.1/x",
    "http://10.0.0.1/x",
    "http://192.168.1.1/x",
    "http://169.254.169.254/latest/meta-data",
    "http://[fd00::1]/x",
    "/relative",
    "ftp://example.com/x",
    "file:///etc/passwd",
    "nonsense:",
  ])("%s is refused before there is a run", async (webhook) => {
    for (const way of WAYS) {
      const path = await way.path(api);
      const { status, body } = await api.http.post(path, way.wrap({ ...plain, webhook }));
      expect([path, status]).toEqual([path, 422]);
      expect(body.detail).toContain("webhook");
      const [, thread_id] = /^\/threads\/([^/]+)/.exec(path) ?? [];
      if (thread_id !== undefined) expect(await api.get(`/threads/${thread_id}/runs`)).toEqual([]);
    }
  });
});
