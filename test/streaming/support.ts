/** Processes as far as logs and the broker go: each its own connections to one Redis, all on one real storage. */
import { randomUUID } from "node:crypto";
import { onTestFinished } from "vitest";
import { eventShelf } from "../../src/engine/shelf.ts";
import type { RunRecord, Storage } from "../../src/storage/storage.ts";
import * as runs from "../../src/storage/tables/runs.ts";
import type { EventLog } from "../../src/streaming/event-log.ts";
import { EventLogs } from "../../src/streaming/event-logs.ts";
import type { RunEvent } from "../../src/streaming/events.ts";
import { follow } from "../../src/streaming/follow.ts";
import { RedisBroker, type RedisBrokerOptions } from "../../src/streaming/redis-broker.ts";
import { firstOfAttempt, type RunLog } from "../../src/streaming/run-log.ts";
import { newRun, openTemp } from "../storage/support.ts";
import { freshPrefix } from "../support/redis.ts";

export interface WorldOptions {
  readonly uri: string;
  readonly broker?: Partial<RedisBrokerOptions>;
  readonly tailLimit?: number;
}

export interface Process {
  readonly broker: RedisBroker;
  readonly logs: EventLogs;
  /** Writes the run from here on, under a new token. */
  hold(run: RunRecord): Promise<EventLog>;
  /** Commits the end and tells it. */
  settle(run: RunRecord, output?: string | null): Promise<void>;
  /** The run's log, as a client of this process gets it. */
  log(run: RunRecord): Promise<RunLog>;
  /** All there is after an index, to the end. */
  read(run: RunRecord, after?: number): Promise<readonly RunEvent[]>;
  /** Pages of events that it has read from the database. */
  readonly pagesRead: number;
  /** The process is gone: it tells nobody anything any more. */
  die(): void;
}

export class World {
  readonly storage: Storage;
  readonly prefix = freshPrefix();
  readonly #options: WorldOptions;

  constructor(storage: Storage, options: WorldOptions) {
    this.storage = storage;
    this.#options = options;
  }

  /** A run that is ready; it has not begun. */
  async run(change: { readonly resumable?: boolean; readonly thread_id?: string } = {}): Promise<RunRecord> {
    const { resumable = false, thread_id = randomUUID() } = change;
    const now = Date.now();
    const run = newRun({ thread_id, created_at: now, not_before: now });
    return this.storage.write((tx) => runs.insert(tx, { ...run, kwargs: { ...run.kwargs, resumable } }));
  }

  async process(): Promise<Process> {
    const { storage, prefix } = this;
    const { uri, tailLimit = 2 * 1024 * 1024, broker: own } = this.#options;
    const quiet = { seal: null, onTrouble: () => undefined, onRecovery: () => undefined };
    const broker = new RedisBroker({ uri, prefix, cluster: false, ...quiet, ...own });
    await broker.start(5000);
    const fences = new Map<string, number>();
    const stored = eventShelf(storage, (run_id) => fences.get(run_id));
    let pagesRead = 0;
    const load = (run_id: string, after: number): Promise<readonly RunEvent[]> => {
      pagesRead += 1;
      return stored.load(run_id, after);
    };
    const shelf = { ...stored, load };
    const onError = (error: unknown): void => {
      throw error;
    };
    const begun = (thread_id: string, from: number | null) =>
      storage.read(async (db) => {
        const found = await runs.begunOfThread(db, thread_id, from === null ? null : Math.floor(from / 1000));
        return found.map(({ run_id, started_at, kwargs }) => {
          return { run_id, thread_id, resumable: kwargs.resumable, place: (started_at ?? 0) * 1000 };
        });
      });
    const relay = broker.relay({
      shelf,
      inFlight: (run_ids) => storage.read((db) => runs.inFlightAmong(db, run_ids)),
      begun,
      now: () => storage.now(),
      tailLimit,
      keepEndedMs: 30_000,
      onError,
    });
    const limits = { keepEndedMs: 30_000, endedLimit: 64 * 1024 * 1024, tailLimit };
    const logs = new EventLogs({ shelf, onError, ...limits, onForget: () => undefined, relay });
    broker.hear((signal) => {
      if (signal.kind === "show") logs.show(signal.run_id);
    });
    let isAlive = true;
    const die = (): void => {
      if (!isAlive) return;
      isAlive = false;
      logs.close();
      void broker.close();
    };
    onTestFinished(die);

    const hold = async (run: RunRecord): Promise<EventLog> => {
      const { run_id, thread_id, kwargs } = run;
      const held = await storage.write(async (tx) => {
        const before = await runs.find(tx, run_id);
        if (before?.status === "running")
          await runs.release(tx, run_id, before.fence, { now: Date.now(), spend_attempt: true });
        await runs.claim(tx, { owner: "test", now: Date.now() + 1, lease_ms: 60_000, limit: 1000 });
        return runs.find(tx, run_id);
      });
      if (held?.status !== "running") throw new Error("the run was not claimed");
      fences.set(run_id, held.fence);
      const last = kwargs.resumable ? await lastStored(storage, run_id) : undefined;
      const first = last === undefined ? firstOfAttempt(held.fence) : last + 1;
      const log = logs.open({ run_id, thread_id, resumable: kwargs.resumable, first });
      logs.begin(log, held);
      return log;
    };
    const log = async ({ run_id }: RunRecord): Promise<RunLog> => {
      const here = logs.get(run_id);
      if (here !== undefined) return here;
      const now = await storage.read((db) => runs.find(db, run_id));
      if (now === undefined) throw new Error("no such run");
      const place = now.started_at === null ? undefined : now.started_at * 1000;
      return logs.elsewhere({ run_id, thread_id: now.thread_id, resumable: now.kwargs.resumable, place });
    };
    const read = async (run: RunRecord, after = -1): Promise<readonly RunEvent[]> => collect(await log(run), after);
    const settle = async ({ run_id }: RunRecord, output: string | null = null): Promise<void> => {
      const fence = fences.get(run_id) ?? 0;
      const own = logs.own(run_id);
      await own?.flush();
      const end = { status: "success", error: null, checkpoint_id: null, now: Date.now() } as const;
      const isMine = await storage.write((tx) => runs.settle(tx, run_id, fence, end));
      if (isMine && own !== undefined && isAlive) logs.end(own, output);
    };
    return {
      ...{ broker, logs, hold, settle, log, read, die },
      get pagesRead() {
        return pagesRead;
      },
    };
  }
}

async function lastStored(storage: Storage, run_id: string): Promise<number> {
  const events = await import("../../src/storage/tables/events.ts");
  return storage.read((db) => events.last(db, run_id));
}

export const worldOf = async (options: WorldOptions): Promise<World> => new World(await openTemp(), options);

/** What a follower of the log gets, to its end. */
export async function collect(log: RunLog, after = -1): Promise<readonly RunEvent[]> {
  const seen: RunEvent[] = [];
  const signal = new AbortController().signal;
  for await (const events of follow(log, { after, signal, wants: () => true })) seen.push(...events);
  return seen;
}

/** Appends so many events, a few at a time. */
export async function write(log: EventLog, count: number, { size = 10, from = 0 } = {}): Promise<void> {
  for (let at = 0; at < count; at += 7) {
    const batch = Math.min(7, count - at);
    log.append(
      Array.from({ length: batch }, (_, i) => ({
        event: "values",
        data: JSON.stringify(`${from + at + i} `.padEnd(size, "x")),
      })),
    );
    await new Promise(setImmediate);
  }
}

/** The numbers that `write` has put in. */
export const written = (events: readonly RunEvent[]): number[] =>
  events.map(({ data }) => Number.parseInt(JSON.parse(data) as string, 10));

export const range = (count: number, first = 0): number[] => Array.from({ length: count }, (_, index) => first + index);
