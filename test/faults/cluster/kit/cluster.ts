/**
 * Several real server processes that are one server: one database, one Redis, and for each process a network of its own to
 * either. The cluster remembers every run that was acknowledged, so that the audit can ask for it.
 *
 *     await using cluster = await startCluster(services, { members: ["api", "worker", "worker"] });
 */
import { join } from "node:path";
import { type Answer, http, ok } from "../../../support/http.ts";
import { type TempDir, tempDir } from "../../../support/project.ts";
import { clockAhead, eventually, startServer, type TestServer } from "../../../support/server.ts";
import { openSse, type SseOptions, type SseStream } from "../../../support/sse.ts";
import type { RunRow } from "../../support.ts";
import { audit, type Exceptions } from "./audit.ts";
import { clusterProject } from "./graphs.ts";
import { redisReplies } from "./resp.ts";
import type { Services } from "./services.ts";
import { Stack } from "./stack.ts";
import { startWire, type Wire } from "./wire.ts";

/** `both` serves and works, as every process does unless it is told otherwise. */
export type Role = "both" | "api" | "worker";

export interface MemberOptions {
  readonly role: Role;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** How far its clock is ahead of the others', milliseconds. */
  readonly skewMs?: number;
}

export interface ClusterOptions {
  readonly members: readonly (Role | MemberOptions)[];
  /** Settings of all members. */
  readonly env?: Readonly<Record<string, string>>;
  /** More of `langgraph.json`. */
  readonly config?: Readonly<Record<string, unknown>>;
}

/** Long enough for a busy machine to renew it, short enough to wait for its end. */
export const LEASE_MS = 2000;

const COMMANDS = {
  both: { command: "start", args: [] },
  api: { command: "start", args: ["--no-worker"] },
  worker: { command: "worker", args: [] },
} as const;

/** One process, and the wires it hangs on. */
export class Member implements AsyncDisposable {
  readonly role: Role;
  readonly server: TestServer;
  readonly toDatabase: Wire;
  readonly toRedis: Wire;
  #watching: Promise<void> | undefined;
  #isSupervised = false;

  constructor(role: Role, server: TestServer, toDatabase: Wire, toRedis: Wire) {
    this.role = role;
    this.server = server;
    this.toDatabase = toDatabase;
    this.toRedis = toRedis;
  }

  get url(): string {
    return this.server.url;
  }

  get http() {
    return http(this.server.url);
  }

  open(path: string, options: SseOptions = {}): Promise<SseStream> {
    return openSse(`${this.server.url}${path}`, options);
  }

  freeze(): Promise<unknown> {
    return this.server.kill("SIGSTOP");
  }

  thaw(): Promise<unknown> {
    return this.server.kill("SIGCONT");
  }

  crash(): Promise<unknown> {
    return this.server.kill("SIGKILL");
  }

  /** Runs, awake and on whole wires, whatever a test has left it in. */
  async heal(): Promise<void> {
    await this.dismiss();
    await Promise.all([this.toDatabase.set("pass"), this.toRedis.set("pass")]);
    if (this.server.isRunning) await this.thaw();
    else await this.server.start();
  }

  /** Starts the process again whenever it ends, as an orchestrator does, until it is dismissed. */
  supervise(): void {
    const watch = async (): Promise<void> => {
      this.#isSupervised = true;
      while (this.#isSupervised) {
        await this.server.exited;
        if (this.#isSupervised) await this.server.start();
      }
    };
    this.#watching = watch();
    this.#watching.catch(() => undefined);
  }

  /** Nobody starts it again; a start in hand comes to its end. */
  async dismiss(): Promise<void> {
    this.#isSupervised = false;
    if (!this.server.isRunning) await this.#watching;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dismiss();
    await this.server[Symbol.asyncDispose]();
    await Promise.all([this.toDatabase[Symbol.asyncDispose](), this.toRedis[Symbol.asyncDispose]()]);
  }
}

export async function startCluster(services: Services, options: ClusterOptions): Promise<Cluster> {
  const stack = new Stack();
  try {
    const database = await services.postgres.createDatabase();
    const temp = stack.use(await tempDir("skein-cluster-"));
    const project = stack.use(await clusterProject(options.config));
    const members = await Promise.all(
      options.members.map(async (given, index) => {
        const member = await startMember(services, database, project, options, given, join(temp.dir, `data-${index}`));
        return stack.use(member);
      }),
    );
    return new Cluster(services, database, temp.dir, members, stack);
  } catch (error) {
    await stack[Symbol.asyncDispose]();
    throw error;
  }
}

async function startMember(
  { postgres, redis }: Services,
  database: string,
  project: Pick<TempDir, "dir">,
  { env }: ClusterOptions,
  given: Role | MemberOptions,
  data: string,
): Promise<Member> {
  const { role, args = [], env: own, skewMs }: MemberOptions = typeof given === "string" ? { role: given } : given;
  const [toDatabase, toRedis] = await Promise.all([startWire(postgres.port), startWire(redis.port, redisReplies)]);
  const server = await startServer({
    project,
    data,
    command: COMMANDS[role].command,
    args: ["--threads", "1", ...COMMANDS[role].args, ...args],
    env: {
      DATABASE_URI: postgres.uri(database, toDatabase.port),
      REDIS_URI: `redis://127.0.0.1:${toRedis.port}`,
      REDIS_KEY_PREFIX: `${database}:`,
      SKEIN_LEASE_SECS: String(LEASE_MS / 1000),
      LOG_LEVEL: "info",
      ...env,
      ...own,
      ...(skewMs === undefined ? {} : clockAhead(skewMs)),
    },
  });
  return new Member(role, server, toDatabase, toRedis);
}

export class Cluster implements AsyncDisposable {
  readonly services: Services;
  readonly database: string;
  /** For gates and logs of nodes; on the disk of all members. */
  readonly dir: string;
  readonly members: readonly Member[];
  readonly #promised = new Map<string, string>();
  readonly #stack: AsyncDisposable;

  constructor(services: Services, database: string, dir: string, members: readonly Member[], stack: AsyncDisposable) {
    this.services = services;
    this.database = database;
    this.dir = dir;
    this.members = members;
    this.#stack = stack;
  }

  member(index: number): Member {
    const member = this.members[index];
    if (member === undefined) throw new Error(`the cluster has no member ${index}`);
    return member;
  }

  /** The member whose process has this id. */
  memberOf(pid: number): Member {
    const member = this.members.find(({ server }) => server.pid === pid);
    if (member === undefined) throw new Error(`no member is process ${pid}`);
    return member;
  }

  /** Members that answer HTTP. */
  get front(): readonly Member[] {
    return this.members.filter(({ role }) => role !== "worker");
  }

  file(name: string): string {
    return join(this.dir, name);
  }

  query<T extends object>(sql: string): Promise<T[]> {
    return this.services.postgres.query<T>(sql, this.database);
  }

  async thread(member = this.front[0]): Promise<string> {
    return (await ok((member as Member).http.post<{ thread_id: string }>("/threads", {}))).thread_id;
  }

  /** Starts a run and remembers that it was promised; on a new thread when none is given. */
  async run(member: Member, body: object, thread_id?: string): Promise<RunRow> {
    const thread = thread_id ?? (await this.thread(member));
    return this.note(await ok(member.http.post<RunRow>(`/threads/${thread}/runs`, body)));
  }

  /** A run that a 2xx has spoken of: it must be there at the end. */
  note<T extends Pick<RunRow, "run_id" | "thread_id">>(run: T): T {
    this.#promised.set(run.run_id, run.thread_id);
    return run;
  }

  /** Opens the stream of a new run; remembers the run by the header that names it. */
  async stream(
    member: Member,
    body: object,
    thread_id?: string,
  ): Promise<{ stream: SseStream; run: RunRow; path: string }> {
    const thread = thread_id ?? (await this.thread(member));
    const stream = await member.open(`/threads/${thread}/runs/stream`, { body });
    const path = String(stream.headers["content-location"]);
    const run = this.note({ run_id: path.split("/").at(-1) ?? "", thread_id: thread, status: "" });
    return { stream, run, path };
  }

  /** The run as the database has it, whoever is cut off from it. */
  async row(run_id: string): Promise<StoredRun | undefined> {
    return (
      await this.query<StoredRun>(
        `select run_id, thread_id, status, attempt, fence, lease_owner, lease_expires_at, cancel_action, error
         from runs where run_id = '${run_id}'`,
      )
    )[0];
  }

  /** Waits until nothing is in flight any more. */
  async settled(ms = 90_000): Promise<void> {
    await eventually(
      async () => {
        const rows = await this.query("select 1 from runs where status in ('pending', 'running') limit 1");
        return rows.length === 0;
      },
      { ms, every: 50 },
    );
  }

  /** What is wrong in the database once all is settled: nothing, that is the invariant. */
  async faults(exceptions: Exceptions = {}): Promise<string[]> {
    await this.settled();
    return audit((sql) => this.query(sql), this.#promised, exceptions);
  }

  /** What a test that failed has broken must not fail the next one. */
  async heal(): Promise<void> {
    const { postgres, redis } = this.services;
    await Promise.all([postgres.heal(), redis.heal()]);
    await Promise.all(this.members.map((member) => member.heal()));
    const left = await this.query("select 1 from runs where status in ('pending', 'running') limit 1");
    if (left.length > 0) await (this.front[0] as Member).http.post("/runs/cancel", { status: "all" });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack[Symbol.asyncDispose]();
  }
}

export interface StoredRun extends RunRow {
  readonly attempt: number;
  readonly fence: number;
  readonly lease_owner: string | null;
  readonly lease_expires_at: string | null;
  readonly cancel_action: string | null;
  readonly error: string | null;
}

/** The status of an answer, or what came instead of one. */
export const statusOf = async (pending: Promise<Answer>): Promise<number | string> => {
  try {
    return (await pending).status;
  } catch (error) {
    return String(error);
  }
};
