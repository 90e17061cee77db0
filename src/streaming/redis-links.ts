/**
 * Connections to Redis (>= 5, Valkey, one node or a cluster). `ioredis`: it pipelines what one turn of the event loop
 * sends, speaks to clusters under the same interface, and says when a connection is lost and back.
 *
 * Nothing is queued while Redis is away: a command fails at once, and whoever sent it knows what to send later. A command
 * that gets no answer fails too, and so does the connection (`socketTimeout`), because it may be half open.
 */
import { Cluster, Redis, type RedisOptions } from "ioredis";
import { type RedisPlace, redisPlace, withoutSecrets } from "../redis-uri.ts";

export interface RedisSettings {
  /** `redis://…` or `rediss://…`, as `redis-uri.ts` reads it. */
  readonly uri: string;
  /** In front of every key and channel. */
  readonly prefix: string;
  readonly cluster: boolean;
}

export type RedisClient = Redis | Cluster;

const COMMAND_MS = 2000;
const CONNECT_MS = 5000;
const PING_MS = 5000;
const SUBSCRIBE_MS = 1000;
const CHANNELS_AT_ONCE = 1000;

const retryStrategy = (times: number): number => Math.min(50 * 2 ** Math.min(times, 5), 1000);

/** Without the one that changes the types of replies. */
type Options = Omit<RedisOptions, "replyMapping">;

const COMMON: Options = {
  // Redis 5 knows no other.
  protocol: 2,
  enableOfflineQueue: false,
  autoResendUnfulfilledCommands: false,
  autoResubscribe: false,
  maxRetriesPerRequest: 0,
  connectTimeout: CONNECT_MS,
  keepAlive: 10_000,
  enableAutoPipelining: false,
  retryStrategy,
  // A failover leaves a connection to a node that takes no writes.
  reconnectOnError: (error: Error): boolean => error.message.startsWith("READONLY"),
};

const COMMANDS: Options = { ...COMMON, commandTimeout: COMMAND_MS, socketTimeout: 2 * COMMAND_MS };
/** `blockingTimeout` guards a pop that Redis never answers. */
const BLOCKING: Options = { ...COMMON, blockingTimeout: 10_000, blockingTimeoutGrace: 2000 };

/** A connection, or one to each node of a cluster. It comes back by itself; errors are for `onError`. */
export function connect(
  { uri, cluster }: RedisSettings,
  use: "commands" | "blocking",
  onError: (error: unknown) => void,
): RedisClient {
  const options: Options = use === "blocking" ? BLOCKING : { ...COMMANDS, enableAutoPipelining: true };
  const place = redisPlace(uri);
  const client: RedisClient = cluster ? clusterOf(place, options) : new Redis({ ...options, ...place });
  client.on("error", onError);
  return client;
}

function clusterOf({ host, port, username, password, tls }: RedisPlace, options: Options): Cluster {
  const { commandTimeout, socketTimeout, blockingTimeout, blockingTimeoutGrace, connectTimeout, keepAlive } = options;
  return new Cluster([{ host, port }], {
    enableOfflineQueue: false,
    enableAutoPipelining: options.enableAutoPipelining === true,
    clusterRetryStrategy: retryStrategy,
    redisOptions: {
      protocol: 2,
      maxRetriesPerRequest: 0,
      commandTimeout,
      socketTimeout,
      blockingTimeout,
      blockingTimeoutGrace,
      connectTimeout,
      keepAlive,
      ...(username === undefined ? {} : { username }),
      ...(password === undefined ? {} : { password }),
      ...(tls === undefined ? {} : { tls }),
    },
  });
}

/**
 * What to tell of trouble: a command that was not sent because there is no connection says so in words that mean ioredis's
 * own state, whatever the cause; and nothing is wrong with Redis when the connection has only not come up yet.
 */
export function troubleOf(error: unknown, { uri }: RedisSettings): unknown {
  const isUnsent = error instanceof Error && /enableOfflineQueue/.test(error.message);
  return isUnsent ? new Error(`there is no connection to ${withoutSecrets(redisPlace(uri))} now`) : error;
}

/**
 * Why a server of this kind cannot be used as it is set; undefined when it can. What it does not tell is not held against
 * it. A cluster that is taken for a single server answers for the slots of one node only.
 */
export async function mismatchOf(client: RedisClient, { cluster }: RedisSettings): Promise<string | undefined> {
  if (cluster) return undefined;
  const info = await client.info("cluster").catch(() => "");
  return /^cluster_enabled:1/m.test(info) ? "it is a node of a Redis cluster: set REDIS_CLUSTER=true" : undefined;
}

/** Whether a cluster was asked for where there is none. */
export function isNoCluster(error: unknown): boolean {
  const { lastNodeError } = (error ?? {}) as { readonly lastNodeError?: Error };
  return lastNodeError?.message.includes("cluster support disabled") === true;
}

/** Null: messages may have been missed. */
export type Hear = (message: string | null) => void;

export interface Listening {
  /** Resolves when Redis has confirmed, or is not to be had. */
  readonly ready: Promise<void>;
  stop(): void;
}

/** One connection that hears all channels this process wants to hear. */
export class Subscriptions {
  readonly #client: RedisClient;
  readonly #onError: (error: unknown) => void;
  readonly #heard = new Map<string, Set<Hear>>();
  readonly #ping: NodeJS.Timeout;

  constructor(settings: RedisSettings, onError: (error: unknown) => void) {
    this.#onError = onError;
    this.#client = connect(settings, "commands", onError);
    this.#client.on("message", (channel: string, message: string) => this.#hear(channel, message));
    this.#client.on("ready", () => void this.#resubscribe());
    // A subscriber waits for nothing: only an unanswered question shows that its connection is dead.
    this.#ping = setInterval(() => {
      if (this.#client.status === "ready" && this.#heard.size > 0) this.#client.ping().catch(onError);
    }, PING_MS).unref();
  }

  listen(channel: string, hear: Hear): Listening {
    const known = this.#heard.get(channel);
    const hears = known ?? new Set();
    hears.add(hear);
    this.#heard.set(channel, hears);
    const stop = (): void => {
      hears.delete(hear);
      if (hears.size > 0 || this.#heard.get(channel) !== hears) return;
      this.#heard.delete(channel);
      if (this.#client.status === "ready") this.#client.unsubscribe(channel).catch(this.#onError);
    };
    // Asked again even where it is known: the answer says that the first one was.
    const ready = this.#client.status === "ready" ? this.#subscribe([channel]) : Promise.resolve();
    return { ready, stop };
  }

  close(): void {
    clearInterval(this.#ping);
    this.#client.disconnect();
  }

  async #subscribe(channels: readonly string[]): Promise<void> {
    const confirmed = this.#client.subscribe(...channels).then(() => undefined, this.#onError);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, SUBSCRIBE_MS).unref();
    });
    await Promise.race([confirmed, late]);
    clearTimeout(timer);
  }

  /** After a lost connection: what was said meanwhile is lost too. */
  async #resubscribe(): Promise<void> {
    const channels = [...this.#heard.keys()];
    for (let at = 0; at < channels.length; at += CHANNELS_AT_ONCE) {
      await this.#subscribe(channels.slice(at, at + CHANNELS_AT_ONCE));
    }
    for (const channel of channels) this.#hear(channel, null);
  }

  #hear(channel: string, message: string | null): void {
    for (const hear of this.#heard.get(channel) ?? []) hear(message);
  }
}
