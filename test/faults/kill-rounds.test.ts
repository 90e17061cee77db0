/**
 * Many times kill -9 at a random moment while clients create threads and runs: whatever got a 2xx is there.
 * Two servers, one per lane. The seed is printed; SKEIN_FAULT_SEED repeats a run's choices.
 */
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { query } from "../support/database.ts";
import { http } from "../support/http.ts";
import { eventually, ON_POSTGRES, project, startServer, type TestServer } from "../support/server.ts";
import { linesOf, upTo } from "./support.ts";

/** Of each a hundred milliseconds are the test and a second is the start of a server. */
const ROUNDS = ON_POSTGRES ? 50 : 200;
const LANES = 2;
const CLIENTS = 3;
const seed = Number(process.env.SKEIN_FAULT_SEED ?? Date.now() % 2 ** 31);

/** Two short steps; each leaves a line in `file`. */
const STEPS = `
  import { appendFileSync } from "node:fs";
  import { setTimeout as delay } from "node:timers/promises";
  import { Annotation, END, START, StateGraph } from "@langchain/langgraph";
  const State = Annotation.Root({ id: Annotation(), file: Annotation(), ms: Annotation(), done: Annotation() });
  const step = (name) => async ({ id, file, ms }) => {
    if (ms) await delay(ms);
    appendFileSync(file, id + " " + name + "\\n");
    return { done: name };
  };
  export const graph = new StateGraph(State)
    .addNode("one", step("one"))
    .addNode("two", step("two"))
    .addEdge(START, "one")
    .addEdge("one", "two")
    .addEdge("two", END)
    .compile();`;

interface Promised {
  readonly threads: Set<string>;
  /** Run id → thread id. */
  readonly runs: Map<string, string>;
}

test(`${ROUNDS} times kill -9: whatever got a 2xx is there, and every run of it ends`, async () => {
  console.log(`kill rounds: SKEIN_FAULT_SEED=${seed}`);
  const started = performance.now();
  const lanes = await Promise.all(upTo(LANES).map((lane) => killRounds(ROUNDS / LANES, random(seed + lane))));
  const threads = lanes.reduce((sum, lane) => sum + lane.threads.size, 0);
  const runs = lanes.reduce((sum, lane) => sum + lane.runs.size, 0);
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  console.log(`kill rounds: ${ROUNDS} rounds, ${threads} threads and ${runs} runs promised, ${seconds} s`);
  expect(runs).toBeGreaterThan(ROUNDS);
}, 480_000);

async function killRounds(rounds: number, chance: () => number): Promise<Promised> {
  await using steps = await project({ "steps.mjs": STEPS });
  await using server = await startServer({ project: steps, args: ["--threads", "1"] });
  const file = join(server.data, "steps");
  const promised: Promised = { threads: new Set(), runs: new Map() };
  for (let round = 0; round < rounds; round++) {
    if (round > 0) await server.start();
    const fresh: Promised = { threads: new Set(), runs: new Map() };
    const clients = upTo(CLIENTS).map(() => createUntilRefused(server, file, fresh, chance));
    // However slow the machine is: mostly something has been promised by then.
    if (chance() < 0.75) await eventually(() => fresh.threads.size + fresh.runs.size > 0, { every: 2 });
    // Mostly while it has hardly begun; now and then late enough for runs to end.
    await delay(chance() < 0.9 ? chance() * 250 : 300 + chance() * 700);
    await server.kill("SIGKILL");
    await Promise.all(clients);
    await expectKept(server, fresh);
    for (const thread_id of fresh.threads) promised.threads.add(thread_id);
    for (const [run_id, thread_id] of fresh.runs) promised.runs.set(run_id, thread_id);
  }
  await server.start();
  await expectEnded(server, promised, file);
  return promised;
}

/** What a client does: it believes what got a 2xx, and stops when the server is gone. */
async function createUntilRefused(server: TestServer, file: string, into: Promised, chance: () => number) {
  const { post } = http(server.url);
  let thread_id: string | undefined;
  for (;;) {
    const input = { id: chance().toString(36).slice(2), file, ms: chance() < 0.3 ? chance() * 60 : 0 };
    const body = { assistant_id: "steps", input, on_completion: "keep", stream_resumable: chance() < 0.2 };
    const kind = chance();
    const path = kind < 0.3 ? "/threads" : kind < 0.6 && thread_id ? `/threads/${thread_id}/runs` : "/runs";
    const { on_completion: _, ...stateful } = body;
    try {
      const answer = await post(path, path === "/threads" ? {} : path === "/runs" ? body : stateful);
      expect(answer.status, answer.text).toBe(200);
      // The status line may have come whole and the body not.
      if (answer.body === undefined) return;
      if (path !== "/threads") into.runs.set(answer.body.run_id, answer.body.thread_id);
      else {
        thread_id = answer.body.thread_id as string;
        into.threads.add(thread_id);
      }
    } catch (error) {
      if (error instanceof TypeError || (error as { code?: string }).code === "ECONNRESET") return;
      throw error;
    }
  }
}

/** Looks into the database itself, so that no restart can have made up for anything. */
async function expectKept(server: TestServer, { threads, runs }: Promised): Promise<void> {
  const kept = new Set(
    (await query<{ thread_id: string }>(server.data, "select thread_id from threads")).map((t) => t.thread_id),
  );
  const rows = await query<{ run_id: string; thread_id: string }>(server.data, "select run_id, thread_id from runs");
  const keptRuns = new Map(rows.map(({ run_id, thread_id }) => [run_id, thread_id]));
  for (const thread_id of threads) expect(kept.has(thread_id), `thread ${thread_id}`).toBe(true);
  for (const [run_id, thread_id] of runs) {
    expect(keptRuns.get(run_id), `run ${run_id}`).toBe(thread_id);
    expect(kept.has(thread_id), `thread ${thread_id} of run ${run_id}`).toBe(true);
  }
}

async function expectEnded(server: TestServer, promised: Promised, file: string): Promise<void> {
  const { get } = http(server.url);
  await eventually(
    async () => {
      const { text } = await get("/metrics");
      const open = [...text.matchAll(/status="(?:pending|running)"\} (\d+)/g)].map(([, count]) => Number(count));
      return open.length >= 2 && open.every((count) => count === 0);
    },
    { ms: 60_000, every: 100 },
  );
  for (const [run_id, thread_id] of promised.runs) {
    expect((await get(`/threads/${thread_id}/runs/${run_id}`)).status).toBe(200);
  }
  expect(await server.stop()).toEqual({ code: 0, signal: null });
  const rows = await query<{ run_id: string; status: string; attempt: number; error: string; kwargs: string }>(
    server.data,
    "select run_id, status, attempt, error, kwargs from runs",
  );
  const lines = new Set(linesOf(file));
  let lost = 0;
  for (const { run_id, status, attempt, error, kwargs } of rows) {
    const { id } = JSON.parse(kwargs).input;
    if (status === "success") expect(lines.has(`${id} one`) && lines.has(`${id} two`), run_id).toBe(true);
    else {
      lost++;
      expect({ run_id, status, attempt }).toEqual({ run_id, status: "error", attempt: 3 });
      expect(JSON.parse(error)).toMatchObject({ error: "RunLostError" });
    }
  }
  for (const run_id of promised.runs.keys()) expect(rows.some((row) => row.run_id === run_id)).toBe(true);
  const busy = await query(server.data, "select thread_id from threads where status = 'busy'");
  expect(busy).toEqual([]);
  console.log(`kill rounds: ${rows.length} runs ended, ${lost} of them lost all attempts`);
  expect(server.logs().filter(({ level, msg }) => Number(level) >= 50 && msg !== "stopping failed")).toEqual([]);
}

/** mulberry32 */
function random(start: number): () => number {
  let state = start | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
