/** Runs, as a user may use them: whoever may make runs on a thread, and whatever else may be done to the thread. */
import { v7 as uuid7 } from "uuid";
import { notFound } from "../../errors.ts";
import type { CancelAction, Json } from "../../executor/protocol.ts";
import { type Run, RunCreateStateful, RunCreateStateless, type RunsCancel } from "../../schemas/runs.ts";
import type { MetadataFilter } from "../../storage/filter.ts";
import * as visible from "../../storage/tables/visible.ts";
import type { RunEvent, StreamEvent } from "../../streaming/events.ts";
import type { Admit, MadeBy } from "../access.ts";
import { assistantIdOf } from "../assistants.ts";
import type {
  CallerLogger,
  FollowOptions,
  FollowThreadOptions,
  RunOrigin,
  RunRequest,
  RunsPage,
  RunsService,
} from "../contract.ts";
import type { Runs } from "../runs.ts";
import { type Access, addedTo, admitting, changed, markOf, noThread, openMetadata } from "./access.ts";

const EVENT = "threads:create_run";

export class GuardedRuns implements RunsService {
  readonly #inner: Runs;
  readonly #access: Access;
  readonly #logger: CallerLogger;

  constructor(inner: Runs, access: Access, logger: CallerLogger) {
    this.#inner = inner;
    this.#access = access;
    this.#logger = logger;
  }

  async create(thread_id: string, request: RunCreateStateful, from: RunRequest, origin?: RunOrigin): Promise<Run> {
    const { asked, by } = await mayRun(this.#access, RunCreateStateful, thread_id, request);
    const run = await this.#inner.create(thread_id, asked, this.#owned(from), origin, by);
    this.#access.remember([run.run_id]);
    return run;
  }

  async createStateless(request: RunCreateStateless, from: RunRequest): Promise<Run> {
    const { asked, by } = await mayRun(this.#access, RunCreateStateless, null, request);
    const run = await this.#inner.createStateless(asked, this.#owned(from), by);
    this.#access.remember([run.run_id]);
    return run;
  }

  async createBatch(requests: readonly RunCreateStateless[], from: RunRequest): Promise<readonly Run[]> {
    const all: { readonly asked: RunCreateStateless; readonly by: MadeBy }[] = [];
    for (const request of requests) all.push(await mayRun(this.#access, RunCreateStateless, null, request));
    return this.#inner.createBatch(
      all.map(({ asked }) => asked),
      this.#owned(from),
      all.map(({ by }) => by),
    );
  }

  async get(thread_id: string | null, run_id: string): Promise<Run> {
    await this.#read(thread_id, run_id);
    return this.#inner.get(thread_id, run_id);
  }

  async list(thread_id: string, page: RunsPage): Promise<readonly Partial<Run>[]> {
    await this.#access.thread("threads:read", thread_id);
    return this.#inner.list(thread_id, page);
  }

  async delete(thread_id: string, run_id: string): Promise<void> {
    const { admit } = await this.#access.thread("threads:delete", thread_id, { run_id });
    await this.#inner.delete(thread_id, run_id, admit);
  }

  async follow(
    thread_id: string | null,
    run_id: string,
    options: FollowOptions,
  ): Promise<AsyncIterable<readonly RunEvent[]>> {
    await this.#read(thread_id, run_id);
    return this.#inner.follow(thread_id, run_id, options);
  }

  async wait(thread_id: string | null, run_id: string, signal: AbortSignal): Promise<Json> {
    await this.#read(thread_id, run_id);
    return this.#inner.wait(thread_id, run_id, signal);
  }

  async cancel(thread_id: string, run_id: string, action: CancelAction, wait: boolean): Promise<void> {
    const { admit } = await this.#access.thread("threads:update", thread_id, { run_id, action });
    await this.#inner.cancel(thread_id, run_id, action, wait, admit);
  }

  /** By status: the runs on those threads that are the user's to change. */
  async cancelMany(which: RunsCancel, action: CancelAction): Promise<void> {
    const { thread_id, run_ids, status } = which;
    if (thread_id != null) {
      const { admit } = await this.#access.thread("threads:update", thread_id, { run_ids, action });
      return this.#inner.cancelMany(which, action, null, admit);
    }
    const { filter } = await this.#access.ask("threads:update", { fixed: { thread_id: null, status, action } });
    return this.#inner.cancelMany(which, action, filter);
  }

  async followThread(thread_id: string, options: FollowThreadOptions): Promise<AsyncIterable<readonly StreamEvent[]>> {
    await this.#access.thread("threads:read", thread_id);
    return this.#inner.followThread(thread_id, options);
  }

  async cancelMarked(mark: Readonly<Record<string, string>>): Promise<void> {
    const fixed = { thread_id: null, action: "interrupt" };
    const { filter } = await this.#access.ask("threads:update", { fixed });
    await this.#inner.cancelMarked(mark, filter);
  }

  cancelOnDisconnect(run_id: string): void {
    if (this.#access.owns(run_id)) this.#inner.cancelOnDisconnect(run_id);
    else {
      // Who only joined a run stops it like anybody else.
      this.#access.run("threads:update", run_id, { action: "interrupt" }).then(
        () => this.#inner.cancelOnDisconnect(run_id),
        (err: unknown) => this.#logger.warn({ err, run_id }, "a client that left may not cancel the run; it goes on"),
      );
    }
  }

  async #read(thread_id: string | null, run_id: string): Promise<void> {
    if (this.#access.owns(run_id)) return;
    if (thread_id === null) await this.#access.run("threads:read", run_id);
    else await this.#access.thread("threads:read", thread_id, { run_id });
  }

  #owned(from: RunRequest): RunRequest {
    const { repeatable } = from;
    return repeatable === undefined ? from : { ...from, repeatable: { ...repeatable, owner: this.#access.identity } };
  }
}

/** Fields of a request that handlers find beside `kwargs`. */
const TOLD_APART = new Set(["assistant_id", "metadata", "multitask_strategy", "if_not_exists", "after_seconds"]);

/** A run that may be made: the request as handlers left it, and who makes it. */
async function mayRun<T extends RunCreateStateless | RunCreateStateful>(
  access: Access,
  schema: Parameters<typeof changed<T>>[0],
  thread_id: string | null,
  request: T,
): Promise<{ readonly asked: T; readonly by: MadeBy }> {
  const { assistant_id, metadata, after_seconds = null } = request;
  const multitask_strategy = ("multitask_strategy" in request ? request.multitask_strategy : null) ?? null;
  const if_not_exists = ("if_not_exists" in request ? request.if_not_exists : null) ?? null;
  const kwargs = Object.fromEntries(Object.entries(request).filter(([name]) => !TOLD_APART.has(name)));
  const run_id = uuid7();
  const { value, filter } = await access.ask(EVENT, {
    fixed: {
      thread_id,
      assistant_id: assistantIdOf(assistant_id),
      run_id,
      status: "pending",
      multitask_strategy,
      prevent_insert_if_inflight: multitask_strategy === "reject",
      if_not_exists,
      after_seconds,
    },
    open: { ...openMetadata(metadata), kwargs },
  });
  const asked = changed(
    schema,
    request,
    { ...(value.kwargs as object), ...told(request), metadata: value.metadata },
    EVENT,
  );
  const admitAssistant = await mayUse(access, assistant_id);
  const admitThread = thread_id === null ? undefined : admitOnThread(thread_id, filter, if_not_exists === "create");
  return {
    asked,
    by: {
      user: access.user,
      id: run_id,
      stamp: { ...addedTo(metadata, value.metadata), ...markOf(access) },
      asked: request,
      admit: async (db) => {
        await admitThread?.(db);
        await admitAssistant?.(db);
      },
    },
  };
}

/** These are not changed by way of `kwargs` either. */
const told = (request: object): object =>
  Object.fromEntries(Object.entries(request).filter(([name]) => TOLD_APART.has(name)));

/** The assistant of a run or a cron. */
export async function mayUse(access: Access, assistant_id: string): Promise<Admit | undefined> {
  const id = assistantIdOf(assistant_id);
  const { filter } = await access.ask("assistants:read", { fixed: { assistant_id: id } });
  const missing = notFound(`Assistant or graph "${assistant_id}" not found`, "assistant");
  return filter === null ? undefined : admitting(visible.readableAssistant, id, filter, missing);
}

/** A thread that may be made with the run must not be somebody else's; any other must be the user's. */
export function admitOnThread(thread_id: string, filter: MetadataFilter | null, mayMake: boolean): Admit | undefined {
  if (filter === null) return undefined;
  if (!mayMake) return admitting(visible.thread, thread_id, filter, noThread(thread_id));
  return async (db) => {
    if (await visible.hiddenThread(db, thread_id, filter)) throw noThread(thread_id);
  };
}
