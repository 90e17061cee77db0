/** kill -9, and start again: the database is the truth. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { query } from "../support/database.ts";
import { http, ok } from "../support/http.ts";
import {
  eventually,
  FIXTURES,
  ON_POSTGRES,
  project,
  startServer,
  type TempDir,
  type TestServer,
} from "../support/server.ts";
import { openSse } from "../support/sse.ts";
import {
  attemptsOf,
  ended,
  idsOf,
  linesOf,
  listenOn,
  newThread,
  nextNodes,
  openGate,
  outputOf,
  SharedRestarts,
  startRun,
  threadStatus,
  upTo,
} from "./support.ts";

/** Says a lot in each attempt, and waits when it has. */
const TALK = `
  import { existsSync, appendFileSync, readFileSync } from "node:fs";
  import { setTimeout as delay } from "node:timers/promises";
  import { Annotation, START, StateGraph } from "@langchain/langgraph";
  const State = Annotation.Root({ gate: Annotation(), log: Annotation() });
  async function talk({ gate, log }, { writer }) {
    appendFileSync(log, "start\\n");
    const attempt = readFileSync(log, "utf8").split("start").length - 1;
    for (let i = 0; i < 60; i++) {
      writer({ attempt, i, text: "x".repeat(100_000) });
      await delay(1);
    }
    appendFileSync(log, "written\\n");
    while (!existsSync(gate)) await delay(10);
    return {};
  }
  export const graph = new StateGraph(State).addNode("talk", talk).addEdge(START, "talk").compile();`;
const SAY = `
  import { Annotation, START, StateGraph } from "@langchain/langgraph";
  const State = Annotation.Root({ said: Annotation() });
  export const graph = new StateGraph(State).addNode("say", () => ({ said: "hello" })).addEdge(START, "say").compile();`;
/** Asks somebody, and has more to do when it was answered. */
const ASK = `
  import { existsSync, writeFileSync } from "node:fs";
  import { setTimeout as delay } from "node:timers/promises";
  import { Annotation, interrupt, START, StateGraph } from "@langchain/langgraph";
  const State = Annotation.Root({ gate: Annotation(), answer: Annotation(), done: Annotation() });
  async function work({ gate }) {
    writeFileSync(gate + ".began", "");
    while (!existsSync(gate + ".1")) await delay(10);
    return { done: true };
  }
  export const graph = new StateGraph(State)
    .addNode("ask", () => ({ answer: interrupt("well?") })).addNode("work", work)
    .addEdge(START, "ask").addEdge("ask", "work").compile();`;
const graphFile = (name: string): string => readFileSync(join(FIXTURES, `${name}.mjs`), "utf8");

let graphs: TempDir;
let server: TestServer;
let shared: SharedRestarts;
/** Of a run that is to begin after a restart, in seconds: time for one, however slow the machine is. */
let delay: number;
beforeAll(async () => {
  const files = { "talk.mjs": TALK, "say.mjs": SAY, "ask.mjs": ASK };
  const fixtures = Object.fromEntries(["slow", "counter", "plain"].map((name) => [`${name}.mjs`, graphFile(name)]));
  graphs = await project({ ...fixtures, ...files }, { webhooks: { url: { disable_loopback: false } } });
  const starting = Date.now();
  server = await startServer({
    project: graphs,
    args: ["--threads", "1", "--jobs", "30"],
    // A process has one run at its last attempt in hand at a time: the others must be through before one gets there.
    env: { BG_JOB_MAX_RETRIES: "4" },
  });
  delay = Math.max(8, Math.ceil(((Date.now() - starting) / 1000) * 6));
  shared = new SharedRestarts(() => server.restart("SIGKILL"));
});
afterAll(async () => {
  await server?.[Symbol.asyncDispose]();
  await graphs?.[Symbol.asyncDispose]();
});

// At most five: as many tests does Vitest run at once.
describe.concurrent("with a process that dies", () => {
  test("a run that is killed twice goes on from its last checkpoint, and its stream has no gap and no repeat", async () => {
    using restarts = shared.enter();
    const [gate, log] = [join(server.data, "gate-killed"), join(server.data, "log-killed")];
    const thread_id = await newThread(server);
    const body = {
      assistant_id: "slow",
      input: { gate, log },
      stream_mode: ["updates", "values"],
      stream_resumable: true,
    };
    const stream = await openSse(`${server.url}/threads/${thread_id}/runs/stream`, { body });
    const place = String(stream.headers["content-location"]);
    openGate(gate, 1);
    const seen = await stream.until(({ data }) => data === '{"one":{"steps":[1]}}');
    await nextNodes(server, thread_id, "two");
    await eventually(() => linesOf(log).includes("start 2"));

    await restarts.next();
    await eventually(() => linesOf(log).filter((line) => line === "start 2").length === 2);
    expect(await threadStatus(server, thread_id)).toBe("busy");
    openGate(gate, 2);
    await nextNodes(server, thread_id, "three");
    await eventually(() => linesOf(log).includes("start 3"));

    await restarts.next();
    const last = seen.at(-1)?.id ?? "";
    await using joined = await openSse(`${server.url}${place}/stream`, { lastEventId: last });
    openGate(gate, 3);
    seen.push(...(await joined.rest()));

    expect(joined.complete).toBe(true);
    expect(idsOf(seen)).toEqual(upTo(seen.length));
    expect(attemptsOf(seen)).toEqual([1, 2, 3]);
    expect(seen.filter(({ event }) => event === "updates").map(({ data }) => data)).toEqual([
      '{"one":{"steps":[1]}}',
      '{"two":{"steps":[2]}}',
      '{"three":{"steps":[3]}}',
    ]);
    expect(await ok(http(server.url).get(place))).toMatchObject({ status: "success" });
    expect(await threadStatus(server, thread_id)).toBe("idle");
    expect(linesOf(log)).toEqual([
      ...["start 1", "end 1", "start 2"],
      ...["start 2", "end 2", "start 3"],
      ...["start 3", "end 3"],
    ]);
    const all = await openSse(`${server.url}${place}/stream`, { lastEventId: "-1" });
    expect((await all.rest()).map(({ raw }) => raw)).toEqual(seen.map(({ raw }) => raw));
    expect(await ok(http(server.url).get(`${place}/join`))).toMatchObject({ steps: [1, 2, 3] });
  });

  test("a run whose process dies with every attempt ends with an error that says so, in its stream too", async () => {
    using restarts = shared.enter();
    const [gate, log] = [join(server.data, "gate-lost"), join(server.data, "log-lost")];
    const run = await startRun(server, await newThread(server), {
      assistant_id: "slow",
      input: { gate, log },
      stream_resumable: true,
    });
    for (const attempt of [1, 2, 3, 4]) {
      await eventually(() => linesOf(log).length === attempt);
      await restarts.next();
    }
    expect((await ended(server, run)).status).toBe("error");
    expect(await threadStatus(server, run.thread_id)).toBe("error");
    const error = { error: "RunLostError", message: expect.stringMatching(/process.* died.*attempt 4 of 4/) };
    await using stream = await openSse(`${server.url}/threads/${run.thread_id}/runs/${run.run_id}/stream`);
    const frames = await stream.rest();
    expect(idsOf(frames)).toEqual(upTo(frames.length));
    expect(frames.at(-1)?.event).toBe("error");
    expect(JSON.parse(frames.at(-1)?.data ?? "")).toEqual(error);
    expect(await ok(http(server.url).get(`/threads/${run.thread_id}/runs/${run.run_id}/join`))).toEqual({
      __error__: error,
    });
  });

  test("a spilled log that is not kept does not come back in the next attempt", async () => {
    using restarts = shared.enter();
    const [gate, log] = [join(server.data, "gate-talk"), join(server.data, "log-talk")];
    const run = await startRun(server, await newThread(server), {
      assistant_id: "talk",
      input: { gate, log },
      stream_mode: ["custom"],
    });
    await eventually(() => linesOf(log).includes("written"));
    await eventually(async () => (await query(server.data, "select * from event_chunks")).length > 0);
    await restarts.next();
    writeFileSync(gate, "");
    await using stream = await openSse(`${server.url}/threads/${run.thread_id}/runs/${run.run_id}/stream`);
    const frames = await stream.rest();
    const custom = frames.filter(({ event }) => event === "custom").map(({ data }) => JSON.parse(data ?? ""));
    const said = (wanted: number): number[] => custom.filter(({ attempt }) => attempt === wanted).map(({ i }) => i);
    expect(said(2)).toEqual(upTo(60));
    if (ON_POSTGRES) {
      // What other processes had been shown of the first attempt stays, and the second goes on behind it.
      expect(said(1)).toEqual(upTo(said(1).length));
      expect(idsOf(frames)).toEqual([...new Set(idsOf(frames))].sort((a, b) => a - b));
    } else {
      expect(said(1)).toEqual([]);
      expect(idsOf(frames)).toEqual(upTo(frames.length));
    }
    expect(server.logs().filter(({ level }) => Number(level) >= 50)).toEqual([]);
  });

  test("a webhook that was not delivered is delivered after a crash", async () => {
    using restarts = shared.enter();
    const calls: string[] = [];
    let accept = false;
    await using receiver = await listenOn((request, response) => {
      let body = "";
      request.setEncoding("utf8").on("data", (text: string) => {
        body += text;
      });
      request.on("end", () => {
        calls.push(body);
        // The first call hangs: the server dies with it in flight.
        if (accept) response.end();
      });
    });
    const run = await startRun(server, await newThread(server), {
      assistant_id: "say",
      input: {},
      webhook: `${receiver.url}/hook`,
    });
    await eventually(() => calls.length === 1);
    expect((await ended(server, run)).status).toBe("success");
    expect(await query(server.data, "select * from webhooks")).toHaveLength(1);
    accept = true;
    await restarts.next();
    await eventually(() => calls.length === 2);
    const [first, second] = calls.map((text) => JSON.parse(text));
    expect(second).toMatchObject({ run_id: run.run_id, status: "success", values: { said: "hello" }, error: null });
    expect({ ...second, webhook_sent_at: "" }).toEqual({ ...first, webhook_sent_at: "" });
    await eventually(async () => /outcome="delivered"\} 1/.test((await http(server.url).get("/metrics")).text));
    await restarts.next();
    await ok(http(server.url).post("/runs/wait", { assistant_id: "say", input: {} }));
    expect(calls).toHaveLength(2);
  });

  test("a delayed run survives a crash and starts no sooner", async () => {
    using restarts = shared.enter();
    const log = join(server.data, "log-delayed");
    const asked = Date.now();
    const run = await startRun(server, await newThread(server), {
      assistant_id: "slow",
      input: { log },
      after_seconds: delay,
      stream_resumable: true,
    });
    await restarts.next();
    // A slow machine may need all its time to start again.
    expect(linesOf(log).length === 0 || Date.now() - asked >= delay * 1000).toBe(true);
    await eventually(() => linesOf(log).length > 0, { every: 5, ms: delay * 1000 + 30_000 });
    expect(Date.now() - asked).toBeGreaterThanOrEqual(delay * 1000);
    expect((await ended(server, run)).status).toBe("success");
    await using stream = await openSse(`${server.url}/threads/${run.thread_id}/runs/${run.run_id}/stream`);
    expect(attemptsOf(await stream.rest())).toEqual([1]);
  });
});

/** The superstep of a thread's newest checkpoint, of a server that does not run: as many ticks are safe. */
async function stepsSaved(data: string, thread_id: string): Promise<number> {
  const where = `thread_id = '${thread_id}'`;
  const rows = await query<{ metadata: string }>(data, `select metadata from checkpoints where ${where}`);
  return Math.max(...rows.map(({ metadata }) => JSON.parse(metadata).step));
}

test("an answer that is killed after its node has taken it goes on from there", async () => {
  const gate = join(server.data, "gate-answered");
  const thread_id = await newThread(server);
  await ended(server, await startRun(server, thread_id, { assistant_id: "ask", input: { gate } }));
  const answer = await startRun(server, thread_id, { assistant_id: "ask", command: { resume: "yes" } });
  await nextNodes(server, thread_id, "work");
  await eventually(async () => existsSync(`${gate}.began`));
  await server.restart("SIGKILL");
  openGate(gate, 1);
  expect(await ended(server, answer)).toMatchObject({ status: "success" });
  expect(await outputOf(server, answer)).toEqual({ gate, answer: "yes", done: true });
  expect(await threadStatus(server, thread_id)).toBe("idle");
});

test("killed at any moment, runs go on from their newest checkpoint and leave out no step", async () => {
  const steps = 60;
  const runs = await Promise.all(
    (["sync", "async"] as const).map(async (durability) => {
      const thread_id = await newThread(server);
      const file = join(server.data, `ticks-${durability}`);
      const run = await startRun(server, thread_id, {
        assistant_id: "counter",
        input: { steps, file, delay_ms: 5 },
        config: { recursion_limit: 100 },
        durability,
      });
      return { durability, thread_id, file, run, kills: [] as { done: number; saved: number }[] };
    }),
  );
  for (const at of [10, 25]) {
    const done = () => runs.map(({ file }) => linesOf(file).length);
    await eventually(() => Math.min(...done()) > 0 && Math.max(...done()) >= at, { every: 1 });
    await server.kill("SIGKILL");
    for (const { thread_id, file, kills } of runs) {
      kills.push({ done: linesOf(file).length, saved: await stepsSaved(server.data, thread_id) });
    }
    await server.start();
  }
  for (const { durability, file, run, kills } of runs) {
    expect((await ended(server, run)).status).toBe("success");
    const ticks = linesOf(file).map(Number);
    expect([...new Set(ticks)]).toEqual(upTo(steps).map((index) => index + 1));
    for (const { done, saved } of kills) {
      const last = Number(ticks[done - 1]);
      // Under `durability: async` (the default) checkpoints are behind the steps, by as much as the disk is slow.
      if (durability === "sync") expect(saved).toBeGreaterThanOrEqual(last - 1);
      const next = Number(ticks[done]);
      expect(next).toBeGreaterThan(saved);
      expect(next).toBeLessThanOrEqual(last + 1);
    }
  }
});

test("runs that were cut off and take long do not hold up new ones", async () => {
  const [gate, log] = [join(server.data, "gate-many"), join(server.data, "log-many")];
  const body = { assistant_id: "slow", input: { gate, log } };
  const runs = await Promise.all(upTo(20).map(async () => startRun(server, await newThread(server), body)));
  await eventually(() => linesOf(log).length === runs.length);
  await server.restart("SIGKILL");
  await eventually(() => linesOf(log).length === 2 * runs.length);
  const plain = { assistant_id: "plain", input: {} };
  await ok(http(server.url).post("/runs/wait", plain, { signal: AbortSignal.timeout(5000) }));
  openGate(gate, 1, 2, 3);
  for (const run of runs) expect((await ended(server, run)).status).toBe("success");
});
