/** Watchers of a thread's events that read nothing: the server's memory stays, runs go on, and what they missed comes or is told. */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";
import { expect, onTestFinished, test } from "vitest";
import { WebSocket } from "ws";
import { http, ok } from "../support/http.ts";
import { eventually, ON_POSTGRES, project, startServer, type TestServer } from "../support/server.ts";
import { parseFrame } from "../support/sse.ts";
import { TALKER } from "./graphs.ts";
import { ended, rssOf, upTo } from "./support.ts";

const SIZE = 100_000;
const MB = 1024 * 1024;
const CHANNELS = ["custom", "lifecycle"];

interface Told {
  readonly seq: number;
  readonly method: string;
  readonly params: { readonly data: { readonly event?: string; readonly reason?: string } };
}

interface Watcher {
  /** From now on it reads. */
  wake(): void;
  readonly told: readonly Told[];
  /** The code of the close, or 0 where there is none. */
  readonly closed: Promise<number>;
}

async function say(server: TestServer, thread_id: string, input: { count: number; size: number }): Promise<void> {
  const params = { assistant_id: "talk", input };
  const command = { id: 1, method: "run.start", params };
  const { result } = await ok(http(server.url).post(`/threads/${thread_id}/commands`, command));
  expect((await ended(server, { thread_id, run_id: result.run_id, status: "" }, 60_000)).status).toBe("success");
}

async function overSse({ url }: TestServer, thread_id: string): Promise<Watcher> {
  const headers = { "content-type": "application/json" };
  const call = request(`${url}/threads/${thread_id}/stream/events`, { method: "POST", headers, agent: false });
  onTestFinished(() => void call.destroy());
  call.end(JSON.stringify({ channels: CHANNELS }));
  // Nobody listens to its data: it is not read.
  const [response] = (await once(call, "response")) as [IncomingMessage];
  const told: Told[] = [];
  let text = "";
  const read = (chunk: string): void => {
    const frames = (text + chunk.replaceAll(/x{100,}/g, "x")).split("\n\n");
    text = frames.pop() ?? "";
    for (const { data } of frames.map(parseFrame)) if (data !== undefined) told.push(JSON.parse(data));
  };
  return {
    wake: () => void response.setEncoding("utf8").on("data", read),
    told,
    closed: new Promise((resolve) => response.once("close", () => resolve(0))),
  };
}

async function overWebSocket({ url }: TestServer, thread_id: string): Promise<Watcher> {
  const socket = new WebSocket(`${url.replace("http", "ws")}/threads/${thread_id}/stream/events`);
  onTestFinished(() => socket.terminate());
  const told: Told[] = [];
  await new Promise((resolve) => socket.once("open", resolve));
  socket.send(JSON.stringify({ id: 1, method: "subscription.subscribe", params: { channels: CHANNELS } }));
  await new Promise((resolve) => socket.once("message", resolve));
  socket.pause();
  socket.on("message", (data) => told.push(JSON.parse(String(data))));
  const closed = new Promise<number>((resolve) => socket.once("close", resolve));
  return { wake: () => socket.resume(), told, closed };
}

const watchers = (server: TestServer, thread_id: string): Promise<Watcher[]> =>
  Promise.all([overSse(server, thread_id), overWebSocket(server, thread_id)]);

const isOver = ({ told }: Watcher): boolean => told.some(({ params }) => params.data.event === "completed");

// On PostgreSQL the node outruns the database by all it says, so that no bound in memory tells a client from a run without one.
test.runIf(process.platform === "linux" && !ON_POSTGRES)("100 MB of one run", async () => {
  await using talker = await project({ "talk.mjs": TALKER });
  await using server = await startServer({ project: talker, args: ["--threads", "1"] });
  const count = 1000;
  let peak = 0;
  const watch = setInterval(() => {
    peak = Math.max(peak, rssOf(server));
  }, 20);
  // Heaps grow to their working size first: that is not what is measured.
  for (const _ of upTo(3)) await say(server, randomUUID(), { count, size: SIZE });
  const before = peak;
  const thread_id = randomUUID();
  const both = await watchers(server, thread_id);
  await say(server, thread_id, { count, size: SIZE });
  clearInterval(watch);
  const grown = (peak - before) / MB;
  console.log(`deaf watchers: RSS ${(before / MB).toFixed(0)} MB + ${grown.toFixed(0)} MB`);
  // Of twice 100 MB.
  expect(grown).toBeLessThan(100);
  for (const watcher of both) {
    watcher.wake();
    await eventually(() => isOver(watcher), { ms: 20_000 });
    const seqs = watcher.told.map(({ seq }) => seq);
    expect(seqs).toEqual([...seqs].sort((a, b) => a - b));
    expect(watcher.told.map(({ method }) => method)).toEqual([
      "lifecycle",
      ...upTo(count).map(() => "custom"),
      "lifecycle",
    ]);
  }
});

// What is stored of a run takes no memory, and no reader is sent away for it: each run here is as long as fits without that.
test("runs one after the other: it is told that it was too slow, and comes again", async () => {
  await using talker = await project({ "talk.mjs": TALKER });
  await using server = await startServer({ project: talker, args: ["--threads", "1"] });
  const thread_id = randomUUID();
  const both = await watchers(server, thread_id);
  for (const _ of upTo(16)) await say(server, thread_id, { count: 10, size: 190_000 });
  const [sse, webSocket] = both.map((watcher) => {
    watcher.wake();
    return watcher.closed;
  });
  expect([await sse, await webSocket]).toEqual([0, 4408]);
  for (const { told } of both) {
    expect(told.at(-1)).toMatchObject({ method: "gap", params: { data: { reason: "slow" } } });
    expect(told.length).toBeGreaterThan(10);
  }
});
