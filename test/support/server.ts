/**
 * A real server process on a free port: what a test kills, freezes and restarts is what users run.
 *
 *     await using server = await startServer();
 *     const { body } = await http(server.url).get("/info");
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { thresholdOf } from "../../src/early-optimization.ts";
import { freshSchema, type TestDatabase } from "./postgres.ts";
import { FIXTURES, ROOT, type TempDir, tempDir } from "./project.ts";
import { dropKeys, REDIS } from "./redis.ts";

export { FIXTURES, project, put, type TempDir, tempDir } from "./project.ts";

export interface ServerOptions {
  /** Folder with a langgraph.json; the fixture graphs when not given. A folder made by `project()` stays its maker's. */
  readonly project?: string | Pick<TempDir, "dir">;
  readonly command?: "start" | "dev" | "worker";
  /** More flags, after `--config`, `--host`, `--port` and `--data`. */
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Data folder to use and to keep; a temporary one when not given. */
  readonly data?: string;
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export type LogLine = Readonly<Record<string, unknown>>;

const CLI = join(ROOT, "dist", "cli.js");
/** A server of a test lives for seconds: what V8 would spend on optimising it early is not earned back. */
const V8 = thresholdOf(process.versions.v8);
const NODE_ARGS = V8 === undefined ? [] : [`${V8.flag}=${V8.usual}`];
const START_MS = 60_000;
const STOP_MS = 15_000;

/** Servers of a test file that ends badly must not outlive it. */
const running = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/** `SKEIN_TEST_DIALECT=postgres`: servers keep their data on PostgreSQL and tell each other by Redis, a schema for each data folder. */
export const ON_POSTGRES = process.env.SKEIN_TEST_DIALECT === "postgres";
const databases = new Map<string, Database>();

/** Drops what the servers of a test file had there; `test/support/drop-databases.ts` calls it after each. */
export async function dropDatabases(): Promise<void> {
  const all = [...databases.values()];
  databases.clear();
  await Promise.all(all.map((each) => each.drop()));
}

interface Database extends TestDatabase {
  /** Of its keys in Redis. */
  readonly prefix: string;
  readonly env: Readonly<Record<string, string>>;
}

async function freshDatabase(): Promise<Database> {
  const { name, uri, drop } = await freshSchema();
  const prefix = `${name}:`;
  return {
    name,
    uri,
    prefix,
    // Many servers share one PostgreSQL; and what a killed one held is only free when its lease is over.
    env: {
      DATABASE_URI: uri,
      LANGGRAPH_POSTGRES_POOL_MAX_SIZE: "4",
      SKEIN_LEASE_SECS: "3",
      REDIS_URI: REDIS,
      REDIS_KEY_PREFIX: prefix,
    },
    drop: async () => void (await Promise.all([drop(), dropKeys(REDIS, prefix)])),
  };
}

/** The settings that make a server on this folder keep its data where this dialect does. */
export async function databaseOf(data: string): Promise<Readonly<Record<string, string>>> {
  if (!ON_POSTGRES) return {};
  const database = databases.get(data) ?? (await freshDatabase());
  databases.set(data, database);
  return database.env;
}

/** Makes Redis forget what servers on this folder have told there. */
export async function forgetLive(data: string): Promise<void> {
  const database = databases.get(data);
  if (database !== undefined) await dropKeys(REDIS, database.prefix);
}

/** Where the data of servers on this folder is; undefined when it is in the folder. */
export const databaseUri = (data: string): string | undefined => databases.get(data)?.uri;

export async function startServer(options: ServerOptions = {}): Promise<TestServer> {
  if (!existsSync(CLI))
    throw new Error(`${CLI} is missing. Run \`npm run build\` first (\`npm test\` does it for you).`);
  const temp = options.data === undefined ? await tempDir("skein-data-") : undefined;
  const data = options.data ?? temp?.dir ?? "";
  const env = { ...(await databaseOf(data)), ...options.env };
  const server = new TestServer({ ...options, env }, data, temp);
  try {
    await server.start();
    return server;
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}

export class TestServer implements AsyncDisposable {
  readonly data: string;
  readonly #options: ServerOptions;
  readonly #temp: TempDir | undefined;
  readonly #lines: string[] = [];
  #child: ChildProcess | undefined;
  #exited: Promise<Exit> | undefined;
  #url = "";

  constructor(options: ServerOptions, data: string, temp: TempDir | undefined) {
    this.#options = options;
    this.data = data;
    this.#temp = temp;
  }

  get url(): string {
    return this.#url;
  }

  get pid(): number {
    if (this.#child?.pid === undefined) throw new Error("The server is not running");
    return this.#child.pid;
  }

  get isRunning(): boolean {
    return this.#child !== undefined && running.has(this.#child);
  }

  /** Settles when the current process ends, however it ends. */
  get exited(): Promise<Exit> {
    if (this.#exited === undefined) throw new Error("The server was not started");
    return this.#exited;
  }

  /** Everything the server printed, over all its restarts. */
  get output(): string {
    return this.#lines.join("\n");
  }

  /** Its JSON log lines, over all its restarts. */
  logs(): LogLine[] {
    return this.#lines.map(parseLog).filter((line) => line !== undefined);
  }

  /** Starts the process on the port it had before, or a free one, and waits until it listens. */
  async start(): Promise<void> {
    const child = spawn(process.execPath, [...NODE_ARGS, CLI, ...this.#args()], {
      cwd: ROOT,
      env: { ...inherited(), ...this.#options.env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    running.add(child);
    this.#child = child;
    this.#exited = new Promise((resolve) => {
      child.once("error", () => resolve({ code: null, signal: null }));
      // `close` and not `exit`: by then all output has been read.
      child.once("close", (code, signal) => resolve({ code, signal }));
    });
    void this.#exited.then(() => running.delete(child));
    this.#url = await this.#listening(child);
  }

  /** Sends a signal. Resolves with the exit for those that end a process, at once for SIGSTOP and SIGCONT. */
  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<Exit | undefined> {
    this.#child?.kill(signal);
    return signal === "SIGSTOP" || signal === "SIGCONT" ? undefined : this.exited;
  }

  /** Asks politely (SIGTERM) and waits. A server that does not go is killed, and the test fails. */
  async stop(): Promise<Exit> {
    if (!this.isRunning) return this.exited;
    this.#child?.kill("SIGTERM");
    const exit = await within(STOP_MS, this.exited);
    if (exit !== undefined) return exit;
    await this.kill("SIGKILL");
    throw new Error(`The server did not stop within ${STOP_MS} ms of SIGTERM.\n${this.output}`);
  }

  /** The same data, the same port, a new process. A signal other than SIGTERM makes it a crash. */
  async restart(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    if (signal === "SIGTERM") await this.stop();
    else if (this.isRunning) await this.kill(signal);
    await this.start();
  }

  /** Ends the process at once, whatever still runs in it: a test that is about stopping calls `stop`. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.isRunning) await this.kill("SIGKILL");
    await this.#temp?.[Symbol.asyncDispose]();
  }

  #args(): string[] {
    const { project = FIXTURES, command = "start", args = [] } = this.#options;
    const folder = typeof project === "string" ? project : project.dir;
    const port = this.#url === "" ? "0" : new URL(this.#url).port;
    return [command, "--config", folder, "--host", "127.0.0.1", "--port", port, "--data", this.data, ...args];
  }

  async #listening(child: ChildProcess): Promise<string> {
    const url = new Promise<string>((resolve) => {
      this.#read(child, (line) => {
        const url = urlIn(line);
        if (url !== undefined) resolve(url);
      });
    });
    const first = await within(START_MS, Promise.race([url, this.exited]));
    if (typeof first === "string") return first;
    const why = first === undefined ? `did not listen within ${START_MS} ms` : `ended with ${JSON.stringify(first)}`;
    throw new Error(`The server ${why}. It printed:\n${this.output}`);
  }

  #read(child: ChildProcess, onLine: (line: string) => void): void {
    for (const stream of [child.stdout, child.stderr]) {
      if (stream === null) continue;
      createInterface({ input: stream }).on("line", (line) => {
        this.#lines.push(line);
        onLine(line);
      });
    }
  }
}

/** The machine's settings, not the test runner's: a server must not see `VITEST` or `NODE_ENV=test`. */
function inherited(): Record<string, string> {
  const kept = ["PATH", "HOME", "TMPDIR", "LANG", "TZ", "NODE_V8_COVERAGE"];
  return Object.fromEntries(
    kept.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]])),
  );
}

/** `start` logs JSON, `dev` writes for people. */
function urlIn(line: string): string | undefined {
  const log = parseLog(line);
  if (log?.msg === "listening" && typeof log.url === "string") return log.url;
  return /\bAPI\s+(http:\S+)/.exec(line)?.[1];
}

function parseLog(line: string): LogLine | undefined {
  if (!line.startsWith("{")) return undefined;
  try {
    return JSON.parse(line) as LogLine;
  } catch {
    return undefined;
  }
}

/** The promise's value, or undefined when it takes longer. */
async function within<T>(ms: number, promise: Promise<T>): Promise<T | undefined> {
  const done = new AbortController();
  const late = new Promise<undefined>((resolve) => {
    const timer = setTimeout(resolve, ms, undefined);
    done.signal.addEventListener("abort", () => clearTimeout(timer));
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    done.abort();
  }
}

/** Waits until `check` gives something truthy; for effects that no response announces. */
export async function eventually<T>(
  check: () => Promise<T> | T,
  { ms = 30_000, every = 20 } = {},
): Promise<NonNullable<T>> {
  const end = performance.now() + ms;
  for (;;) {
    const value = await check();
    if (value) return value as NonNullable<T>;
    if (performance.now() > end) throw new Error(`Not within ${ms} ms: ${check}`);
    await new Promise((resolve) => setTimeout(resolve, every));
  }
}

/** Environment of a process whose clock is so far ahead of this machine's, milliseconds; behind when negative. */
export function clockAhead(ms: number): Readonly<Record<string, string>> {
  const preload = join(import.meta.dirname, "skewed-clock.cjs");
  return { NODE_OPTIONS: `--require ${preload}`, SKEIN_TEST_SKEW_MS: String(ms) };
}
