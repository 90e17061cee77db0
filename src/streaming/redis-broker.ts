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
import { setTimeout as delay } from "node:timers/promises";
import { ConfigError } from "../config.ts";
import type { Broker, BrokerState, Relay, RelayOptions, Signal, Worker } from "./broker.ts";
import {
  connect,
  isNoCluster,
  mismatchOf,
  type RedisClient,
  type RedisSettings,
  Subscriptions,
  troubleOf,
} from "./redis-links.ts";
import { RedisRelay } from "./redis-relay.ts";
import { type Seal, Streams } from "./redis-streams.ts";

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
const FAREWELL_MS = 1000;
const RECONNECT_LOOK_MS = 50;
/** Bytes of a run's events in Redis. */
const STREAM_LIMIT = 8 * 1024 * 1024;

export class RedisBroker implements Broker {
  readonly #options: RedisBrokerOptions;
  readonly #id = randomUUID();
  readonly #client: RedisClient;
  readonly #heard: Subscriptions;
  readonly #listeners: ((signal: Signal) => void)[] = [];
  readonly #closing = new AbortController();
  /** What has been sent and not been answered. */
  readonly #sending = new Set<Promise<void>>();
  #relay: RedisRelay | undefined;
  #isAway = false;
  /** Why Redis cannot be used as it is set. */
  #mismatch: string | undefined;

  constructor(options: RedisBrokerOptions) {
    this.#options = options;
    this.#client = connect(options, "commands", this.#onError);
    this.#client.on("ready", this.#onReady);
    this.#heard = new Subscriptions(options, this.#onError);
    this.#heard.listen(this.#key("signals"), (message) => this.#receive(message));
  }

  /** Resolves when Redis answers, or after a while without. Rejects with ConfigError when it is a cluster, or none, against the settings. */
  async start(patienceMs: number): Promise<void> {
    const end = Date.now() + patienceMs;
    while (this.state !== "connected" && Date.now() < end && this.#mismatch === undefined) {
      await pause(20, this.#closing.signal);
    }
    if (this.state === "connected") this.#mismatch ??= await mismatchOf(this.#client, this.#options);
    if (this.#mismatch !== undefined) throw new ConfigError(`REDIS_URI cannot be used: ${this.#mismatch}`);
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

  work(worker: Worker): () => void {
    const stopping = new AbortController();
    const pops = connect(this.#options, "blocking", this.#onError);
    const stop = (): void => {
      stopping.abort();
      pops.disconnect();
    };
    this.#closing.signal.addEventListener("abort", stop, { once: true });
    void this.#takeWakes(pops, worker, stopping.signal);
    return stop;
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
    const streams = new Streams({ client: this.#client, prefix, seal, limit: STREAM_LIMIT });
    const ask = (run_id: string): void => this.tell({ kind: "show", run_id });
    const parts = { client: this.#client, heard: this.#heard, streams, prefix, ask, onTrouble: this.#onError };
    this.#relay = new RedisRelay(options, parts);
    return this.#relay;
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#relay?.close();
    await Promise.race([Promise.all(this.#sending), delay(FAREWELL_MS, undefined, { ref: false })]);
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
    if (isNoCluster(error)) this.#mismatch ??= "it is no cluster, and REDIS_CLUSTER says that it is";
    this.#isAway = true;
    this.#options.onTrouble(troubleOf(error, this.#options));
    void this.#untilAnswer();
  };

  /** A connection that is up may still be of no use (Redis is paused, or the other end is gone). */
  async #untilAnswer(): Promise<void> {
    while (this.#isAway && !this.#closing.signal.aborted) {
      await pause(PAUSE_MS, this.#closing.signal);
      if (this.#client.status !== "ready") continue;
      if (
        await this.#client.ping().then(
          () => true,
          () => false,
        )
      )
        this.#onReady();
    }
  }

  #recovered(): void {
    if (!this.#isAway) return;
    this.#isAway = false;
    this.#options.onRecovery();
  }

  #send(work: () => Promise<unknown>): void {
    const sent: Promise<void> = work()
      .catch(this.#onError)
      .then(() => void this.#sending.delete(sent));
    this.#sending.add(sent);
  }

  #receive(message: string | null): void {
    if (message === null) return;
    const { from, signal } = JSON.parse(message) as { readonly from: string; readonly signal: Signal };
    if (from === this.#id) return;
    for (const listener of this.#listeners) listener(signal);
  }

  async #takeWakes(client: RedisClient, worker: Worker, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await worker.whenFree();
        while (client.status !== "ready" && !signal.aborted) await pause(RECONNECT_LOOK_MS, signal);
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
