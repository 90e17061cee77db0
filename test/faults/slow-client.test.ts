/** A client that never reads its stream: the server's memory stays, the run is not slowed, others flow. */
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { http } from "../support/http.ts";
import { ON_POSTGRES, project, startServer, type TestServer } from "../support/server.ts";
import { openSse } from "../support/sse.ts";
import { deafClient, readIds } from "./deaf-client.ts";
import { TALKER } from "./graphs.ts";
import { ended, idsOf, linesOf, newThread, rssOf, startRun, upTo } from "./support.ts";

/** A database over the network takes twice the time; what would not be bounded is seen with half as much. */
const COUNT = ON_POSTGRES ? 1000 : 2000;
const SIZE = 100_000;
const MB = 1024 * 1024;
const TOTAL_MB = (COUNT * SIZE) / MB;

describe.runIf(process.platform === "linux")(`${TOTAL_MB.toFixed(0)} MB that nobody reads`, () => {
  let server: TestServer;
  let log: string;

  async function say(stream_resumable: boolean, into: string) {
    const input = { count: COUNT, size: SIZE, log: into };
    const body = { assistant_id: "talk", input, stream_mode: ["custom"], stream_resumable };
    return startRun(server, await newThread(server), body);
  }

  beforeAll(async () => {
    const talker = await project({ "talk.mjs": TALKER });
    server = await startServer({ project: talker, args: ["--threads", "1"] });
    log = join(server.data, "log");
    // Heaps grow to their working size first: that is not what is measured.
    for (const resumable of [false, true]) await ended(server, await say(resumable, `${log}.warm`), 60_000);
    return async () => {
      await server[Symbol.asyncDispose]();
      await talker[Symbol.asyncDispose]();
    };
  });

  test.each([false, true])("stream_resumable: %s", async (stream_resumable) => {
    const times = `${log}.${stream_resumable}`;
    let peak = 0;
    const watch = setInterval(() => {
      peak = Math.max(peak, rssOf(server));
    }, 20);
    // The measure of a run that nobody follows, in time and in memory: its own garbage is no part of what a client costs.
    await ended(server, await say(stream_resumable, times), 60_000);
    const before = Math.max(peak, rssOf(server));
    peak = before;
    const run = await say(stream_resumable, times);
    const path = `/threads/${run.thread_id}/runs/${run.run_id}`;
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
    const [aloneMs = 0, followedMs = 0] = linesOf(times).map(Number);
    const grown = (peak - before) / MB;
    console.log(
      `deaf client: RSS ${(before / MB).toFixed(0)} MB + ${grown.toFixed(0)} MB, run ${aloneMs.toFixed(0)} ms alone, ` +
        `${followedMs.toFixed(0)} ms followed; ${others.length} other streams, slowest ${Math.max(...others).toFixed(0)} ms`,
    );
    // The heap of the node's own thread is in it too.
    expect(grown).toBeLessThan(0.8 * TOTAL_MB);
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
  });
});
