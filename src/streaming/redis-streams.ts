/**
 * The logs of runs in Redis: one stream of chunks of events for each run, and a hash that says how it stands.
 *
 *   {run}:events   stream; an entry is a chunk, its fields are the names and data of its events in order. Its id is the
 *                  index after its last event, so that `XRANGE` from a reader's place begins with the chunk it needs.
 *   {run}:log      hash: fence, next, size, thread_id, place, resumable; ended and output at the end
 *
 * One script writes both, and refuses an attempt that is older than the one that wrote last. The script does nothing twice:
 * a call whose answer was lost is simply made again.
 */
import { createHash } from "node:crypto";
import type { RunEvent } from "./events.ts";
import type { RedisClient } from "./redis-links.ts";
import { type RunOutput, untilGap } from "./run-log.ts";

/** Encryption at rest. */
export interface Seal {
  sealText(text: string): string;
  openText(text: string): string | undefined;
}

export interface StreamsOptions {
  readonly client: RedisClient;
  readonly prefix: string;
  readonly seal: Seal | null;
  /** Bytes of events kept of a run; the older half goes when there are more. */
  readonly limit: number;
}

export interface LogState {
  readonly thread_id: string;
  readonly place: number;
  readonly resumable: boolean;
  readonly next: number;
  readonly size: number;
  readonly ended: boolean;
  readonly output: RunOutput | null;
}

export interface Chunk {
  readonly run_id: string;
  readonly thread_id: string;
  readonly place: number;
  readonly resumable: boolean;
  readonly fence: number;
  /** Consecutive. */
  readonly events: readonly RunEvent[];
  /** Index of the event after them. */
  readonly next: number;
  /** False: the log is there and this goes on behind it. */
  readonly isFirst: boolean;
  /** Nothing more follows. */
  readonly end: { readonly output: RunOutput | null } | null;
  /** How long the log is kept when nothing is heard of it, milliseconds. */
  readonly ttlMs: number;
}

/** `stale`: a later attempt writes. `lost`: Redis has forgotten the log, and wants it from the beginning. */
export type Appended = "ok" | "stale" | "lost";

/** What is said in a log's channel when the log is removed; else nothing is said but that it has grown. */
export const GONE = "gone";

/** Entries of one page. */
const PAGE = 32;

/** KEYS events, log; ARGV as in `append`. Numbers reach Redis as the text they came as: Lua would round long ones off. */
const APPEND = `
local known = redis.call('HMGET', KEYS[2], 'fence', 'next', 'size')
local fence, first, next, bytes = tonumber(ARGV[1]), ARGV[2], ARGV[3], tonumber(ARGV[4])
if known[1] and tonumber(known[1]) > fence then return 'stale' end
if not known[1] and first == '0' then return 'lost' end
if not known[1] or tonumber(known[1]) < fence then
  redis.call('HSET', KEYS[2], 'fence', ARGV[1], 'thread_id', ARGV[9], 'place', ARGV[10], 'resumable', ARGV[11])
end
if #ARGV > 11 and (not known[2] or tonumber(known[2]) < tonumber(next)) then
  redis.call('XADD', KEYS[1], next .. '-0', unpack(ARGV, 12))
  local size = tonumber(known[3] or '0') + bytes
  if size > tonumber(ARGV[6]) then
    redis.call('XTRIM', KEYS[1], 'MAXLEN', math.ceil(redis.call('XLEN', KEYS[1]) / 2))
    size = math.ceil(size / 2)
  end
  redis.call('HSET', KEYS[2], 'next', next, 'size', size)
elseif not known[2] then
  redis.call('HSET', KEYS[2], 'next', next, 'size', 0)
end
if ARGV[8] ~= '' then redis.call('HSET', KEYS[2], 'ended', '1', 'output', string.sub(ARGV[8], 2)) end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
redis.call('PUBLISH', ARGV[7], '')
return 'ok'`;
const APPEND_SHA = createHash("sha1").update(APPEND).digest("hex");

const FIELDS = ["thread_id", "place", "resumable", "next", "size", "ended", "output"] as const;

export class Streams {
  readonly #options: StreamsOptions;

  constructor(options: StreamsOptions) {
    this.#options = options;
  }

  /** Where growth of the log is told. */
  channel(run_id: string): string {
    return `${this.#options.prefix}skein:run:{${run_id}}`;
  }

  /** Writes a chunk behind the log, and its end. Rejects when Redis is away; then the same call may be made again. */
  async append(chunk: Chunk): Promise<Appended> {
    const { run_id, events, end } = chunk;
    const pairs = this.#pairs(events);
    const bytes = pairs.reduce((sum, text) => sum + text.length, 0);
    const reply = await this.#script(
      [this.#events(run_id), this.#log(run_id)],
      [
        `${chunk.fence}`,
        chunk.isFirst ? "1" : "0",
        `${chunk.next}`,
        `${bytes}`,
        `${chunk.ttlMs}`,
        `${this.#options.limit}`,
        this.channel(run_id),
        end === null ? "" : `=${end.output === null ? "" : this.#sealed(textOf(end.output))}`,
        chunk.thread_id,
        `${chunk.place}`,
        chunk.resumable ? "1" : "",
        ...pairs,
      ],
    );
    return reply as Appended;
  }

  /** How the log stands; undefined when Redis has none. */
  async state(run_id: string): Promise<LogState | undefined> {
    return this.#stateOf(await this.#options.client.hmget(this.#log(run_id), ...FIELDS));
  }

  /** Events after an index: a page of consecutive ones, and how the log stood just before. `full`: there may be more. */
  async read(
    run_id: string,
    after: number,
  ): Promise<{ state: LogState | undefined; events: readonly RunEvent[]; full: boolean }> {
    const { client } = this.#options;
    // In this order: events that came before the end are read with it.
    const [fields, entries] = await Promise.all([
      client.hmget(this.#log(run_id), ...FIELDS),
      client.xrange(this.#events(run_id), `${after + 2}-0`, "+", "COUNT", PAGE),
    ]);
    const news: RunEvent[] = [];
    let last = after;
    // A chunk may begin with what the one before it had: its first try was written, and not answered.
    for (const event of entries.flatMap(([id, pairs]) => this.#opened(id, pairs))) {
      if (event.id <= last) continue;
      news.push(event);
      last = event.id;
    }
    const events = untilGap(news);
    const full = entries.length === PAGE || events.length < news.length;
    return { state: this.#stateOf(fields), events, full };
  }

  /** Keeps the log for longer; false when Redis has lost it. */
  async touch(run_id: string, ttlMs: number): Promise<boolean> {
    const { client } = this.#options;
    const [known] = await Promise.all([
      client.pexpire(this.#log(run_id), ttlMs),
      client.pexpire(this.#events(run_id), ttlMs),
    ]);
    return known === 1;
  }

  /** Forgets the log, and tells whoever follows it. */
  async remove(run_id: string): Promise<void> {
    const { client } = this.#options;
    await Promise.all([
      client.del(this.#events(run_id), this.#log(run_id)),
      client.publish(this.channel(run_id), GONE),
    ]);
  }

  #events(run_id: string): string {
    return `${this.channel(run_id)}:events`;
  }

  #log(run_id: string): string {
    return `${this.channel(run_id)}:log`;
  }

  async #script(keys: readonly string[], args: readonly string[]): Promise<unknown> {
    const { client } = this.#options;
    try {
      return await client.evalsha(APPEND_SHA, keys.length, ...keys, ...args);
    } catch (error) {
      if (!(error instanceof Error && error.message.startsWith("NOSCRIPT"))) throw error;
      return client.eval(APPEND, keys.length, ...keys, ...args);
    }
  }

  #pairs(events: readonly RunEvent[]): string[] {
    const pairs = events.flatMap(({ event, data }) => [event, data]);
    return this.#options.seal === null || pairs.length === 0 ? pairs : ["", this.#sealed(JSON.stringify(pairs))];
  }

  #sealed(text: string): string {
    return this.#options.seal?.sealText(text) ?? text;
  }

  #unsealed(text: string): string {
    return this.#options.seal?.openText(text) ?? text;
  }

  #opened(id: string, fields: readonly string[]): RunEvent[] {
    // No event is called nothing.
    const pairs = fields[0] === "" ? (JSON.parse(this.#unsealed(fields[1] ?? "")) as string[]) : fields;
    const count = pairs.length / 2;
    const first = Number(id.slice(0, id.indexOf("-"))) - count;
    return Array.from({ length: count }, (_, index) => ({
      id: first + index,
      event: pairs[2 * index] ?? "",
      data: pairs[2 * index + 1] ?? "",
    }));
  }

  #stateOf(fields: readonly (string | null)[]): LogState | undefined {
    const [thread_id, place, resumable, next, size, ended, output] = fields;
    if (thread_id == null) return undefined;
    return {
      thread_id,
      place: Number(place),
      resumable: resumable === "1",
      next: Number(next),
      size: Number(size),
      ended: ended === "1",
      output: output ? outputOf(this.#unsealed(output)) : null,
    };
  }
}

/** Begins no JSON text: what follows is not the output itself but says where it is. */
const REFERENCE = "@";

const textOf = (output: RunOutput): string =>
  typeof output === "string" ? output : `${REFERENCE}${JSON.stringify(output)}`;

const outputOf = (text: string): RunOutput => (text.startsWith(REFERENCE) ? JSON.parse(text.slice(1)) : text);
