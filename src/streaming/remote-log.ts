/**
 * The log of a run that this process does not hold: what Redis has of it, and the database behind that.
 *
 * However many follow it here, it is read once: the newest events are in memory, as those of our own logs are. Whoever
 * starts further back reads pages, and those who want the same page at once share it. When the run comes to be held here,
 * readers go on with our own log.
 *
 * Messages may be lost, and Redis too. So a log that is followed is looked at now and then, whatever was heard: what the
 * database says has ended ends here too, after what can still be had. The database is asked about all logs at once, and
 * Redis about each: the less often, the longer nothing was missed.
 */
import { unavailable } from "../errors.ts";
import type { LogElsewhere, WhichRun } from "./broker.ts";
import type { EventLog } from "./event-log.ts";
import type { RunEvent } from "./events.ts";
import type { LogState } from "./redis-streams.ts";
import { earlierOf, isGap, type RunOutput } from "./run-log.ts";

export interface RemoteSource {
  /** A page of what Redis has. Rejects when Redis is away. */
  read(
    run_id: string,
    after: number,
  ): Promise<{ state: LogState | undefined; events: readonly RunEvent[]; full: boolean }>;
  /** A page of what the database has. */
  load(run_id: string, after: number): Promise<readonly RunEvent[]>;
  /** Calls back when the log may have grown, or is gone, until the returned function is called. */
  listen(run_id: string, hint: (isGone: boolean) => void): { readonly ready: Promise<void>; stop(): void };
  /** Asks whoever held a run that has ended to show its log again. */
  ask(run_id: string): void;
  /** Between the end of a run in the database and the end of its log without a word from whoever held it, milliseconds. */
  readonly lastWordsMs: number;
  /** Redis failed a read that nobody waits for. */
  readonly onError: (error: unknown) => void;
}

/** Rounds without a look at an idle log, at most. */
const MOST_PASSED = 7;

export class RemoteLog implements LogElsewhere {
  readonly run_id: string;
  readonly thread_id: string;
  readonly resumable: boolean;
  place: number | undefined;
  readonly #source: RemoteSource;
  readonly #tailLimit: number;
  readonly #onFollowed: (log: RemoteLog) => void;
  readonly #subscribers = new Set<() => void>();
  readonly #pages = new Map<number, Promise<readonly RunEvent[]>>();
  /** All events after `#floor`, up to `#cursor`. */
  #tail: RunEvent[] = [];
  #tailSize = 0;
  #floor = -1;
  #cursor = -1;
  #ended = false;
  #output: RunOutput | null = null;
  #isCut = false;
  #lacksEvents = false;
  #listening: { stop(): void } | undefined;
  #pulling: Promise<void> | undefined;
  #again = false;
  /** Rounds that pass between two looks at a log of which Redis had nothing unheard of, and those still to pass. */
  #pause = 0;
  #passing = 0;
  /** When the database was first seen to say that the run has ended. */
  #overSince: number | undefined;
  #local: { readonly log: EventLog; readonly leave: () => void } | undefined;

  constructor(which: WhichRun, source: RemoteSource, tailLimit: number, onFollowed: (log: RemoteLog) => void) {
    const { run_id, thread_id, resumable, place } = which;
    this.run_id = run_id;
    this.thread_id = thread_id;
    this.resumable = resumable;
    this.place = place;
    this.#source = source;
    this.#tailLimit = tailLimit;
    this.#onFollowed = onFollowed;
  }

  get ended(): boolean {
    return this.#local?.log.ended ?? this.#ended;
  }

  get output(): RunOutput | null {
    return this.#local === undefined ? this.#output : this.#local.log.output;
  }

  get isCut(): boolean {
    return this.#local?.log.isCut ?? this.#isCut;
  }

  get lacksEvents(): boolean {
    return this.#local?.log.lacksEvents ?? this.#lacksEvents;
  }

  get next(): number {
    return this.#local?.log.next ?? this.#cursor + 1;
  }

  get size(): number {
    return this.#local?.log.size ?? this.#tailSize;
  }

  /** Readers that follow this log now. */
  get readers(): number {
    return this.#subscribers.size;
  }

  /** What is known of it from elsewhere: where it stands on its thread, and where to begin to read. */
  know({ place, next, size }: LogState): void {
    this.place = place;
    // Of a long log only the newest part is kept here.
    if (this.#cursor === -1 && size > this.#tailLimit) this.#cursor = this.#floor = next - 1;
  }

  read(after: number): Promise<readonly RunEvent[]> {
    if (this.#local !== undefined) return this.#local.log.read(after);
    return after >= this.#floor ? Promise.resolve(this.#newer(after)) : this.#page(after);
  }

  subscribe(hint: () => void): () => void {
    this.#subscribers.add(hint);
    if (this.#subscribers.size === 1) {
      this.#onFollowed(this);
      this.#listen();
    }
    return () => {
      if (this.#subscribers.delete(hint) && this.#subscribers.size === 0) this.#stopListening();
    };
  }

  adopt(log: EventLog): void {
    if (this.#ended) return;
    this.#local?.leave();
    this.#local = { log, leave: log.subscribe(() => this.#notify()) };
    this.#notify();
  }

  release(log: EventLog): void {
    if (this.#local?.log !== log) return;
    this.#local.leave();
    this.#local = undefined;
    this.hint();
  }

  end(): void {
    this.#finish(null);
  }

  /** Nobody follows it any more. */
  close(): void {
    this.#stopListening();
    this.#local?.leave();
  }

  /** The log may have grown. */
  hint(): void {
    if (this.#ended || this.#local !== undefined || this.#subscribers.size === 0) return;
    this.#pull().catch(this.#source.onError);
  }

  /**
   * A round: looks whatever was heard, or in a later round. `isOver`: the database says that the run has ended, or is gone;
   * then it looks at once, as it does when it `must`.
   */
  async check({ isOver, must }: { readonly isOver: boolean; readonly must: boolean }): Promise<void> {
    if (this.#ended || this.#local !== undefined) return;
    if (isOver) this.#overSince ??= Date.now();
    const since = isOver ? this.#overSince : undefined;
    if (since === undefined && !must && this.#passing > 0) {
      this.#passing -= 1;
      return;
    }
    const before = this.#cursor;
    await this.#look();
    if (this.#ended || since === undefined) return;
    // Whoever held the run is still telling.
    if (this.#cursor !== before) this.#overSince = Date.now();
    else if (since + this.#source.lastWordsMs <= Date.now()) await this.#cut();
    else this.#source.ask(this.run_id);
  }

  /** No word of its end has come. What a log has stored is all of it when it is kept; else it is what did not stay in memory. */
  async #cut(): Promise<void> {
    await this.#pullStored();
    this.#isCut = true;
    this.#lacksEvents = !this.resumable;
    this.#finish(null);
  }

  /** Redis may be away. What is kept is in the database too. */
  async #look(): Promise<void> {
    const before = this.#cursor;
    try {
      await this.#pull();
      this.#pause = this.#cursor === before ? Math.min(2 * this.#pause + 1, MOST_PASSED) : 0;
    } catch {
      this.#pause = 0;
      if (this.resumable) await this.#pullStored();
    }
    this.#passing = this.#pause;
  }

  #listen(): void {
    const listening = this.#source.listen(this.run_id, (isGone) => (isGone ? this.end() : this.hint()));
    this.#listening = listening;
    this.hint();
    // What came before Redis heard of us was told to nobody.
    void listening.ready.then(() => this.hint());
  }

  #stopListening(): void {
    this.#listening?.stop();
    this.#listening = undefined;
  }

  #notify(): void {
    for (const hint of this.#subscribers) hint();
  }

  /** Reads what is new. Calls that come while one is under way share the next. */
  #pull(): Promise<void> {
    if (this.#pulling !== undefined) {
      this.#again = true;
      return this.#pulling;
    }
    this.#pulling = this.#pullAll().finally(() => {
      this.#pulling = undefined;
    });
    return this.#pulling;
  }

  async #pullAll(): Promise<void> {
    do {
      this.#again = false;
      let isFull = true;
      while (isFull && !this.#ended) {
        const { state, events, full } = await this.#source.read(this.run_id, this.#cursor);
        this.#take(events);
        if (!full && state?.ended === true) await this.#reachEnd(state);
        isFull = full;
      }
    } while (this.#again && !this.#ended);
  }

  /** What Redis has lost comes from the database, if it is there. */
  async #reachEnd({ next, output }: LogState): Promise<void> {
    if (next > this.#cursor + 1) await this.#pullStored();
    this.#lacksEvents = isGap(this.#cursor, next);
    this.#finish(output);
  }

  async #pullStored(): Promise<void> {
    for (;;) {
      const events = await this.#source.load(this.run_id, this.#cursor);
      if (events.length === 0) return;
      this.#take(events);
    }
  }

  #take(events: readonly RunEvent[]): void {
    const news = events.filter(({ id }) => id > this.#cursor);
    const [first] = news;
    if (first === undefined || this.#ended) return;
    if (first.id > this.#cursor + 1) this.#startTail(first.id - 1);
    for (const event of news) {
      this.#tail.push(event);
      this.#tailSize += event.data.length;
      this.#cursor = event.id;
    }
    if (this.#tailSize > this.#tailLimit) this.#cutTail();
    this.#notify();
  }

  #startTail(floor: number): void {
    this.#tail = [];
    this.#tailSize = 0;
    this.#floor = floor;
  }

  #cutTail(): void {
    const cut = this.#tail.splice(0, Math.floor(this.#tail.length / 2));
    for (const { data } of cut) this.#tailSize -= data.length;
    this.#floor = cut[cut.length - 1]?.id ?? this.#floor;
  }

  #newer(after: number): readonly RunEvent[] {
    let low = 0;
    for (let high = this.#tail.length; low < high; ) {
      const middle = (low + high) >> 1;
      if ((this.#tail[middle] as RunEvent).id > after) high = middle;
      else low = middle + 1;
    }
    return this.#tail.slice(low);
  }

  #page(after: number): Promise<readonly RunEvent[]> {
    const asked = this.#pages.get(after);
    if (asked !== undefined) return asked;
    const page = this.#older(after).finally(() => this.#pages.delete(after));
    this.#pages.set(after, page);
    return page;
  }

  async #older(after: number): Promise<readonly RunEvent[]> {
    const { events } = await this.#source.read(this.run_id, after).catch(() => ({ events: [] }));
    if (events[0]?.id === after + 1) return events;
    const page = earlierOf(await this.#source.load(this.run_id, after), events);
    if (page[0] !== undefined && !isGap(after, page[0].id)) return page;
    throw unavailable(`the events after ${after} of run ${this.run_id} are no longer kept`);
  }

  #finish(output: RunOutput | null): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#output = output;
    this.#stopListening();
    this.#notify();
  }
}

export interface RemoteLogsOptions {
  readonly source: RemoteSource;
  readonly tailLimit: number;
  /** Those of the runs that are pending or running. */
  readonly inFlight: (run_ids: readonly string[]) => Promise<ReadonlySet<string>>;
  /** How often logs that are followed are looked at, milliseconds. */
  readonly everyMs: number;
  /** The database failed; it is asked again in time. */
  readonly onError: (error: unknown) => void;
}

/** The logs of other processes that are followed here. */
export class RemoteLogs {
  readonly #options: RemoteLogsOptions;
  readonly #logs = new Map<string, RemoteLog>();
  /** Nobody followed them when they were last looked at. */
  readonly #idle = new Set<RemoteLog>();
  readonly #timer: NodeJS.Timeout;
  #checking = false;

  constructor(options: RemoteLogsOptions) {
    this.#options = options;
    this.#timer = setInterval(() => void this.#round(false), options.everyMs).unref();
  }

  get size(): number {
    return this.#logs.size;
  }

  find(run_id: string): RemoteLog | undefined {
    return this.#logs.get(run_id);
  }

  open(which: WhichRun): RemoteLog {
    const known = this.#logs.get(which.run_id);
    if (known !== undefined) {
      known.place ??= which.place;
      return known;
    }
    const { source, tailLimit } = this.#options;
    const log = new RemoteLog(which, source, tailLimit, (followed) => this.#keep(followed));
    this.#keep(log);
    return log;
  }

  drop(run_id: string): void {
    const log = this.#logs.get(run_id);
    if (log === undefined) return;
    this.#logs.delete(run_id);
    this.#idle.delete(log);
    log.close();
  }

  /** Looks at all that is followed. Never rejects. */
  check(): Promise<void> {
    return this.#round(true);
  }

  /** Drops what nobody follows, and looks at the rest: each in its turn, or when it `must`. */
  async #round(must: boolean): Promise<void> {
    if (this.#checking) return;
    this.#checking = true;
    try {
      this.#dropIdle();
      const followed = [...this.#logs.values()].filter(({ readers, ended }) => readers > 0 && !ended);
      if (followed.length === 0) return;
      const inFlight = await this.#options.inFlight(followed.map(({ run_id }) => run_id));
      await Promise.all(followed.map((log) => log.check({ isOver: !inFlight.has(log.run_id), must })));
    } catch (error) {
      this.#options.onError(error);
    } finally {
      this.#checking = false;
    }
  }

  close(): void {
    clearInterval(this.#timer);
    for (const run_id of [...this.#logs.keys()]) this.drop(run_id);
  }

  /** Whoever kept a log that nobody followed may follow it again. */
  #keep(log: RemoteLog): void {
    if (!this.#logs.has(log.run_id)) this.#logs.set(log.run_id, log);
    this.#idle.delete(log);
  }

  #dropIdle(): void {
    for (const log of this.#logs.values()) {
      if (log.readers > 0) this.#idle.delete(log);
      else if (this.#idle.has(log)) this.drop(log.run_id);
      else this.#idle.add(log);
    }
  }
}
