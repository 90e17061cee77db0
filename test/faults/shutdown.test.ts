/** SIGTERM: runs stop at a boundary or are handed back, none is lost, no attempt is spent. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { query } from "../support/database.ts";
import { http } from "../support/http.ts";
import { eventually, startServer } from "../support/server.ts";
import { openSse } from "../support/sse.ts";
import { attemptsOf, ended, idsOf, linesOf, newThread, openGate, startRun, threadStatus, upTo } from "./support.ts";

const GRACE = { BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS: "2" };

test("with 20 runs in flight: exit 0, and after a start each goes on where it was, its attempt not spent", async () => {
  await using server = await startServer({ args: ["--jobs", "20", "--threads", "1"], env: GRACE });
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
  await eventually(() => upTo(10).every((index) => linesOf(at(`ticks-${index}`)).length >= 3));
  await eventually(() => upTo(10).every((index) => linesOf(at(`log-${index}`)).length === 1));

  const asked = performance.now();
  expect(await server.stop()).toEqual({ code: 0, signal: null });
  expect(performance.now() - asked).toBeLessThan(8000);
  const rows = await query<{ status: string; attempt: number; lease_owner: string | null }>(
    server.data,
    "select status, attempt, lease_owner from runs",
  );
  expect(rows).toEqual(upTo(20).map(() => ({ status: "pending", attempt: 0, lease_owner: null })));
  const before = upTo(10).map((index) => linesOf(at(`ticks-${index}`)).length);
  expect(Math.max(...before)).toBeLessThan(steps);

  await server.start();
  openGate(at("gate"), 1, 2, 3);
  for (const run of [...counters, ...waiters]) {
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

test("a client of a run that was handed back is cut off, not told that the run has ended", async () => {
  await using server = await startServer({ env: GRACE });
  const [gate, log] = [join(server.data, "gate"), join(server.data, "log")];
  const body = { assistant_id: "slow", input: { gate, log } };
  const run = await startRun(server, await newThread(server), body);
  await eventually(() => linesOf(log).length === 1);
  const path = `/threads/${run.thread_id}/runs/${run.run_id}`;
  const waiting = http(server.url)
    .get(`${path}/join`)
    .then(
      ({ text }) => text.trim(),
      () => "cut off",
    );
  await using stream = await openSse(`${server.url}${path}/stream`);
  await stream.next();
  expect(await server.stop()).toEqual({ code: 0, signal: null });
  expect(await waiting).toBe("cut off");
  await stream.rest();
  expect(stream.complete).toBe(false);
  await server.start();
  openGate(gate, 1, 2, 3);
  expect((await ended(server, run)).status).toBe("success");
});

test("nodes that hold the CPU, and runs that wait for an executor thread, do not hold up the exit", async () => {
  await using server = await startServer({ args: ["--threads", "1"], env: GRACE });
  const at = (name: string): string => join(server.data, name);
  const block = { assistant_id: "block", input: { ms: 60_000, once: at("once") } };
  const blocked = await startRun(server, await newThread(server), block);
  await eventually(() => existsSync(at("once")), { every: 1 });
  // The only thread does not answer: these are claimed, and wait until it is given up and a spare one has started.
  const slow = { assistant_id: "slow", input: { gate: at("gate"), log: at("log") } };
  const waiting = await Promise.all(upTo(3).map(async () => startRun(server, await newThread(server), slow)));
  const asked = performance.now();
  expect(await server.stop()).toEqual({ code: 0, signal: null });
  expect(performance.now() - asked).toBeLessThan(8000);
  const rows = await query<{ status: string; attempt: number }>(server.data, "select status, attempt from runs");
  expect(rows).toEqual(upTo(4).map(() => ({ status: "pending", attempt: 0 })));
  await server.start();
  openGate(at("gate"), 1, 2, 3);
  for (const run of [blocked, ...waiting]) expect((await ended(server, run)).status).toBe("success");
});

test("SIGINT drains; a second one quits at once", async () => {
  await using server = await startServer();
  const [gate, log] = [join(server.data, "gate"), join(server.data, "log")];
  const body = { assistant_id: "slow", input: { gate, log } };
  const run = await startRun(server, await newThread(server), body);
  await eventually(() => linesOf(log).length === 1);
  void server.kill("SIGINT");
  await eventually(() => server.output.includes("draining"));
  expect((await http(server.url).get("/ok")).status).toBe(200);
  const asked = performance.now();
  expect(await server.kill("SIGINT")).toEqual({ code: 130, signal: null });
  expect(performance.now() - asked).toBeLessThan(2000);
  await server.start();
  openGate(gate, 1, 2, 3);
  expect((await ended(server, run)).status).toBe("success");
});
