/** SIGTERM: runs stop at a boundary or are handed back, none is lost, no attempt is spent. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { query } from "../support/database.ts";
import { http } from "../support/http.ts";
import { eventually, ON_POSTGRES, startServer, type TestServer } from "../support/server.ts";
import { openSse } from "../support/sse.ts";
import {
  attemptsOf,
  ended,
  idsOf,
  linesOf,
  newThread,
  openGate,
  type RunRow,
  runOf,
  startRun,
  threadStatus,
  upTo,
} from "./support.ts";

/** Each test stops it and starts it again. */
let server: TestServer;
beforeAll(async () => {
  server = await startServer({
    args: ["--jobs", "20", "--threads", "1"],
    env: { BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS: "2" },
  });
});
afterAll(() => server?.[Symbol.asyncDispose]());

/** What the database has of these runs. */
const stored = async <T>(runs: readonly RunRow[], columns: string): Promise<T[]> =>
  query(server.data, `select ${columns} from runs where run_id in (${runs.map(({ run_id }) => `'${run_id}'`)})`);

/** What becomes of the clients of a run: who joins it, and who streams it. */
async function follow({ thread_id, run_id }: RunRow) {
  const path = `${server.url}/threads/${thread_id}/runs/${run_id}`;
  const joined = fetch(`${path}/join`)
    .then((response) => response.text())
    .then(
      (text) => text.trim(),
      () => "cut off",
    );
  const stream = await openSse(`${path}/stream`);
  await stream.next();
  return { joined, stream };
}

test("with 20 runs in flight: exit 0, and after a start each goes on where it was, its attempt not spent; clients are cut off, not told of an end", async () => {
  const at = (name: string): string => join(server.data, name);
  const steps = 30;
  const counters = await Promise.all(
    upTo(10).map(async (index) => {
      const input = { steps, delay_ms: 100, file: at(`ticks-${index}`) };
      const config = { recursion_limit: 100 };
      const body = { assistant_id: "counter", input, config, stream_resumable: true };
      return startRun(server, await newThread(server), body);
    }),
  );
  const waiters = await Promise.all(
    upTo(10).map(async (index) => {
      // Half of them listen to no signal either; none reaches a boundary.
      const input = { gate: at("gate"), log: at(`log-${index}`), stubborn: index % 2 === 0 };
      return startRun(server, await newThread(server), { assistant_id: "slow", input, stream_resumable: true });
    }),
  );
  const later = { assistant_id: "slow", input: { log: at("log-later") }, after_seconds: 3600 };
  const delayed = await startRun(server, await newThread(server), later);
  await eventually(() => upTo(10).every((index) => linesOf(at(`ticks-${index}`)).length >= 3));
  await eventually(() => upTo(10).every((index) => linesOf(at(`log-${index}`)).length === 1));

  const runs = [...counters, ...waiters];
  const clients = await Promise.all([counters[0], waiters[0]].map((run) => follow(run as RunRow)));
  // `stop` gives a server fifteen seconds, and this one has two for its runs.
  expect(await server.stop()).toEqual({ code: 0, signal: null });
  for (const { joined, stream } of clients) {
    expect(await joined).toBe("cut off");
    await stream.rest();
    expect(stream.complete).toBe(false);
  }
  const rows = await stored(runs, "status, attempt, lease_owner");
  expect(await stored([delayed], "status, attempt")).toEqual([{ status: "pending", attempt: 0 }]);
  expect(rows).toEqual(upTo(20).map(() => ({ status: "pending", attempt: 0, lease_owner: null })));
  const before = upTo(10).map((index) => linesOf(at(`ticks-${index}`)).length);
  expect(Math.max(...before)).toBeLessThan(steps);

  await server.start();
  openGate(at("gate"), 1, 2, 3);
  for (const run of runs) {
    expect((await ended(server, run)).status).toBe("success");
    expect(await threadStatus(server, run.thread_id)).toBe("idle");
    await using stream = await openSse(`${server.url}/threads/${run.thread_id}/runs/${run.run_id}/stream`);
    const frames = await stream.rest();
    expect(idsOf(frames)).toEqual(upTo(frames.length));
    expect(attemptsOf(frames)).toEqual([1, 1]);
  }
  for (const index of upTo(10)) {
    expect(linesOf(at(`ticks-${index}`)).map(Number)).toEqual(upTo(steps).map((step) => step + 1));
    expect(linesOf(at(`log-${index}`)).filter((line) => line.startsWith("end"))).toEqual(["end 1", "end 2", "end 3"]);
  }
  // Nor has the restart brought forward what was to wait.
  expect((await runOf(server, delayed)).status).toBe("pending");
  expect(linesOf(at("log-later"))).toEqual([]);
});

// These are about processes, not about where runs are kept.
describe.skipIf(ON_POSTGRES)("a process", () => {
  test("nodes that hold the CPU, and runs that wait for an executor thread, do not hold up the exit", async () => {
    const at = (name: string): string => join(server.data, name);
    const block = { assistant_id: "block", input: { ms: 60_000, once: at("once") } };
    const blocked = await startRun(server, await newThread(server), block);
    await eventually(() => existsSync(at("once")), { every: 1 });
    // The only thread does not answer: these are claimed, and wait until it is given up and a spare one has started.
    const slow = { assistant_id: "slow", input: { gate: at("gate-2"), log: at("log-of-waiting") } };
    const waiting = await Promise.all(upTo(3).map(async () => startRun(server, await newThread(server), slow)));
    // `stop` gives a server fifteen seconds, and this one has two for its runs.
    expect(await server.stop()).toEqual({ code: 0, signal: null });
    const runs = [blocked, ...waiting];
    expect(await stored(runs, "status, attempt")).toEqual(upTo(4).map(() => ({ status: "pending", attempt: 0 })));
    await server.start();
    openGate(at("gate-2"), 1, 2, 3);
    for (const run of runs) expect((await ended(server, run)).status).toBe("success");
  });

  test("SIGINT drains; a second one quits at once", async () => {
    const [gate, log] = [join(server.data, "gate-3"), join(server.data, "log-of-interrupted")];
    const body = { assistant_id: "slow", input: { gate, log } };
    const run = await startRun(server, await newThread(server), body);
    await eventually(() => linesOf(log).length === 1);
    void server.kill("SIGINT");
    await eventually(() => server.output.includes("SIGINT: draining"));
    expect((await http(server.url).get("/ok")).status).toBe(200);
    const asked = performance.now();
    expect(await server.kill("SIGINT")).toEqual({ code: 130, signal: null });
    expect(performance.now() - asked).toBeLessThan(2000);
    await server.start();
    openGate(gate, 1, 2, 3);
    expect((await ended(server, run)).status).toBe("success");
  });

  test("a run that ends within the grace period answers its clients", async () => {
    await using server = await startServer({ env: { BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS: "20" } });
    const [gate, log] = [join(server.data, "gate"), join(server.data, "log")];
    openGate(gate, 1, 2);
    const body = { assistant_id: "slow", input: { gate, log } };
    await using stream = await openSse(`${server.url}/runs/stream`, { body });
    await stream.until(({ data }) => data?.includes("[1,2]") === true);
    await eventually(() => linesOf(log).includes("start 3"));
    const stopped = server.kill("SIGTERM");
    await eventually(() => server.logs().some(({ msg }) => msg === "draining"));
    openGate(gate, 3);
    const rest = await stream.rest();
    expect(rest.at(-1)?.data).toContain("[1,2,3]");
    expect(stream.complete).toBe(true);
    expect(await stopped).toEqual({ code: 0, signal: null });
  });
});
