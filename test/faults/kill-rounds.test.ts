/**
 * Many times kill -9 at a random moment while clients create threads and runs: whatever got a 2xx is there.
 *
 * What a round costs is a start, and most of that is that an executor thread loads LangGraph. So a process has several servers on SQLite,
 * each with a database and clients of its own, and a kill is a round of each of them. PostgreSQL, where there is one, takes the writes of
 * many side by side: one server has as many clients as the others together. The seed is printed; SKEIN_FAULT_SEED repeats a run's choices.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { query } from "../support/database.ts";
import { http } from "../support/http.ts";
import { freshSchema, onPostgres, missing as postgresMissing } from "../support/postgres.ts";
import { dropKeys, REDIS, missing as redisMissing } from "../support/redis.ts";
import { isThere } from "../support/requirements.ts";
import { eventually, project, tempDir } from "../support/server.ts";
import { Stack } from "./cluster/kit/stack.ts";
import { linesOf, upTo } from "./support.ts";

/** On SQLite. */
const SERVERS = 4;
const KILLS = 50;
const ROUNDS = SERVERS * KILLS;
/** Of each server on SQLite. */
const CLIENTS = 2;
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

/** One of the servers of a process: how it is made, and its database. */
interface Side {
  readonly on: "SQLite" | "PostgreSQL";
  readonly options: object;
  readonly clients: number;
  /** Where nodes leave their lines. */
  readonly file: string;
  readonly promised: Promised;
  rows<T extends object>(sql: string): Promise<T[]>;
}

const nothingYet = (): Promised => ({ threads: new Set(), runs: new Map() });

test(`${ROUNDS} times kill -9: whatever got a 2xx is there, and every run of it ends`, async () => {
  const both = await isThere("PostgreSQL and Redis", async () => (await postgresMissing()) ?? redisMissing());
  console.log(`kill rounds: SKEIN_FAULT_SEED=${seed}`);
  const started = performance.now();
  const sides = await killRounds(random(seed), both);
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  const promised = (both ? ["SQLite", "PostgreSQL"] : ["SQLite"]).map((name) => {
    const mine = sides.filter(({ on }) => on === name);
    const count = (of: keyof Promised) => mine.reduce((sum, { promised }) => sum + promised[of].size, 0);
    expect(count("runs")).toBeGreaterThan(ROUNDS / 2);
    return `${count("threads")} threads and ${count("runs")} runs on ${name}`;
  });
  console.log(`kill rounds: ${ROUNDS} rounds, ${promised.join(", ")} promised, ${seconds} s`);
}, 1_800_000);

async function killRounds(chance: () => number, both: boolean): Promise<readonly Side[]> {
  await using stack = new Stack();
  const { dir: config } = stack.use(await project({ "steps.mjs": STEPS }));
  const sides = await Promise.all(upTo(SERVERS).map(() => onSqlite(stack, config)));
  if (both) sides.push(await onPostgresAndRedis(stack, config));
  const host = stack.use(new Host(sides.map(({ options }) => options)));
  for (let kill = 0; kill < KILLS; kill++) {
    const urls = await host.start();
    const all = sides.map((side, index) => ({ side, url: urls[index] as string, fresh: nothingYet() }));
    const clients = all.flatMap(({ side, url, fresh }) =>
      upTo(side.clients).map(() => createUntilRefused(url, side.file, fresh, chance)),
    );
    // Not by the clock: however slow the machine is, something has been promised by then, mostly.
    const wanted = Math.floor(chance() * 4) / CLIENTS;
    const isEnough = ({ side: { clients }, fresh: { threads, runs } }: (typeof all)[number]): boolean =>
      threads.size + runs.size >= wanted * clients;
    await eventually(() => all.every(isEnough), { every: 2 });
    // Mostly in the middle of it; now and then late enough for runs to end.
    await delay(chance() < 0.9 ? chance() * 100 : 300 + chance() * 700);
    await host.kill("SIGKILL");
    await Promise.all(clients);
    for (const { side, fresh } of all) {
      await expectKept(side, fresh);
      for (const thread_id of fresh.threads) side.promised.threads.add(thread_id);
      for (const [run_id, thread_id] of fresh.runs) side.promised.runs.set(run_id, thread_id);
    }
  }
  const urls = await host.start();
  await Promise.all(sides.map((side, index) => expectAnswered(urls[index] as string, side)));
  expect(await host.kill("SIGTERM")).toBe(0);
  for (const side of sides) await expectEnded(side);
  expect(host.errors()).toEqual([]);
  return sides;
}

async function onSqlite(stack: Stack, config: string): Promise<Side> {
  const { dir: data } = stack.use(await tempDir("skein-kill-rounds-"));
  return {
    on: "SQLite",
    options: { config, data, threads: 1 },
    clients: CLIENTS,
    file: join(data, "steps"),
    promised: nothingYet(),
    rows: (sql) => query(data, sql),
  };
}

async function onPostgresAndRedis(stack: Stack, config: string): Promise<Side> {
  const { dir: data } = stack.use(await tempDir("skein-kill-rounds-"));
  const { name, uri, drop } = await freshSchema();
  const prefix = `${name}:`;
  stack.use({ [Symbol.asyncDispose]: async () => void (await Promise.all([drop(), dropKeys(REDIS, prefix)])) });
  const env = {
    DATABASE_URI: uri,
    LANGGRAPH_POSTGRES_POOL_MAX_SIZE: "4",
    SKEIN_LEASE_SECS: "3",
    REDIS_URI: REDIS,
    REDIS_KEY_PREFIX: prefix,
  };
  return {
    on: "PostgreSQL",
    options: { config, data, threads: 1, env },
    clients: SERVERS * CLIENTS,
    file: join(data, "steps"),
    promised: nothingYet(),
    rows: (sql) => onPostgres(uri, sql),
  };
}

/** The process: killed and started again. */
class Host implements AsyncDisposable {
  readonly #options: readonly object[];
  readonly #lines: string[] = [];
  #child: ChildProcess | undefined;
  #closed: Promise<unknown[]> | undefined;

  constructor(options: readonly object[]) {
    this.#options = options;
  }

  /** The URLs of its servers. */
  async start(): Promise<readonly string[]> {
    const program = fileURLToPath(new URL("./kill-rounds-host.mjs", import.meta.url));
    const { PATH, HOME, TMPDIR } = process.env;
    const child = spawn(process.execPath, [program, JSON.stringify(this.#options)], {
      env: { PATH, HOME, TMPDIR },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#child = child;
    this.#closed = once(child, "close");
    return new Promise((resolve, reject) => {
      for (const stream of [child.stdout, child.stderr]) {
        createInterface({ input: stream }).on("line", (line) => {
          if (line.startsWith('{"urls"')) resolve((JSON.parse(line) as { urls: string[] }).urls);
          else this.#lines.push(line);
        });
      }
      child.once("close", () =>
        reject(new Error(`it ended before it listened:\n${this.#lines.slice(-20).join("\n")}`)),
      );
    });
  }

  /** Its exit code, when it has ended. */
  async kill(signal: NodeJS.Signals): Promise<unknown> {
    this.#child?.kill(signal);
    return (await this.#closed)?.[0];
  }

  /** What it logged as an error of its own, and what is no log at all. */
  errors(): readonly string[] {
    return this.#lines.filter((line) => !line.startsWith("{") || Number(JSON.parse(line).level) >= 50);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill("SIGKILL");
  }
}

/** What a client does: it believes what got a 2xx, and stops when the server is gone. */
async function createUntilRefused(url: string, file: string, into: Promised, chance: () => number) {
  const { post } = http(url);
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
async function expectKept(side: Side, { threads, runs }: Promised): Promise<void> {
  const kept = new Set(
    (await side.rows<{ thread_id: string }>("select thread_id from threads")).map((t) => t.thread_id),
  );
  const rows = await side.rows<{ run_id: string; thread_id: string }>("select run_id, thread_id from runs");
  const keptRuns = new Map(rows.map(({ run_id, thread_id }) => [run_id, thread_id]));
  for (const thread_id of threads) expect(kept.has(thread_id), `thread ${thread_id}`).toBe(true);
  for (const [run_id, thread_id] of runs) {
    expect(keptRuns.get(run_id), `run ${run_id}`).toBe(thread_id);
    expect(kept.has(thread_id), `thread ${thread_id} of run ${run_id}`).toBe(true);
  }
}

/** Nothing is in flight any more, and every run can be had. */
async function expectAnswered(url: string, { promised }: Side): Promise<void> {
  const { get } = http(url);
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
}

async function expectEnded({ promised, file, rows: ask }: Side): Promise<void> {
  const rows = await ask<{ run_id: string; status: string; attempt: number; error: string; kwargs: string }>(
    "select run_id, status, attempt, error, kwargs from runs",
  );
  const lines = new Set(linesOf(file));
  let lost = 0;
  for (const { run_id, status, attempt, error, kwargs } of rows) {
    const { id } = JSON.parse(kwargs).input;
    if (status === "success") expect(lines.has(`${id} one`) && lines.has(`${id} two`), run_id).toBe(true);
    else {
      lost++;
      expect({ run_id, status, attempt: Number(attempt) }).toEqual({ run_id, status: "error", attempt: 3 });
      expect(JSON.parse(error)).toMatchObject({ error: "RunLostError" });
    }
  }
  for (const run_id of promised.runs.keys()) expect(rows.some((row) => row.run_id === run_id)).toBe(true);
  expect(await ask("select thread_id from threads where status = 'busy'")).toEqual([]);
  console.log(`kill rounds: ${rows.length} runs ended, ${lost} of them lost all attempts`);
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
