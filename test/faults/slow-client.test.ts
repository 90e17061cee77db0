/** A client that never reads its stream: the server's memory stays, the run is not slowed, others flow. */
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { http } from "../support/http.ts";
import { eventually, project, startServer, type TempDir, type TestServer } from "../support/server.ts";
import { openSse, parseFrame } from "../support/sse.ts";
import { TALKER } from "./graphs.ts";
import { ended, idsOf, linesOf, newThread, startRun, upTo } from "./support.ts";

const COUNT = 2000;
const SIZE = 100_000;
const SLEEPER_COUNT = 400;
const MB = 1024 * 1024;

const rssOf = ({ pid }: TestServer): number => {
  const [, kb] = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  return Number(kb) * 1024;
};

/** Asks for a stream and reads nothing of the answer until `resume`. */
async function deafClient(server: TestServer, path: string): Promise<Socket> {
  const { hostname, port } = new URL(server.url);
  const socket = connect({ host: hostname, port: Number(port) });
  socket.pause();
  await new Promise((resolve) => socket.once("connect", resolve));
  socket.write(`GET ${path} HTTP/1.1\r\nhost: ${hostname}\r\nconnection: close\r\n\r\n`);
  return socket;
}

test.runIf(process.platform === "linux").each([false, true])(
  "200 MB that nobody reads (stream_resumable: %s)",
  async (stream_resumable) => {
    await using talker = await project({ "talk.mjs": TALKER });
    await using server = await startServer({ project: talker, args: ["--threads", "1"] });
    const log = join(server.data, "log");
    const say = async (
      count: number,
      into = log,
    ): Promise<{ path: string; run: Awaited<ReturnType<typeof startRun>> }> => {
      const input = { count, size: SIZE, log: into };
      const body = { assistant_id: "talk", input, stream_mode: ["custom"], stream_resumable };
      const run = await startRun(server, await newThread(server), body);
      return { run, path: `/threads/${run.thread_id}/runs/${run.run_id}` };
    };
    // Heaps grow to their working size first: that is not what is measured.
    for (const _ of upTo(2)) await ended(server, (await say(COUNT, `${log}.warm`)).run, 60_000);
    let peak = 0;
    const watch = setInterval(() => {
      peak = Math.max(peak, rssOf(server));
    }, 20);
    // The measure of a run that nobody follows, in time and in memory: its own garbage is no part of what a client costs.
    const alone = await say(COUNT);
    await ended(server, alone.run, 60_000);
    const before = Math.max(peak, rssOf(server));
    peak = before;
    const { run, path } = await say(COUNT);
    const deaf = await deafClient(server, `${path}/stream`);
    const others: number[] = [];
    let isOver = false;
    const flowing = (async () => {
      while (!isOver) {
        const asked = performance.now();
        const body = { assistant_id: "talk", input: { count: 3, size: 10 }, stream_mode: ["custom"] };
        await using stream = await openSse(`${server.url}/runs/stream`, { body });
        expect((await stream.rest()).filter(({ event }) => event === "custom")).toHaveLength(3);
        others.push(performance.now() - asked);
      }
    })();
    expect((await ended(server, run, 90_000)).status).toBe("success");
    isOver = true;
    await flowing;
    clearInterval(watch);
    const [aloneMs = 0, followedMs = 0] = linesOf(log).map(Number);
    const grown = (peak - before) / MB;
    console.log(
      `deaf client: RSS ${(before / MB).toFixed(0)} MB + ${grown.toFixed(0)} MB, run ${aloneMs.toFixed(0)} ms alone, ` +
        `${followedMs.toFixed(0)} ms followed; ${others.length} other streams, slowest ${Math.max(...others).toFixed(0)} ms`,
    );
    // Of 200 MB; the heap of the node's own thread is in it too.
    expect(grown).toBeLessThan(160);
    expect(followedMs).toBeLessThan(2 * aloneMs + 2000);
    expect(others.length).toBeGreaterThanOrEqual(1);
    expect(Math.max(...others)).toBeLessThan(5000);

    // It wakes up at last, and gets all of it.
    const woken = performance.now();
    expect(await readIds(deaf)).toEqual(upTo(COUNT + 1));
    console.log(`deaf client: woken, it read all in ${(performance.now() - woken).toFixed(0)} ms`);
    expect((await http(server.url).get("/ok")).status).toBe(200);
    await using again = await openSse(`${server.url}${path}/stream`, { lastEventId: `${COUNT - 5}` });
    expect(idsOf(await again.rest())).toEqual(upTo(5).map((index) => COUNT - 4 + index));
  },
);

/** Begun first and read last: its run has long ended by then. */
let sleeper: { server: TestServer; talker: TempDir; deaf: Socket; endedAt: number };

beforeAll(async () => {
  const talker = await project({ "talk.mjs": TALKER });
  const server = await startServer({ project: talker, args: ["--threads", "1"] });
  const body = { assistant_id: "talk", input: { count: SLEEPER_COUNT, size: SIZE }, stream_mode: ["custom"] };
  const run = await startRun(server, await newThread(server), body);
  const deaf = await deafClient(server, `/threads/${run.thread_id}/runs/${run.run_id}/stream`);
  await ended(server, run);
  sleeper = { server, talker, deaf, endedAt: performance.now() };
});

afterAll(async () => {
  await sleeper.server[Symbol.asyncDispose]();
  await sleeper.talker[Symbol.asyncDispose]();
});

test("a client that wakes up long after the run has ended still gets all of its stream", async () => {
  const { deaf, endedAt } = sleeper;
  // Ended logs leave memory after 30 s; what somebody still reads must not.
  await eventually(() => performance.now() - endedAt > 33_000, { ms: 40_000, every: 500 });
  expect(await readIds(deaf)).toEqual(upTo(SLEEPER_COUNT + 1));
});

/** Reads to the end and returns the ids of the frames. */
async function readIds(socket: Socket): Promise<number[]> {
  const ids: number[] = [];
  let text = "";
  socket.setEncoding("latin1").resume();
  for await (const chunk of socket) {
    // Frames end with their id: of the rest only what may hold one is kept.
    text += (chunk as string).replaceAll(/x{100,}/g, "x");
    const frames = text.split("\n\n");
    text = frames.pop() ?? "";
    for (const frame of frames) {
      const { id } = parseFrame(frame.replace(/^[\s\S]*?\r\n\r\n/, ""));
      if (id !== undefined) ids.push(Number(id));
    }
  }
  return ids;
}
