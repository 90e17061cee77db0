/** Streaming v2: what readers of a thread's events and its commands ask of runs, logs and storage. */
import { once } from "node:events";
import { SkeinError } from "../../errors.ts";
import type { RequestFacts } from "../../observability/request.ts";
import type { CheckpointConfig } from "../../schemas/common.ts";
import type { AgentTree, EventStreamRequest, ProtocolCommand, ProtocolResponse } from "../../schemas/protocol.ts";
import type { RunRecord, Storage } from "../../storage/storage.ts";
import * as events from "../../storage/tables/events.ts";
import * as runs from "../../storage/tables/runs.ts";
import * as threads from "../../storage/tables/threads.ts";
import type { EventLogs } from "../../streaming/event-logs.ts";
import { filterOf, wantsName } from "../../streaming/protocol/filter.ts";
import { type FollowProtocolOptions, followProtocol, type RunFacts } from "../../streaming/protocol/follow.ts";
import { type ProtocolFrame, seqOf } from "../../streaming/protocol/frames.ts";
import { openingOf, type RootState } from "../../streaming/protocol/snapshot.ts";
import type { ProtocolService, ProtocolSession, ProtocolSocket, RunRequest, ThreadsService } from "../contract.ts";
import { type Runs, waitingOn } from "../runs.ts";
import { Session } from "./session.ts";

export interface ProtocolOptions {
  readonly storage: Storage;
  readonly logs: EventLogs;
  readonly runs: Pick<Runs, "keptRuns" | "logOf">;
  readonly threads: Pick<ThreadsService, "state">;
  readonly command: (thread_id: string, command: ProtocolCommand, from: RunRequest) => Promise<ProtocolResponse>;
  readonly tree: (thread_id: string, run_id: string) => Promise<AgentTree>;
  /** A connection was closed because of this. */
  readonly onError: (error: unknown) => void;
  readonly metrics: { readonly protocolGaps: { inc(labels: { readonly reason: string }): void } };
}

/** What a connection may do that not everybody may. */
export interface SessionRights extends Partial<Pick<ProtocolOptions, "tree" | "command">> {
  readonly gate?: Gate;
}

/** Whether the thread is there for a reader; null: it is for all. Throws when the reader may not even ask. */
export type Gate = (() => Promise<boolean>) | null;

/** More runs than anybody is away for; of older ones it does not matter that they are missing too. */
const LOOKED_BACK = 1000;

export class Protocol implements ProtocolService {
  readonly #options: ProtocolOptions;
  #readers = 0;

  constructor(options: ProtocolOptions) {
    this.#options = options;
  }

  /** Readers of `events` that are there. */
  get readers(): number {
    return this.#readers;
  }

  async events(
    thread_id: string,
    ask: EventStreamRequest,
    signal: AbortSignal,
    gate: Gate = null,
  ): Promise<AsyncIterable<readonly ProtocolFrame[]>> {
    await this.#open(thread_id, gate);
    const reader = { wants: wantsName(filterOf(ask)), since: ask.since ?? null, signal };
    return this.#counted(this.#follow(thread_id, reader, gate));
  }

  session(thread_id: string, socket: ProtocolSocket, from: RequestFacts, rights: SessionRights = {}): ProtocolSession {
    const { onError } = this.#options;
    const { gate = null, tree = this.#options.tree, command = this.#options.command } = rights;
    return new Session({
      thread_id,
      socket,
      opened: () => this.#open(thread_id, gate),
      follow: (reader) => this.#follow(thread_id, reader, gate),
      applied: () => this.appliedThrough(thread_id, gate),
      tree: (run_id) => tree(thread_id, run_id),
      command: (given) => command(thread_id, given, from),
      onError,
    });
  }

  command(thread_id: string, command: ProtocolCommand, from: RunRequest): Promise<ProtocolResponse> {
    return this.#options.command(thread_id, command, from);
  }

  /** The number up to which events were there now; to be asked before a run is made. Never 0. */
  async appliedThrough(thread_id: string, gate: Gate = null): Promise<number> {
    const { logs, storage } = this.#options;
    if (gate !== null && !(await gate())) return this.#nothingApplied();
    const here = logs.appliedThrough(thread_id);
    if (here !== undefined && !logs.isShared) return here;
    const there = await storage.read(async (db) => {
      const run = await runs.newestBegun(db, thread_id);
      if (run === undefined) return undefined;
      const log = await events.log(db, run.run_id);
      // Of one that is stored it is known; of others, that it is not after their end.
      if (log !== undefined && run.ended_at !== null) return seqOf(log.place, (await events.last(db, run.run_id)) + 1);
      return (run.ended_at ?? run.started_at ?? 0) * 1000;
    });
    if (here !== undefined || there !== undefined) return Math.max(here ?? 0, there ?? 0);
    return this.#nothingApplied();
  }

  /** By the clock that places go by. The first run of the thread is not made yet. */
  #nothingApplied(): number {
    const { logs, storage } = this.#options;
    return (logs.isShared ? storage.now() : Date.now()) * 1000 - 1;
  }

  async #open(thread_id: string, gate: Gate): Promise<void> {
    if (gate === null || (await gate())) await this.#mark(thread_id);
  }

  /** Runs that are made on the thread from now on are made to be seen by readers of streaming v2. */
  async #mark(thread_id: string): Promise<void> {
    const { storage } = this.#options;
    const thread = await storage.read((db) => threads.findBare(db, thread_id));
    if (thread === undefined || thread.protocol) return;
    await storage.write((tx) => threads.markProtocol(tx, thread_id));
  }

  async *#counted<T>(frames: AsyncGenerator<T, void>): AsyncGenerator<T, void> {
    this.#readers += 1;
    try {
      yield* frames;
    } finally {
      this.#readers -= 1;
    }
  }

  #follow(
    thread_id: string,
    reader: Pick<FollowProtocolOptions, "wants" | "since" | "through" | "signal">,
    gate: Gate,
  ): AsyncGenerator<readonly ProtocolFrame[], void> {
    const frames = this.#frames(thread_id, reader);
    return gate === null
      ? frames
      : behind(gate, frames, { isBounded: reader.through !== undefined, signal: reader.signal });
  }

  #frames(
    thread_id: string,
    reader: Pick<FollowProtocolOptions, "wants" | "since" | "through" | "signal">,
  ): AsyncGenerator<readonly ProtocolFrame[], void> {
    const { logs, runs: service, metrics, storage } = this.#options;
    let shown: string | null = null;
    return followProtocol({
      ...reader,
      logs,
      thread_id,
      stored: () => service.keptRuns(thread_id),
      open: (run_id) => service.logOf(thread_id, run_id),
      facts: (run_id) => this.#facts(run_id),
      opening: async () => {
        const { since } = reader;
        const looked =
          since === null ? { after: null, limit: 1 } : { after: Math.floor(since / 1000), limit: LOOKED_BACK };
        const { ended, thread, erased } = await storage.read(async (db) => ({
          ended: await runs.endedOfThread(db, thread_id, looked),
          thread: await threads.findBare(db, thread_id),
          erased: await events.erased(db, thread_id),
        }));
        // What a run in flight has made of the state comes with its own events.
        shown = thread?.status === "busy" ? (ended[0]?.checkpoint_id ?? null) : null;
        return (known) => {
          const kept = new Set([...known].filter((run_id) => !erased.has(run_id)));
          return openingOf(ended, kept, since, thread?.created_at ?? null);
        };
      },
      state: () => this.#state(thread_id, shown === null ? {} : { checkpoint_id: shown }),
      onGap: ({ reason }) => metrics.protocolGaps.inc({ reason }),
    });
  }

  async #facts(run_id: string): Promise<RunFacts | undefined> {
    return this.#options.storage.read(async (db) => {
      const run = await runs.find(db, run_id);
      if (run === undefined) return undefined;
      const thread = isRefusal(run) ? await threads.findBare(db, run.thread_id) : undefined;
      return {
        graph_id: run.graph_id,
        isProtocol: run.kwargs.protocol !== undefined,
        end:
          run.ended_at === null
            ? null
            : { at: run.ended_at, data: endOf(run, thread === undefined ? [] : waitingOn(thread)) },
      };
    });
  }

  /** Null where there is no state, or no thread, or its checkpoint has gone since it was looked for. */
  async #state(thread_id: string, checkpoint: CheckpointConfig): Promise<RootState | null> {
    const thread = await this.#options.storage.read((db) => threads.findBare(db, thread_id));
    if (thread === undefined) return null;
    const shown = await this.#options.threads.state(thread_id, checkpoint, false).catch(ifGone);
    if (shown === undefined) return null;
    const state = JSON.parse(shown) as StateShown;
    const { checkpoint: at, parent_checkpoint: parent, metadata, created_at, values } = state;
    if (at?.checkpoint_id === undefined) return null;
    return {
      checkpoint: {
        id: at.checkpoint_id,
        ...(parent?.checkpoint_id === undefined ? {} : { parent_id: parent.checkpoint_id }),
        step: metadata?.step ?? 0,
        source: metadata?.source ?? "loop",
      },
      values: JSON.stringify(values),
      at: created_at === null ? thread.state_updated_at : Date.parse(created_at),
    };
  }
}

/**
 * Nothing until the thread is there for the reader: one that is somebody else's is as one that does not exist yet. With its first
 * events it shows whose it is: then it is shown, or the stream stays silent. What is bounded, and so answers by its end, must not
 * take longer for what is hidden.
 */
async function* behind<T>(
  gate: () => Promise<boolean>,
  frames: AsyncGenerator<T, void>,
  { isBounded, signal }: { readonly isBounded: boolean; readonly signal: AbortSignal },
): AsyncGenerator<T, void> {
  let isThere = await gate();
  if (!isThere && isBounded) return;
  for await (const batch of frames) {
    isThere ||= await gate();
    if (!isThere) break;
    yield batch;
  }
  if (!isThere && !signal.aborted) await once(signal, "abort");
}

function ifGone(error: unknown): undefined {
  if (error instanceof SkeinError && error.kind === "not_found") return undefined;
  throw error;
}

interface StateShown {
  readonly values: unknown;
  readonly checkpoint: { readonly checkpoint_id?: string } | null;
  readonly parent_checkpoint: { readonly checkpoint_id?: string } | null;
  readonly metadata: { readonly step?: number; readonly source?: string } | null;
  readonly created_at: string | null;
}

/** The error of a run that was to answer what does not wait. */
const UNKNOWN_INTERRUPT = "UnknownInterruptError";
const isRefusal = ({ error, kwargs }: RunRecord): boolean =>
  error?.error === UNKNOWN_INTERRUPT && kwargs.answers !== undefined;

/** How a run ended, as the root's last lifecycle event says it. `waiting`: ids that wait on the thread. */
function endOf(run: RunRecord, waiting: readonly string[]): Readonly<Record<string, unknown>> {
  switch (run.status) {
    case "success":
      return { event: "completed" };
    case "interrupted":
      return { event: "interrupted" };
    default: {
      const failed = { event: "failed", error: run.error?.message ?? `the run ended with status ${run.status}` };
      if (!isRefusal(run)) return failed;
      const interrupt_ids = (run.kwargs.answers ?? []).filter((id) => !waiting.includes(id));
      return { ...failed, reason: "unknown_interrupt", interrupt_ids, pending_ids: waiting };
    }
  }
}
