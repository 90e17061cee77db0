/** What the tests of `skein doctor` and `skein move` share: a database of either kind, a project, and a server's data of all kinds. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import Libsql from "libsql";
import { expect } from "vitest";
import { http, ok } from "../support/http.ts";
import { freshSchema, onPostgres } from "../support/postgres.ts";
import { FIXTURES, project, ROOT, type TempDir, tempDir } from "../support/project.ts";
import { eventually, startServer, type TestServer } from "../support/server.ts";
import { openSse } from "../support/sse.ts";

const EMBED = `
const KINDS = [["dog", "puppy", "wolf"], ["car", "truck"], ["red", "blue"]];
export async function embed(texts) {
  return texts.map((text) => KINDS.map((words) => words.filter((word) => text.includes(word)).length / 3));
}`;

const GRAPHS = ["plain", "chat", "editing", "hitl", "nested", "team", "error", "slow", "remember"];

/** The fixture graphs, and a store that searches by meaning. */
export const makeProject = (more: object = {}): Promise<TempDir> =>
  project(
    { "embed.mjs": EMBED },
    {
      graphs: Object.fromEntries(GRAPHS.map((name) => [name, join(FIXTURES, `${name}.mjs:graph`)])),
      store: { index: { embed: "./embed.mjs:embed", dims: 3, fields: ["text"] }, ttl: { sweep_interval_minutes: 60 } },
      ...more,
    },
  );

export interface CliResult {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly out: string;
  readonly err: string;
}

export interface Running {
  readonly pid: number;
  readonly done: Promise<CliResult>;
  kill(): void;
}

/** Starts the command as users do. */
export function skein(args: readonly string[], env: Readonly<Record<string, string>> = {}): Running {
  const { PATH = "", HOME = "" } = process.env;
  const child = spawn(process.execPath, [join(ROOT, "dist", "cli.js"), ...args], { env: { PATH, HOME, ...env } });
  const text = { out: "", err: "" };
  child.stdout.setEncoding("utf8").on("data", (more: string) => {
    text.out += more;
  });
  child.stderr.setEncoding("utf8").on("data", (more: string) => {
    text.err += more;
  });
  const done = new Promise<CliResult>((resolve) => {
    child.once("close", (code, signal) => resolve({ code, signal, ...text }));
  });
  return { pid: child.pid ?? 0, done, kill: () => void child.kill("SIGKILL") };
}

/** A database of one kind, empty at first. */
export class Place implements AsyncDisposable {
  readonly dialect: "sqlite" | "postgres";
  readonly data: string;
  readonly env: Readonly<Record<string, string>>;
  /** What `skein move` calls it. */
  readonly name: string;
  readonly #undo: () => Promise<unknown>;

  private constructor(
    dialect: Place["dialect"],
    data: string,
    env: Place["env"],
    name: string,
    undo: () => Promise<unknown>,
  ) {
    this.dialect = dialect;
    this.data = data;
    this.env = env;
    this.name = name;
    this.#undo = undo;
  }

  static async make(dialect: Place["dialect"]): Promise<Place> {
    const temp = await tempDir("skein-place-");
    if (dialect === "sqlite")
      return new Place(dialect, temp.dir, {}, temp.dir, async () => temp[Symbol.asyncDispose]());
    const schema = await freshSchema();
    const env = { DATABASE_URI: schema.uri, LANGGRAPH_POSTGRES_POOL_MAX_SIZE: "4" };
    return new Place(dialect, temp.dir, env, schema.uri, async () => {
      await schema.drop();
      await temp[Symbol.asyncDispose]();
    });
  }

  get uri(): string {
    return this.env.DATABASE_URI ?? "";
  }

  start(project: Pick<TempDir, "dir">, env: Readonly<Record<string, string>> = {}): Promise<TestServer> {
    return startServer({ project, data: this.data, args: ["--threads", "1"], env: { ...this.env, ...env } });
  }

  skein(command: string, project: Pick<TempDir, "dir">, ...args: readonly string[]): Promise<CliResult> {
    return skein([command, "--config", project.dir, "--data", this.data, ...args], this.env).done;
  }

  /** What `skein doctor --json` finds. */
  async doctor(project: Pick<TempDir, "dir">, ...args: readonly string[]): Promise<Diagnosis> {
    const { code, out, err } = await this.skein("doctor", project, "--json", ...args);
    if (out === "") throw new Error(`skein doctor said nothing, and ended with ${code}: ${err}`);
    const report = JSON.parse(out) as Diagnosis;
    expect(code).toBe(report.ok ? 0 : 1);
    return report;
  }

  /** Runs statements, whatever constraints say; rows of the last one. */
  async sql<T extends Record<string, unknown>>(...statements: readonly string[]): Promise<T[]> {
    if (this.dialect === "postgres") {
      return onPostgres<T>(this.uri, "set session_replication_role = replica", ...statements);
    }
    const db = new Libsql(join(this.data, "skein.db"));
    try {
      db.exec("PRAGMA busy_timeout=5000; PRAGMA foreign_keys=OFF");
      for (const statement of statements.slice(0, -1)) db.exec(statement);
      const last = db.prepare(statements.at(-1) ?? "select 1");
      if (last.reader) return last.all() as T[];
      last.run();
      return [];
    } finally {
      db.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#undo();
  }
}

export interface Diagnosis {
  readonly ok: boolean;
  readonly served: boolean;
  readonly findings: readonly {
    readonly check: string;
    readonly id: string | number;
    readonly run_id?: string;
    readonly thread_id?: string;
    readonly mended: string | null;
  }[];
}

export interface Populated {
  readonly threads: readonly string[];
  readonly chat: string;
  /** Its messages are in parts. */
  readonly long: string;
  readonly waiting: string;
  readonly resumable: { readonly thread_id: string; readonly run_id: string };
  readonly delayed: { readonly thread_id: string; readonly run_id: string };
  readonly cron_id: string;
}

type Any = Record<string, never> & {
  thread_id: string;
  run_id: string;
  cron_id: string;
  assistant_id: string;
  checkpoint: object;
};

/** Data of all kinds, made as clients make it. */
export async function populate({ url }: TestServer): Promise<Populated> {
  const api = http(url);
  const post = (path: string, body: unknown, headers = {}) => ok(api.post<Any>(path, body, { headers }));
  const thread = async (body: object = {}) => (await post("/threads", body)).thread_id;
  const human = (content: string) => ({ messages: [{ role: "user", content }] });
  const run = (thread_id: string, assistant_id: string, input: unknown, more: object = {}) =>
    post(`/threads/${thread_id}/runs/wait`, { assistant_id, input, ...more });

  const chat = await thread({ metadata: { owner: 'ä\u0001 "quoted"', n: 1.5, deep: { list: [1, null] } } });
  for (const word of ["one", "two", "dog €", "four"]) await run(chat, "chat", human(word));
  const long = await thread();
  const many = (n: number) =>
    Array.from({ length: n }, (_, i) => ({ role: "user", content: `message ${i} ${"x".repeat(200)}` }));
  for (const n of [150, 1, 60]) await run(long, "chat", { messages: many(n) });
  const edited = await thread({ ttl: { strategy: "keep_latest", ttl: 90.5 } });
  for (const word of ["hello", "edit", "again", "remove"]) await run(edited, "editing", human(word));
  const nested = await thread();
  await run(nested, "nested", { ask: true });
  await run(nested, "nested", undefined, { command: { resume: "yes" } });
  await run(await thread(), "nested", {}, { durability: "exit" });
  await run(await thread(), "team", human("hi"), { durability: "sync" });
  const waiting = await thread();
  await run(waiting, "hitl", { question: "Really?" });
  await run(await thread(), "error", {}, { raise_error: false });
  const history = await ok(api.get<Any[]>(`/threads/${chat}/history?limit=3`));
  await post(`/threads/${chat}/state`, { values: human("by hand"), checkpoint: history[1]?.checkpoint });
  await run(chat, "chat", human("after the fork"));
  const copy = (await post(`/threads/${chat}/copy`, {})).thread_id;
  await run(copy, "chat", human("on the copy"));

  await post("/runs/wait", { assistant_id: "plain", input: { text: "hi" } });
  await post("/runs/wait", { assistant_id: "plain", input: { text: "kept" }, on_completion: "keep" });
  await post("/runs", { assistant_id: "plain", input: {} }, { "idempotency-key": "once" });
  const gone = await thread();
  await run(gone, "chat", human("to be deleted"));
  await ok(api.delete(`/threads/${gone}`));
  const cancelled = await post(`/threads/${nested}/runs`, { assistant_id: "slow", input: { delay_ms: 60_000 } });
  await post(`/threads/${nested}/runs/${cancelled.run_id}/cancel?wait=1&action=rollback`, undefined);

  const streamed = await thread();
  await using stream = await openSse(`${url}/threads/${streamed}/runs/stream`, {
    method: "POST",
    body: {
      assistant_id: "chat",
      input: human("streamed"),
      stream_resumable: true,
      stream_mode: ["values", "messages"],
    },
  } as never);
  await stream.rest();
  const resumable = {
    thread_id: streamed,
    run_id: (await ok(api.get<Any[]>(`/threads/${streamed}/runs`)))[0]?.run_id ?? "",
  };

  const assistant = await post("/assistants", {
    graph_id: "chat",
    name: "Zoë",
    config: { configurable: { tokens: 3 } },
  });
  await ok(api.patch(`/assistants/${assistant.assistant_id}`, { name: "Zoë II" }));
  const { cron_id } = await post("/runs/crons", {
    assistant_id: assistant.assistant_id,
    schedule: "0 0 1 1 *",
    input: human("tick"),
  });
  await post(`/threads/${chat}/runs/crons`, { assistant_id: "chat", schedule: "0 0 1 1 *", input: human("tock") });
  const items = [
    ["dog", { text: "a dog", nested: { a: [1, 2.25] } }],
    ["red car", { text: "a red car" }],
    ["plain", { title: "no text" }],
  ] as const;
  for (const [key, value] of items) await ok(api.put("/store/items", { namespace: ["users", "ü"], key, value }));
  await ok(api.put("/store/items", { namespace: ["short"], key: "lived", value: { text: "truck" }, ttl: 600.5 }));
  const later = await thread();
  const delayed = await post(`/threads/${later}/runs`, {
    assistant_id: "chat",
    input: human("later"),
    after_seconds: 3600,
  });

  await eventually(async () => {
    const busy = await ok(api.post<Any[]>("/threads/search", { status: "busy", limit: 100 }));
    return busy.every(({ thread_id }) => thread_id === later);
  });
  const all = await ok(api.post<Any[]>("/threads/search", { limit: 1000 }));
  return {
    threads: all.map(({ thread_id }) => thread_id).sort(),
    chat,
    long,
    waiting,
    resumable,
    delayed: { thread_id: later, run_id: delayed.run_id },
    cron_id,
  };
}
