/** Shows the logs of this process to others, and theirs here, over Redis; the database is behind it. */
import type { Begun, RelayOptions, ThreadNews, WhichRun } from "./broker.ts";
import { DatabaseRelay } from "./database-relay.ts";
import type { EventLog } from "./event-log.ts";
import type { RunEvent } from "./events.ts";
import { Publisher } from "./publisher.ts";
import type { RedisClient, Subscriptions } from "./redis-links.ts";
import { GONE, type Streams } from "./redis-streams.ts";
import type { RemoteLog } from "./remote-log.ts";

export interface RedisParts {
  readonly client: RedisClient;
  readonly heard: Subscriptions;
  readonly streams: Streams;
  readonly prefix: string;
  /** Asks whoever held the run, which has ended, to show its log again. */
  readonly ask: (run_id: string) => void;
  /** Redis failed something that nobody waits for. */
  readonly onTrouble: (error: unknown) => void;
}

/** Whoever held the run may have to find Redis again first, to show how it ended. */
const LAST_WORDS_MS = 3000;

/** For the events of an attempt to be shown before another process begins the next. */
const SHOWN_MS = 500;

/** For the ends of runs to be shown when the process stops. */
const FAREWELL_MS = 1000;

/** Runs of a thread whose place is remembered, and for how long. */
const LINE_LENGTH = 100;
const LINE_MS = 600_000;

export class RedisRelay extends DatabaseRelay {
  readonly #parts: RedisParts;
  readonly #publisher: Publisher;

  constructor(options: RelayOptions, parts: RedisParts) {
    const { streams, heard, ask, onTrouble } = parts;
    super(options, {
      read: (run_id, after) => streams.read(run_id, after),
      listen: (run_id, hint) => heard.listen(streams.channel(run_id), (message) => hint(message === GONE)),
      ask,
      lastWordsMs: LAST_WORDS_MS,
      onError: onTrouble,
    });
    this.#parts = parts;
    this.#publisher = new Publisher({ streams, onError: onTrouble, keepEndedMs: options.keepEndedMs });
  }

  override publish(log: EventLog, fence: number): void {
    this.#publisher.publish(log, fence);
    const { run_id, thread_id, resumable, place = 0 } = log;
    this.#join({ run_id, thread_id, resumable, place }).catch(this.#parts.onTrouble);
  }

  override show(log: EventLog): void {
    this.#publisher.show(log);
  }

  override erase(run_ids: readonly string[]): void {
    for (const run_id of run_ids) {
      this.#publisher.stop(run_id);
      this.#parts.streams.remove(run_id).catch(this.#parts.onTrouble);
    }
  }

  override shown(run_id: string): Promise<void> {
    return this.#publisher.shown(run_id, SHOWN_MS);
  }

  override gone(thread_id: string): void {
    const news: ThreadNews = { kind: "gone" };
    this.#parts.client.publish(this.#thread(thread_id), JSON.stringify(news)).catch(this.#parts.onTrouble);
  }

  override async look(which: WhichRun): Promise<RemoteLog> {
    const known = this.find(which.run_id);
    if (known !== undefined) return known;
    const state = await this.#parts.streams.state(which.run_id).catch(() => undefined);
    const log = this.open(which);
    if (state !== undefined) log.know(state);
    return log;
  }

  override async earlier(run_id: string, after: number): Promise<readonly RunEvent[]> {
    return (await this.#parts.streams.read(run_id, after).catch(() => ({ events: [] }))).events;
  }

  override async recall(run_id: string): Promise<WhichRun | undefined> {
    const state = await this.#parts.streams.state(run_id).catch(() => undefined);
    return state && { run_id, thread_id: state.thread_id, resumable: state.resumable, place: state.place };
  }

  override listen(
    thread_id: string,
    hear: (news: ThreadNews) => void,
  ): { readonly ready: Promise<void>; stop(): void } {
    const polled = super.listen(thread_id, hear);
    const { ready, stop } = this.#parts.heard.listen(this.#thread(thread_id), (message) => {
      if (message !== null) hear(JSON.parse(message) as ThreadNews);
    });
    return {
      ready,
      stop: () => {
        polled.stop();
        stop();
      },
    };
  }

  /** Redis knows runs that are in the database no more. */
  override async line(thread_id: string, from: number | null): Promise<readonly Begun[]> {
    const known = new Map((await super.line(thread_id, from)).map((begun) => [begun.run_id, begun]));
    if (from !== null) for (const begun of await this.#remembered(thread_id, from)) known.set(begun.run_id, begun);
    return [...known.values()].sort((a, b) => a.place - b.place);
  }

  /** Redis is back: what it lost is shown again, and what we missed is looked for. */
  recover(): void {
    this.#publisher.check();
    this.check();
  }

  override async close(): Promise<void> {
    await this.#publisher.close(FAREWELL_MS);
    await super.close();
  }

  #thread(thread_id: string): string {
    return `${this.#parts.prefix}skein:thread:{${thread_id}}`;
  }

  async #join(begun: Begun): Promise<void> {
    const { client } = this.#parts;
    const { place, thread_id, ...member } = begun;
    const key = `${this.#thread(thread_id)}:line`;
    const news: ThreadNews = { kind: "began", begun };
    await Promise.all([
      client.zadd(key, place, JSON.stringify(member)),
      client.zremrangebyrank(key, 0, -1 - LINE_LENGTH),
      client.pexpire(key, LINE_MS),
      client.publish(this.#thread(thread_id), JSON.stringify(news)),
    ]);
  }

  async #remembered(thread_id: string, from: number): Promise<Begun[]> {
    const key = `${this.#thread(thread_id)}:line`;
    const flat = await this.#parts.client.zrangebyscore(key, from, "+inf", "WITHSCORES").catch(() => []);
    return Array.from({ length: flat.length / 2 }, (_, index) => ({
      ...(JSON.parse(flat[2 * index] ?? "") as Omit<Begun, "place" | "thread_id">),
      thread_id,
      place: Number(flat[2 * index + 1]),
    }));
  }
}
