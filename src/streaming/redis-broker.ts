/**
 * The broker of several processes, over Redis.
 *
 *   wake       a list of tokens, one for each run that is ready. Workers with a free slot wait in a blocking pop, and Redis
 *              serves them in the order they came: so runs are spread evenly. Tokens are hints, and the list is capped.
 *   signals    a channel that all processes hear
 *   run:{id}   a log (`redis-streams.ts`), and a channel that tells of its growth
 *   thread:{id}:line   where the logs of a thread's runs stand; a channel tells of runs that begin
 */
import { randomUUID } from "node:crypto";
import type { Begun, Broker, BrokerState, Relay, RelayOptions, Signal, ThreadNews, WhichRun, Worker } from "./broker.ts";
import type { EventLog } from "./event-log.ts";
import type { RunEvent } from "./events.ts";
import { Publisher } from "./publisher.ts";
import { connect, type RedisClient, type RedisSettings, Subscriptions } from "./redis-links.ts";
import { type Seal, Streams } from "./redis-streams.ts";
import { type RemoteLog, RemoteLogs } from "./remote-log.ts";

export interface RedisBrokerOptions extends RedisSettings {
  /** Null: what is written is written plain. */
  readonly seal: Seal | null;
  /** Told of trouble that nobody waits for; the same trouble is told once until it is over. */
  readonly onTrouble: (error: unknown) => void;
  /** Redis can be had again. */
  readonly onRecovery: () => void;
}

/** More than there are slots anywhere; what is beyond it is found by whoever frees a slot. */
const MOST_TOKENS = 10_000;
const POP_SECONDS = 5;
const PAUSE_MS = 500;
/** Bytes of a run's events in Redis. */
const STREAM_LIMIT = 8 * 1024 * 1024;
/** How often followed logs and threads are looked at, whatever was heard. */
const LOOK_MS = 2000;
const LINE_MS = 600_000;
const LINE_LENGTH = 100;

export class RedisBroker implements Broker {
  readonly #options: RedisBrokerOptions;
  readonly #id = randomUUID();
  readonly #client: RedisClient;
  readonly #heard: Subscriptions;
  readonly #listeners: ((signal: Signal) => void)[] = [];
  readonly #closing = new AbortController();
  #pops: RedisClient | undefined;
  #relay: RedisRelay | undefined;
  #isAway = false;

  constructor(options: RedisBrokerOptions) {
    this.#options = options;
    this.#client = connect(options, "commands", this.#onError);
    this.#client.on("ready", this.#onReady);
    this.#heard = new Subscriptions(options, this.#onError);
    this.#heard.listen(this.#key("signals"), (message) => this.#receive(message));
  }

  /** Resolves when Redis answers, or after a while without. */
  async start(patienceMs: number): Promise<void> {
    const end = Date.now() + patienceMs;
    while (this.state !== "connected" && Date.now() < end) await pause(20, this.#closing.signal);
  }

  get state(): BrokerState {
    return this.#client.status === "ready" && !this.#isAway ? "connected" : "unreachable";
  }

  wake(runs: number): void {
    if (runs <= 0) return;
    const tokens = Array.from({ length: Math.min(runs, MOST_TOKENS) }, () => "1");
    const key = this.#key("wake");
    this.#send(async () => {
      if ((await this.#client.rpush(key, ...tokens)) > MOST_TOKENS) await this.#client.ltrim(key, 0, MOST_TOKENS - 1);
    });
  }

  work(worker: Worker): void {
    this.#pops = connect(this.#options, "blocking", this.#onError);
    void this.#takeWakes(this.#pops, worker);
  }

  tell(signal: Signal): void {
    const message = JSON.stringify({ from: this.#id, signal });
    this.#send(() => this.#client.publish(this.#key("signals"), message));
  }

  hear(listener: (signal: Signal) => void): void {
    this.#listeners.push(listener);
  }

  relay(options: RelayOptions): Relay {
    const { prefix, seal } = this.#options;
    this.#relay = new RedisRelay({
      ...options,
      client: this.#client,
      heard: this.#heard,
      streams: new Streams({ client: this.#client, prefix, seal, limit: STREAM_LIMIT }),
      prefix,
      onError: this.#onError,
    });
    return this.#relay;
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#pops?.disconnect();
    await this.#relay?.close();
    this.#heard.close();
    this.#client.disconnect();
  }

  #key(name: string): string {
    return `${this.#options.prefix}skein:${name}`;
  }

  readonly #onReady = (): void => {
    this.#relay?.recover();
    this.#recovered();
  };

  readonly #onError = (error: unknown): void => {
    if (this.#closing.signal.aborted || this.#isAway) return;
    this.#isAway = true;
    this.#options.onTrouble(error);
    void this.#untilAnswer();
  };

  /** A connection that is up may still be of no use (Redis is paused, or the other end is gone). */
  async #untilAnswer(): Promise<void> {
    while (this.#isAway && !this.#closing.signal.aborted) {
      await pause(PAUSE_MS, this.#closing.signal);
      if (this.#client.status !== "ready") continue;
      if (await this.#client.ping().then(() => true, () => false)) this.#onReady();
    }
  }

  #recovered(): void {
    if (!this.#isAway) return;
    this.#isAway = false;
    this.#options.onRecovery();
  }

  #send(work: () => Promise<unknown>): void {
    work().catch(this.#onError);
  }

  #receive(message: string | null): void {
    if (message === null) return;
    const { from, signal } = JSON.parse(message) as { readonly from: string; readonly signal: Signal };
    if (from === this.#id) return;
    for (const listener of this.#listeners) listener(signal);
  }

  async #takeWakes(client: RedisClient, worker: Worker): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      try {
        await worker.whenFree();
        if (signal.aborted) return;
        const popped = await client.blpop(this.#key("wake"), POP_SECONDS);
        if (popped !== null) await this.#useToken(worker);
      } catch (error) {
        if (signal.aborted) return;
        this.#onError(error);
        await pause(PAUSE_MS, signal);
      }
    }
  }

  /** A slot that was free may be taken by now: then the token is for somebody else. */
  async #useToken(worker: Worker): Promise<void> {
    const free = worker.free();
    if (free <= 0) this.wake(1);
    else await worker.claim(1 + (await this.#moreTokens(free - 1)));
  }

  /** When many wait, an eighth of them at once: there are others who want some. */
  async #moreTokens(most: number): Promise<number> {
    if (most <= 0) return 0;
    const key = this.#key("wake");
    const more = Math.min(most, Math.floor((await this.#client.llen(key)) / 8));
    const popped = await Promise.all(Array.from({ length: more }, () => this.#client.lpop(key)));
    return popped.filter((token) => token !== null).length;
  }
}

interface RedisRelayOptions extends RelayOptions {
  readonly client: RedisClient;
  readonly heard: Subscriptions;
  readonly streams: Streams;
  readonly prefix: string;
  readonly onError: (error: unknown) => void;
}

class RedisRelay implements Relay {
  readonly #options: RedisRelayOptions;
  readonly #publisher: Publisher;
  readonly #remote: RemoteLogs;
  readonly #watched = new Map<string, Set<(news: ThreadNews) => void>>();
  readonly #timer: NodeJS.Timeout;

  constructor(options: RedisRelayOptions) {
    const { streams, heard, shelf, onError, tailLimit, inFlight, keepEndedMs } = options;
    this.#options = options;
    this.#publisher = new Publisher({ streams, onError, keepEndedMs });
    const source = {
      read: (run_id: string, after: number) => streams.read(run_id, after),
      load: (run_id: string, after: number) => shelf.load(run_id, after),
      listen: (run_id: string, hint: () => void) => heard.listen(streams.channel(run_id), hint),
      onError,
    };
    this.#remote = new RemoteLogs({ source, tailLimit, inFlight, everyMs: LOOK_MS });
    this.#timer = setInterval(() => void this.#lookAtThreads(), LOOK_MS).unref();
  }

  publish(log: EventLog, fence: number): void {
    this.#publisher.publish(log, fence);
    const { run_id, thread_id, resumable, place = 0 } = log;
    const news: ThreadNews = { kind: "began", begun: { run_id, thread_id, resumable, place } };
    this.#join(news.begun, JSON.stringify(news)).catch(this.#options.onError);
  }

  erase(run_ids: readonly string[]): void {
    for (const run_id of run_ids) {
      this.#publisher.stop(run_id);
      this.#options.streams.remove(run_id).catch(this.#options.onError);
    }
  }

  find(run_id: string): RemoteLog | undefined {
    return this.#remote.find(run_id);
  }

  open(which: WhichRun): RemoteLog {
    return this.#remote.open(which);
  }

  async look(which: WhichRun): Promise<RemoteLog> {
    const known = this.#remote.find(which.run_id);
    if (known !== undefined) return known;
    const state = await this.#options.streams.state(which.run_id).catch(() => undefined);
    const log = this.#remote.open(which);
    if (state !== undefined) log.know(state);
    return log;
  }

  async earlier(run_id: string, after: number): Promise<readonly RunEvent[]> {
    return (await this.#options.streams.read(run_id, after).catch(() => ({ events: [] }))).events;
  }

  check(): void {
    void this.#remote.check();
  }

  async recall(run_id: string): Promise<WhichRun | undefined> {
    const state = await this.#options.streams.state(run_id).catch(() => undefined);
    return state && { run_id, thread_id: state.thread_id, resumable: state.resumable, place: state.place };
  }

  listen(thread_id: string, hear: (news: ThreadNews) => void): { readonly ready: Promise<void>; stop(): void } {
    const hears = this.#watched.get(thread_id) ?? new Set();
    this.#watched.set(thread_id, hears.add(hear));
    const { ready, stop } = this.#options.heard.listen(this.#thread(thread_id), (message) => {
      if (message !== null) hear(JSON.parse(message) as ThreadNews);
    });
    return {
      ready,
      stop: () => {
        hears.delete(hear);
        if (hears.size === 0 && this.#watched.get(thread_id) === hears) this.#watched.delete(thread_id);
        stop();
      },
    };
  }

  async line(thread_id: string, from: number | null): Promise<readonly Begun[]> {
    const known = new Map<string, Begun>();
    for (const begun of await this.#options.begun(thread_id, from)) known.set(begun.run_id, begun);
    if (from !== null) for (const begun of await this.#lineInRedis(thread_id, from)) known.set(begun.run_id, begun);
    return [...known.values()].sort((a, b) => a.place - b.place);
  }

  gone(thread_id: string): void {
    const { client, onError } = this.#options;
    const news: ThreadNews = { kind: "gone" };
    client.publish(this.#thread(thread_id), JSON.stringify(news)).catch(onError);
  }

  /** Redis is back: what it lost is shown again, and what we missed is looked for. */
  recover(): void {
    this.#publisher.check();
    void this.#remote.check();
    void this.#lookAtThreads();
  }

  close(): Promise<void> {
    clearInterval(this.#timer);
    this.#publisher.close();
    this.#remote.close();
    return Promise.resolve();
  }

  #thread(thread_id: string): string {
    return `${this.#options.prefix}skein:thread:{${thread_id}}`;
  }

  async #join({ place, thread_id, ...begun }: Begun, news: string): Promise<void> {
    const { client } = this.#options;
    const key = `${this.#thread(thread_id)}:line`;
    await Promise.all([
      client.zadd(key, place, JSON.stringify(begun)),
      client.zremrangebyrank(key, 0, -1 - LINE_LENGTH),
      client.pexpire(key, LINE_MS),
      client.publish(this.#thread(thread_id), news),
    ]);
  }

  async #lineInRedis(thread_id: string, from: number): Promise<Begun[]> {
    const { client } = this.#options;
    const key = `${this.#thread(thread_id)}:line`;
    const flat = await client.zrangebyscore(key, from, "+inf", "WITHSCORES").catch(() => []);
    return Array.from({ length: flat.length / 2 }, (_, index) => ({
      ...(JSON.parse(flat[2 * index] ?? "") as Omit<Begun, "place" | "thread_id">),
      thread_id,
      place: Number(flat[2 * index + 1]),
    }));
  }

  /** What was said of watched threads may have been lost. */
  async #lookAtThreads(): Promise<void> {
    try {
      for (const [thread_id, hears] of this.#watched) {
        for (const begun of await this.#options.begun(thread_id, null)) {
          for (const hear of hears) hear({ kind: "began", begun });
        }
      }
    } catch (error) {
      this.#options.onError(error);
    }
  }
}

const pause = (ms: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done, { once: true });
    if (signal.aborted) done();
  });
