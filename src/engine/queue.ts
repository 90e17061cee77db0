/**
 * A run that kills its process takes with it all that is in hand there. They are tried again, as it is: so a process has no
 * more than one run at its last attempt in hand, and the culprit's last death ends none but itself. Runs that may be waiting for
 * their last attempt are looked for when some have been handed back, when one has ended, and with each poll.
 *
 * Claims runs that are ready and hands them to `execute`, at most `slots` at once. The queue itself is the
 * runs table; this is the part that wakes up: on a nudge, when a delayed run falls due, when a slot frees.
 */
import { endOfTick } from "../end-of-tick.ts";
import type { NewRun, Storage } from "../storage/storage.ts";
import * as runs from "../storage/tables/runs.ts";
import { PendingWrite } from "./pending-write.ts";

/** What an attempt came to. `thread free`: others wait on the run's thread, and one of them may be ready now. */
export type AttemptOutcome = "ended" | "requeued" | "thread free";

export interface QueueOptions {
  readonly storage: Storage;
  readonly owner: string;
  readonly slots: number;
  readonly leaseMs: number;
  /** Attempts of a run. */
  readonly maxAttempts?: number;
  /**
   * Runs a claimed run to its end and records it. Must not reject. With `write` the run is being written: its graph
   * waits for that.
   */
  readonly execute: (run: NewRun, write?: PendingWrite) => Promise<AttemptOutcome>;
  /** A lease ran out, or was found at start: decide what becomes of the run. */
  readonly onExpired: (run: NewRun) => Promise<void>;
  /** Before a heartbeat; the answer takes the runs of ours that it found, where processes share the database. */
  readonly onBeat?: () => (found: readonly runs.Beat[]) => void;
  /** Looks for ready runs after so long, milliseconds, should the word of them be lost; null when no word can be. */
  readonly pollMs?: number | null;
  readonly onError: (error: unknown, doing: string) => void;
  /** Runs may be ready that this process, which takes no more, has had in hand: for others. */
  readonly onLeft: () => void;
}

/** A slot kept for a run that is about to be made: it is born claimed, and begins as soon as it is committed. */
export interface Slot {
  /** Whose lease the run carries, and for how long. */
  readonly lease: { readonly owner: string; readonly ms: number };
  /**
   * Sends a run that is about to be written ahead to its executor thread, which makes ready while the database works.
   * Nothing of the graph runs before `begin`; after `release` nothing ever does. Resolves when the thread has been told, or
   * has to be waited for.
   */
  prepare(run: NewRun): Promise<void>;
  begin(run: NewRun): void;
  /** The run was not made, or has to wait like others. Harmless after `begin`. */
  release(): void;
}

/** setTimeout takes at most this many milliseconds. */
const LONGEST_TIMER = 2 ** 31 - 1;
const RETRY_MS = 1000;
/** More attempts than any run has. */
const COUNTLESS = 2 ** 31 - 1;

export class Queue {
  readonly #options: QueueOptions;
  readonly #running = new Set<Promise<void>>();
  #accepting = false;
  #claiming: Promise<void> | undefined;
  /** Ready runs may wait for a slot: whoever is new queues behind them. */
  #backlog = true;
  #again = false;
  #lastInHand = false;
  #lastMayWait = true;
  /** How many runs the next claim may take. */
  #wanted = 0;
  readonly #waitingForSlot = new Set<() => void>();
  #dueTimer: NodeJS.Timeout | undefined;
  #heartbeat: NodeJS.Timeout | undefined;
  #poll: NodeJS.Timeout | undefined;

  constructor(options: QueueOptions) {
    this.#options = options;
  }

  /** Takes back what a dead process held (`alone`: no other process can hold anything), then starts to claim. */
  async start({ alone }: { readonly alone: boolean }): Promise<void> {
    if (alone) await this.#reclaim(Number.MAX_SAFE_INTEGER);
    this.#accepting = true;
    this.#wakeWaiting();
    const { pollMs = null } = this.#options;
    if (pollMs !== null) this.#poll = setInterval(() => this.#nudgeAll(), pollMs).unref();
    this.#heartbeat = setInterval(() => void this.#beat(), this.#options.leaseMs / 3).unref();
    this.nudge();
  }

  get running(): number {
    return this.#running.size;
  }

  /** Slots that could take a run now. */
  get free(): number {
    return this.#accepting ? Math.max(0, this.#options.slots - this.#running.size) : 0;
  }

  /** Resolves when a slot is free. */
  async whenFree(): Promise<void> {
    while (this.free <= 0) await new Promise<void>((resolve) => this.#waitingForSlot.add(resolve));
  }

  #wakeWaiting(): void {
    for (const resolve of this.#waitingForSlot) resolve();
    this.#waitingForSlot.clear();
  }

  /** Claims up to so many ready runs; others are for other processes. Resolves when it has. */
  async claim(runs: number): Promise<void> {
    this.#nudge(runs);
    await this.#claiming;
  }

  /** There may be work. Call it when the write that makes work is queued: the claim then shares its commit. */
  nudge(): void {
    this.#nudge(Number.POSITIVE_INFINITY);
  }

  #nudgeAll(): void {
    this.#lastMayWait = true;
    this.nudge();
  }

  #nudge(runs: number): void {
    if (!this.#accepting) return;
    this.#wanted += runs;
    if (this.#claiming !== undefined) this.#again = true;
    else {
      this.#claiming = this.#claimLoop().finally(() => {
        this.#claiming = undefined;
        if (this.#again) this.#nudge(0);
      });
    }
  }

  /** A slot for a run that nothing is in front of; undefined when it has to be claimed in its turn. */
  reserve(): Slot | undefined {
    const { slots, owner, leaseMs } = this.#options;
    if (!this.#accepting || this.#backlog || this.#claiming !== undefined || this.#running.size >= slots)
      return undefined;
    let decide!: (run: NewRun | undefined) => void;
    const decided = new Promise<NewRun | undefined>((resolve) => {
      decide = resolve;
    });
    const write = new PendingWrite();
    let ahead: NewRun | undefined;
    this.#occupy(async () => {
      const run = await decided;
      if (run === undefined) return "ended";
      return this.#execute(run, run === ahead ? write : undefined);
    });
    return {
      lease: { owner, ms: leaseMs },
      prepare: (run) => {
        ahead ??= run;
        decide(ahead);
        // Until then the way to the thread and the statements of the write would take turns, and the thread would wait for both.
        return endOfTick();
      },
      begin: (run) => {
        // A write that was begun anew has made another run than the one that went ahead.
        const isOther = ahead !== undefined && ahead.run_id !== run.run_id;
        write.settle(!isOther);
        decide(run);
        if (isOther) this.#occupy(() => this.#execute(run));
      },
      release: () => {
        write.settle(false);
        decide(undefined);
      },
    };
  }

  /** No more claims. Resolves when the runs in hand have ended or were handed back. */
  async stop(): Promise<void> {
    this.#accepting = false;
    clearTimeout(this.#dueTimer);
    clearInterval(this.#poll);
    await this.#claiming;
    while (this.#running.size > 0) await Promise.all(this.#running);
    clearInterval(this.#heartbeat);
  }

  async #claimLoop(): Promise<void> {
    try {
      do {
        this.#again = false;
        const free = this.#options.slots - this.#running.size;
        const limit = Math.min(free, this.#wanted);
        this.#wanted = 0;
        if (free > 0 && limit === 0) return;
        this.#backlog = true;
        if (free <= 0) return;
        this.#backlog = (await this.#claim(limit)) === free;
        if (this.#backlog) this.#nudge(Number.POSITIVE_INFINITY);
      } while (this.#again && this.#accepting);
    } catch (error) {
      this.#wanted = Number.POSITIVE_INFINITY;
      this.#options.onError(error, "claiming runs");
      this.#wakeIn(RETRY_MS);
    }
  }

  async #claim(limit: number): Promise<number> {
    const { storage, owner, leaseMs } = this.#options;
    const seeksLast = this.#lastMayWait && !this.#lastInHand;
    const { claimed, last, due } = await storage.write(
      async (tx) => {
        const now = storage.now();
        const request = { owner, now, lease_ms: leaseMs };
        const below = this.#lastAttempt;
        const last = seeksLast
          ? await runs.claim(tx, { ...request, limit: 1, attempts: { from: below, below: COUNTLESS } })
          : [];
        const most = limit - last.length;
        const claimed = most > 0 ? await runs.claim(tx, { ...request, limit: most, attempts: { from: 0, below } }) : [];
        return { claimed, last, due: claimed.length < most ? await runs.nextDue(tx, now) : undefined };
      },
      { durable: false },
    );
    if (seeksLast) this.#lastMayWait = false;
    for (const run of last) this.#occupy(() => this.#executeLast(run));
    for (const run of claimed) this.#occupy(() => this.#execute(run));
    if (due !== undefined) this.#wakeIn(due - storage.now());
    return claimed.length + last.length;
  }

  /** Attempts that a run has spent before its last. A run that has only one is like any other. */
  get #lastAttempt(): number {
    const { maxAttempts = 1 } = this.#options;
    return maxAttempts > 1 ? maxAttempts - 1 : COUNTLESS;
  }

  /** Others may wait for the one place that runs at their last attempt have. */
  async #executeLast(run: NewRun): Promise<AttemptOutcome> {
    this.#lastInHand = true;
    const outcome = await this.#execute(run);
    this.#lastInHand = false;
    this.#lastMayWait = true;
    return outcome === "requeued" ? outcome : "thread free";
  }

  /** Holds a slot while `work` lasts, then looks for runs that the slot, or the run's thread, kept waiting. */
  #occupy(work: () => Promise<AttemptOutcome>): void {
    const over: Promise<void> = work().then((outcome) => {
      this.#running.delete(over);
      this.#wakeWaiting();
      if (outcome === "requeued") this.#lastMayWait = true;
      if (!this.#accepting && outcome !== "ended") this.#options.onLeft();
      else if (this.#backlog || outcome !== "ended") this.nudge();
    });
    this.#running.add(over);
  }

  async #execute(run: NewRun, write?: PendingWrite): Promise<AttemptOutcome> {
    try {
      return await this.#options.execute(run, write);
    } catch (error) {
      this.#options.onError(error, `run ${run.run_id}`);
      return "requeued";
    }
  }

  #wakeIn(ms: number): void {
    clearTimeout(this.#dueTimer);
    this.#dueTimer = setTimeout(() => this.nudge(), Math.min(Math.max(ms, 1), LONGEST_TIMER)).unref();
  }

  async #beat(): Promise<void> {
    try {
      const { storage, owner, leaseMs, onBeat } = this.#options;
      const obey = onBeat?.();
      const found = await storage.write(
        (tx) => runs.extendLeases(tx, { owner, now: storage.now(), lease_ms: leaseMs }),
        { durable: false, urgent: true },
      );
      if (storage.isShared) obey?.(found);
      await (storage.isShared ? this.#takeOver() : this.#reclaim(storage.now()));
    } catch (error) {
      this.#options.onError(error, "renewing leases");
    }
  }

  /** No other process is there: what is not ours is nobody's. */
  async #reclaim(now: number): Promise<void> {
    const expired = await this.#options.storage.read((db) => runs.expired(db, now));
    for (const run of expired) await this.#options.onExpired(run);
    if (expired.length > 0) this.#nudgeAll();
  }

  /** Among several processes a lost run becomes ours, under a new token, before anything is decided about it. */
  async #takeOver(): Promise<void> {
    const { storage, owner, leaseMs, onExpired } = this.#options;
    const taken = await storage.write(
      (tx) => runs.takeOverExpired(tx, { owner, now: storage.now(), lease_ms: leaseMs }),
      { urgent: true },
    );
    for (const run of taken) await onExpired(run);
    if (taken.length > 0) this.#nudgeAll();
  }
}
