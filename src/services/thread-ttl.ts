/** The time a thread has, as asked for and as configured. */
import { invalid } from "../errors.ts";
import { TtlRequest, type TtlStrategy } from "../schemas/threads.ts";
import type { ThreadTtl } from "../storage/storage.ts";

/** What the configuration gives to threads that do not ask. */
export interface TtlDefaults {
  readonly strategy: TtlStrategy;
  /** Null: they never expire. */
  readonly minutes: number | null;
}

/** The time of a new thread; null when it does not expire. */
export function defaultTtl({ strategy, minutes }: TtlDefaults, now: number): ThreadTtl | null {
  return minutes === null ? null : from(now, strategy, minutes);
}

/**
 * The time of a thread that comes to be with a run: what `config.configurable.ttl` asks for. The name is also free for graphs,
 * so whatever is no time means nothing here.
 */
export function ttlWithRun(configurable: Readonly<Record<string, unknown>>, defaults: TtlDefaults, now: number) {
  const { success, data } = TtlRequest.safeParse(configurable.ttl);
  const asksForMinutes = success && (typeof data === "number" || data.ttl != null);
  return asksForMinutes ? askedTtl(data, defaults, now) : defaultTtl(defaults, now);
}

/** The time a request asks for. */
export function askedTtl(asked: TtlRequest, defaults: TtlDefaults, now: number): ThreadTtl {
  const { strategy, ttl } = typeof asked === "number" ? { strategy: "delete" as const, ttl: asked } : asked;
  const minutes = ttl ?? defaults.minutes;
  if (minutes === null) throw invalid("ttl.ttl", "field required (a number of minutes)");
  return from(now, strategy ?? defaults.strategy, minutes);
}

const from = (now: number, strategy: TtlStrategy, minutes: number): ThreadTtl => {
  return { strategy, minutes, expires_at: now + Math.round(minutes * 60_000) };
};
