/** Nodes that harm the thread they run in. The server stays, others go on, the guilty one is told why. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { http, ok } from "../support/http.ts";
import { eventually, startServer, type TestServer } from "../support/server.ts";
import { openSse } from "../support/sse.ts";
import { attemptsOf, ended, linesOf, newThread, openGate, type RunRow, startRun, threadStatus } from "./support.ts";

const ONE_THREAD = ["--threads", "1"];
const plain = { assistant_id: "plain", input: { value: 1 } };

const join_ = (server: TestServer, { thread_id, run_id }: RunRow) =>
  ok(http(server.url).get(`/threads/${thread_id}/runs/${run_id}/join`));

async function attempts(server: TestServer, { thread_id, run_id }: RunRow): Promise<number[]> {
  await using stream = await openSse(`${server.url}/threads/${thread_id}/runs/${run_id}/stream`);
  return attemptsOf(await stream.rest());
}

test("a node that holds the CPU for 20 s holds up nobody else", async () => {
  await using server = await startServer({ args: ONE_THREAD });
  const once = join(server.data, "blocked");
  const body = { assistant_id: "block", input: { ms: 20_000, once }, stream_resumable: true };
  const run = await startRun(server, await newThread(server), body);
  await eventually(() => existsSync(once), { every: 1 });
  const since = performance.now();
  // At once: nobody has noticed yet that the thread does not answer.
  const early = http(server.url).post("/runs/wait", plain, { signal: AbortSignal.timeout(10_000) });

  const times: number[] = [];
  let others = 0;
  const probing = (async () => {
    while (performance.now() - since < 18_000) {
      const asked = performance.now();
      expect((await http(server.url).get("/ok?check_db=1")).status).toBe(200);
      times.push(performance.now() - asked);
      await delay(20);
    }
  })();
  expect((await early).body).toMatchObject({ value: 4 });
  while (performance.now() - since < 17_000) {
    const asked = performance.now();
    expect(await ok(http(server.url).post("/runs/wait", plain))).toMatchObject({ value: 4 });
    expect(performance.now() - asked).toBeLessThan(5000);
    others++;
  }
  await probing;
  expect((await http(server.url).get("/assistants/plain/schemas")).status).toBe(200);
  times.sort((a, b) => a - b);
  // The tail is the machine's: two cores for the node, the server, its spare thread and this test.
  const p95 = times[Math.floor(times.length * 0.95)] ?? Number.NaN;
  console.log(
    `/ok: ${times.length} samples, p95 ${p95.toFixed(1)} ms, max ${times.at(-1)?.toFixed(1)} ms; ${others} runs`,
  );
  expect(times.length).toBeGreaterThan(100);
  expect(p95).toBeLessThan(100);
  expect(times.at(-1)).toBeLessThan(1000);
  expect(others).toBeGreaterThan(20);

  expect((await ended(server, run)).status).toBe("success");
  expect(await attempts(server, run)).toEqual([1]);
  expect(await join_(server, run)).toMatchObject({ survived: true });
  expect(server.logs().filter(({ level }) => Number(level) >= 50)).toEqual([]);
});

const HARMS = [
  ["exit", /process\.exit\(7\)/],
  ["thrower", /uncaught Error: thrown from a timer/],
  ["heap", /ran out of memory/],
] as const;

describe.each(HARMS)("%s", (graph, reason) => {
  const env = { SKEIN_EXECUTOR_HEAP_MB: "128" };

  test("its run ends with an error that says why; the innocent run beside it is retried and succeeds", async () => {
    await using server = await startServer({ args: ONE_THREAD, env });
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
    expect(await attempts(server, guilty)).toEqual([1, 2, 3]);
    const error = { error: "RunLostError", message: expect.stringMatching(reason) };
    expect(await join_(server, guilty)).toEqual({ __error__: error });
    expect(await join_(server, guilty)).toEqual({
      __error__: { error: "RunLostError", message: expect.stringMatching(/attempt 3 of 3/) },
    });

    openGate(gate, 2, 3);
    expect((await ended(server, innocent)).status).toBe("success");
    // Taken along once, then retried on a thread of its own: the guilty one's later attempts do not reach it.
    expect(await attempts(server, innocent)).toEqual([1, 2]);
    expect(linesOf(log)).toEqual(["start 1", "end 1", "start 2", "start 2", "end 2", "start 3", "end 3"]);

    expect(await ok(http(server.url).post("/runs/wait", plain))).toMatchObject({ value: 4 });
    expect(server.pid).toBe(pid);
    expect(server.logs().filter(({ msg }) => msg === "listening")).toHaveLength(1);
  });

  test("a run that harms only once succeeds with its second attempt, its finished node not repeated", async () => {
    await using server = await startServer({ args: ONE_THREAD, env });
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
