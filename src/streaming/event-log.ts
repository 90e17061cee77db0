/**
 * The events of one run, in order, numbered from 0. Readers own their position, so any number of them
 * see every event and a slow one costs nothing.
 *
 * The newest events are in memory (the tail); older ones are in storage, so that a long run with a slow
 * reader does not grow without bound. A resumable log stores its events *before* readers see them: an
 * index a client has seen must mean the same event after a crash. Other logs go to storage only when
 * their tail grows too big. Whoever writes waits while storage is behind (`room`).
 */
import { setTimeout as sleep } from "node:timers/promises";
import { unavailable } from "../errors.ts";
import type { WireEvent } from "../executor/protocol.ts";
import type { RunEvent } from "./events.ts";
import { earlierOf, isGap, type RunLog, type RunOutput } from "./run-log.ts";

/** Where a log keeps what does not stay in memory. Given by the engine; each write is fenced there. */
export interface EventShelf {
  /** Stores events under the run's current lease. False when the lease is lost: the events are void. */
  store(log: Pick<EventLog, "run_id" | "thread_id" | "place">, events: readonly RunEvent[]): Promise<boolean>;
  /** Stored events after an index, oldest first: consecutive ones, at most a page. */
  load(run_id: string, after: number): Promise<readonly RunEvent[]>;
}

export interface EventLogOptions {
  readonly run_id: string;
  readonly thread_id: string;
  readonly resumable: boolean;
  /** Index of the first event this log will get; greater than 0 when earlier ones are in storage. */
  readonly first: number;
  /** Where the log stands among those of its thread, when that is known. */
  readonly place?: number | undefined;
  /** Size of the tail above which it is cut, in characters of data. */
  readonly tailLimit: number;
  readonly shelf: EventShelf;
  /** Reads events of attempts that other processes made; without one, all events of the run are here. */
  readonly earlier?: ((after: number) => Promise<readonly RunEvent[]>) | undefined;
  readonly onError: (error: unknown) => void;
}

/** Between tries to store what did not go into storage. */
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5000;

/** `void`: the lease is lost, and nobody may see the events. */
type Stored = "stored" | "void" | "failed";

export class EventLog implements RunLog {
  readonly run_id: string;
  readonly thread_id: string;
  readonly resumable: boolean;
  /** Orders the logs of a thread by when their runs began; given when the run begins, and stored with its events. */
  place: number | undefined;
  readonly #options: EventLogOptions;
  /** Events `#tailStart …` that readers may see. */
  #tail: RunEvent[] = [];
  #tailStart: number;
  #tailSize = 0;
  /** Appended, not yet stored (resumable logs only). */
  #unstored: RunEvent[] = [];
  #unstoredSize = 0;
  #storing: Promise<Stored> | undefined;
  #makingRoom: Promise<void> | undefined;
  #next: number;
  /** Events below this index are in storage. */
  #storedTo: number;
  #endedAt: number | undefined;
  #output: RunOutput | null = null;
  /** Where the log goes on: another process holds the run now. */
  #moved: RunLog | undefined;
  #leaveMoved: (() => void) | undefined;
  #onChange: (() => void) | undefined;
  readonly #subscribers = new Set<() => void>();

  constructor(options: EventLogOptions) {
    this.#options = options;
    this.run_id = options.run_id;
    this.thread_id = options.thread_id;
    this.resumable = options.resumable;
    this.place = options.place;
    this.#next = options.first;
    this.#tailStart = options.first;
    this.#storedTo = options.first;
  }

  get ended(): boolean {
    return this.#moved === undefined ? this.#endedAt !== undefined : this.#moved.ended;
  }

  /** When it ended here, epoch milliseconds. */
  get endedAt(): number | undefined {
    return this.#endedAt;
  }

  /** What `wait` answers; null when the run left none (error, cancel). */
  get output(): RunOutput | null {
    return this.#moved === undefined ? this.#output : this.#moved.output;
  }

  get isCut(): boolean {
    return this.#moved?.isCut ?? false;
  }

  get lacksEvents(): boolean {
    return this.#moved?.lacksEvents ?? false;
  }

  /** Index the next event will get. */
  get next(): number {
    return this.#moved === undefined ? this.#next : Math.max(this.#next, this.#moved.next);
  }

  /** Index of the first event this log got. */
  get first(): number {
    return this.#options.first;
  }

  /** Index of the oldest event in memory. */
  get oldest(): number {
    return this.#tailStart;
  }

  /** Nothing is written here any more: another process holds the run. */
  get hasMoved(): boolean {
    return this.#moved !== undefined;
  }

  /** Characters held in memory. */
  get size(): number {
    return this.#tailSize;
  }

  /** True when some of this log's events are in storage. */
  get hasStored(): boolean {
    return this.#storedTo > 0 || this.#storing !== undefined;
  }

  /** Numbers the events and shows them to readers, after storing them when the log is resumable. */
  append(events: readonly WireEvent[]): void {
    if (this.#endedAt !== undefined || this.#moved !== undefined || events.length === 0) return;
    const numbered = events.map(({ event, data }): RunEvent => ({ id: this.#next++, event, data }));
    if (this.resumable) this.#storeThenPublish(numbered);
    else this.#publish(numbered);
  }

  /**
   * Undefined while more may be appended; else resolves when there is room again: what is too much for memory is in
   * storage by then, or nobody will want it. Storage that fails is tried again until then. Whoever appends without waiting is
   * not refused.
   */
  room(): Promise<void> | undefined {
    if (!this.#isFull) return undefined;
    this.#makingRoom ??= this.#makeRoom().finally(() => {
      this.#makingRoom = undefined;
    });
    return this.#makingRoom;
  }

  /** More than one event in memory, and too much. */
  get #isFull(): boolean {
    const isOpen = this.#endedAt === undefined && this.#moved === undefined;
    const isLarge = this.#tailSize + this.#unstoredSize > this.#options.tailLimit;
    return isOpen && isLarge && this.#tail.length + this.#unstored.length > 1;
  }

  async #makeRoom(): Promise<void> {
    for (let pause = FIRST_PAUSE_MS; this.#isFull; ) {
      if (this.#unstored.length > 0) this.#storeUnstored();
      else this.#cutTail();
      const outcome = await this.#storing;
      if (outcome === "void") return;
      if (outcome !== "failed") continue;
      await sleep(pause, undefined, { ref: false });
      pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
    }
  }

  /** Resolves when everything appended so far is stored (resumable) and visible; rejects when it cannot be stored now. */
  async flush(): Promise<void> {
    let isSecond = false;
    while (this.#storing !== undefined || this.#unstored.length > 0) {
      this.#storeUnstored();
      const outcome = await this.#storing;
      if (outcome === "failed" && this.#unstored.length > 0) {
        if (isSecond) throw unavailable(`events of run ${this.run_id} could not be stored`);
        isSecond = true;
      }
    }
  }

  /** No more events follow. Readers finish what is there and stop. */
  end(output: RunOutput | null): void {
    this.#output = output;
    this.#endedAt ??= Date.now();
    this.#notify();
  }

  /** Another attempt writes what follows, elsewhere. Readers go on there when they have read what is here. */
  handOver(to: RunLog): void {
    this.#moved = to;
    this.#hearMoved();
    this.#notify();
  }

  /** Events after an index: from memory, or a page from storage. Empty when the reader has all there is. */
  read(after: number): Promise<readonly RunEvent[]> {
    const isHere = this.#moved === undefined || (after + 1 >= this.#tailStart && after + 1 < this.#next);
    return isHere ? this.own(after) : (this.#moved as RunLog).read(after);
  }

  /** As `read`, of this process's attempts only when others have followed. */
  async own(after: number): Promise<readonly RunEvent[]> {
    const from = Math.max(after + 1, 0);
    if (from >= this.#tailStart) return this.#tail.slice(from - this.#tailStart);
    return this.#older(after);
  }

  async #older(after: number): Promise<readonly RunEvent[]> {
    const { shelf, earlier, first } = this.#options;
    const stored = await shelf.load(this.run_id, after);
    if (stored.length > 0 && (earlier === undefined || stored[0]?.id === after + 1)) return stored;
    const elsewhere = after + 1 < first ? ((await earlier?.(after)) ?? []) : [];
    const page = earlierOf(stored, elsewhere);
    if (page.length > 0) return page;
    // The attempts before have left nothing: this one's events follow.
    if (earlier !== undefined && after + 1 < first && !isGap(after, this.#tailStart)) return this.#tail.slice();
    throw unavailable(`the events after ${after} of run ${this.run_id} are no longer kept`);
  }

  /** Calls `hint` whenever the log grows or ends, until the returned function is called. */
  subscribe(hint: () => void): () => void {
    this.#subscribers.add(hint);
    this.#hearMoved();
    return () => {
      this.#subscribers.delete(hint);
      this.#hearMoved();
    };
  }

  /** Readers that follow this log now. */
  get readers(): number {
    return this.#subscribers.size;
  }

  /** The log is followed where it goes on for as long as it is followed here. */
  #hearMoved(): void {
    if (this.#moved === undefined) return;
    const isFollowed = this.#subscribers.size > 0;
    if (isFollowed) this.#leaveMoved ??= this.#moved.subscribe(() => this.#notify());
    else {
      this.#leaveMoved?.();
      this.#leaveMoved = undefined;
    }
  }

  /** As `subscribe`, for the one who shows the log to other processes: no reader that the log must be kept for. */
  onChange(hint: (() => void) | undefined): void {
    this.#onChange = hint;
  }

  #notify(): void {
    this.#onChange?.();
    for (const hint of this.#subscribers) hint();
  }

  #publish(events: readonly RunEvent[]): void {
    for (const event of events) {
      this.#tail.push(event);
      this.#tailSize += event.data.length;
    }
    this.#notify();
    if (this.#tailSize > this.#options.tailLimit) this.#cutTail();
  }

  #storeThenPublish(events: readonly RunEvent[]): void {
    this.#unstored.push(...events);
    for (const { data } of events) this.#unstoredSize += data.length;
    this.#storeUnstored();
  }

  /** One thing is stored at a time; what comes meanwhile waits. */
  #storeOnce(work: () => Promise<Stored>): void {
    this.#storing ??= work().finally(() => {
      this.#storing = undefined;
    });
  }

  #storeUnstored(): void {
    if (this.#unstored.length > 0) this.#storeOnce(() => this.#storeAll());
  }

  /** What failed is kept, in front of what came meanwhile: an index has its event, or the log ends before it. */
  async #storeAll(): Promise<Stored> {
    while (this.#unstored.length > 0) {
      const batch = this.#unstored;
      this.#unstored = [];
      const outcome = await this.#store(batch);
      if (outcome === "failed") {
        this.#unstored = [...batch, ...this.#unstored];
        return outcome;
      }
      for (const { data } of batch) this.#unstoredSize -= data.length;
      if (outcome === "void") return outcome;
      this.#storedTo = lastId(batch) + 1;
      this.#publish(batch);
    }
    return "stored";
  }

  /** Drops the older half of the tail from memory, once it is in storage. */
  #cutTail(): void {
    const keep = Math.ceil(this.#tail.length / 2);
    const cut = this.#tail.slice(0, this.#tail.length - keep);
    if (cut.length === 0) return;
    if (this.resumable || lastId(cut) < this.#storedTo) this.#forget(cut.length);
    else this.#storeOnce(() => this.#spill(cut));
  }

  async #spill(events: readonly RunEvent[]): Promise<Stored> {
    const outcome = await this.#store(events);
    if (outcome !== "stored") return outcome;
    this.#storedTo = lastId(events) + 1;
    this.#forget(events.length);
    return outcome;
  }

  #forget(count: number): void {
    for (const event of this.#tail.splice(0, count)) this.#tailSize -= event.data.length;
    this.#tailStart += count;
  }

  async #store(events: readonly RunEvent[]): Promise<Stored> {
    try {
      return (await this.#options.shelf.store(this, events)) ? "stored" : "void";
    } catch (error) {
      this.#options.onError(error);
      return "failed";
    }
  }
}

const lastId = (events: readonly RunEvent[]): number => events[events.length - 1]?.id ?? -1;
