/** Nodes that harm the thread they run in. The server stays, others go on, the guilty one is told why. */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { http, ok } from "../support/http.ts";
import { eventually, startServer, type TestServer } from "../support/server.ts";
import { openSse } from "../support/sse.ts";
import {
  attemptsOf,
  attemptsOfRun,
  ended,
  linesOf,
  newThread,
  openGate,
  outputOf,
  startRun,
  threadStatus,
} from "./support.ts";

const plain = { assistant_id: "plain", input: { value: 1 } };

const HARMS = [
  ["exit", /process\.exit\(7\)/],
  ["thrower", /uncaught Error: thrown from a timer/],
  ["heap", /ran out of memory/],
] as const;

describe.each(HARMS)("%s", (graph, reason) => {
  // One thread while no run has been lost: the guilty one and the innocent one share it.
  let server: TestServer;
  beforeAll(async () => {
    server = await startServer({ args: ["--threads", "1"], env: { SKEIN_EXECUTOR_HEAP_MB: "64" } });
  });
  afterAll(() => server?.[Symbol.asyncDispose]());

  test("its run ends with an error that says why; the innocent run beside it is retried and succeeds", async () => {
    const pid = server.pid;
    const [gate, log] = [join(server.data, "gate"), join(server.data, "log")];
    const slow = { assistant_id: "slow", input: { gate, log }, stream_resumable: true };
    openGate(gate, 1);
    const innocent = await startRun(server, await newThread(server), slow);
    await eventually(() => linesOf(log).includes("start 2"));
    const body = { assistant_id: graph, input: {}, stream_resumable: true };
    const guilty = await startRun(server, await newThread(server), body);

    expect((await ended(server, guilty, 60_000)).status).toBe("error");
    expect(await threadStatus(server, guilty.thread_id)).toBe("error");
    expect(await attemptsOfRun(server, guilty)).toEqual([1, 2, 3]);
    const error = { error: "RunLostError", message: expect.stringMatching(reason) };
    expect(await outputOf(server, guilty)).toEqual({ __error__: error });
    expect(await outputOf(server, guilty)).toEqual({
      __error__: { error: "RunLostError", message: expect.stringMatching(/attempt 3 of 3/) },
    });

    openGate(gate, 2, 3);
    expect((await ended(server, innocent)).status).toBe("success");
    // Taken along once, then retried on a thread of its own: the guilty one's later attempts do not reach it.
    expect(await attemptsOfRun(server, innocent)).toEqual([1, 2]);
    expect(linesOf(log)).toEqual(["start 1", "end 1", "start 2", "start 2", "end 2", "start 3", "end 3"]);

    expect(await ok(http(server.url).post("/runs/wait", plain))).toMatchObject({ value: 4 });
    expect(server.pid).toBe(pid);
    expect(server.logs().filter(({ msg }) => msg === "listening")).toHaveLength(1);
  });

  test("a run that harms only once succeeds with its second attempt, its finished node not repeated", async () => {
    const once = join(server.data, "once");
    const body = {
      assistant_id: graph,
      input: { once },
      stream_resumable: true,
      stream_mode: ["updates"],
      durability: "sync",
    };
    const run = await startRun(server, await newThread(server), body);
    await using stream = await openSse(`${server.url}/threads/${run.thread_id}/runs/${run.run_id}/stream`);
    const frames = await stream.rest();
    expect(attemptsOf(frames)).toEqual([1, 2]);
    expect(frames.filter(({ event }) => event === "updates").map(({ data }) => data)).toEqual([
      '{"before":{"survived":false}}',
      '{"harm":{"survived":true}}',
    ]);
    expect((await ended(server, run)).status).toBe("success");
  });
});
