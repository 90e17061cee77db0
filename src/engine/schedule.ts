/**
 * When a cron fires. Instants are epoch milliseconds; a wall time is what the clock on the wall shows, written as if it
 * were UTC.
 *
 * Where clocks change, two kinds of schedules mean different things. One that fires in every hour means elapsed time:
 * it goes on through a repeated hour and has nothing to do in a skipped one. One that names hours means what the clock
 * shows, and each time it names is due once a day: at its first occurrence when the hour comes twice, at the first moment
 * after the gap when it does not come (several that fall into one gap are one tick).
 */
import { tzOffset } from "@date-fns/tz";
import { Cron } from "croner";
import { invalid } from "../errors.ts";

export interface Timing {
  /** Five fields, six with seconds in front, or `@daily` and its like. */
  readonly schedule: string;
  /** IANA name; null is UTC. */
  readonly timezone: string | null;
  /** From this instant on nothing fires. */
  readonly end_time: number | null;
}

const DAY_MS = 86_400_000;
/** Spellings of all hours. */
const EVERY_HOUR = new Set(["*", "?", "*/1", "0-23"]);

/** Throws, naming the field, when a cron cannot be timed so. */
export function checkTiming({ schedule, timezone }: Timing): void {
  if (timezone !== null && !isZone(timezone)) {
    throw invalid("timezone", `${JSON.stringify(timezone)} is not an IANA time zone such as "Europe/Berlin"`);
  }
  const reason = scheduleTrouble(schedule);
  if (reason !== null) throw invalid("schedule", `${JSON.stringify(schedule)} ${reason}`);
}

/** The first tick after the instant; null when there is none. */
export function nextTick({ schedule, timezone, end_time }: Timing, after: number): number | null {
  const zone = timezone ?? "UTC";
  const tick = goesByElapsedTime(schedule) ? nextElapsed(schedule, zone, after) : nextOnTheWall(schedule, zone, after);
  return tick === null || (end_time !== null && tick >= end_time) ? null : tick;
}

function nextElapsed(schedule: string, timezone: string, after: number): number | null {
  return new Cron(schedule, { timezone }).nextRun(new Date(after))?.getTime() ?? null;
}

function nextOnTheWall(schedule: string, zone: string, after: number): number | null {
  const pattern = new Cron(schedule, { timezone: "UTC" });
  let wall = pattern.nextRun(new Date(after + offsetAt(zone, after)));
  // In a repeated hour the clock shows times whose tick is past.
  while (wall !== null && instantOf(zone, wall.getTime()) <= after) wall = pattern.nextRun(wall);
  return wall === null ? null : instantOf(zone, wall.getTime());
}

/** The instant of a wall time: the first of two, and for one that is skipped the first after the gap. */
function instantOf(zone: string, wall: number): number {
  const before = offsetAt(zone, wall - DAY_MS);
  const after = offsetAt(zone, wall + DAY_MS);
  for (const offset of [before, after]) if (offsetAt(zone, wall - offset) === offset) return wall - offset;
  return changeBetween(zone, wall - after, wall - before);
}

/** The first instant at which the offset is no longer that of `low`. */
function changeBetween(zone: string, low: number, high: number): number {
  const old = offsetAt(zone, low);
  let [last, first] = [low, high];
  while (first - last > 1) {
    const middle = Math.floor((last + first) / 2);
    if (offsetAt(zone, middle) === old) last = middle;
    else first = middle;
  }
  return first;
}

const offsetAt = (zone: string, instant: number): number => Math.round(tzOffset(zone, new Date(instant)) * 60_000);

/** Hours are the fourth field from the right, with seconds or without. */
function goesByElapsedTime(schedule: string): boolean {
  const fields = fieldsOf(schedule);
  return fields.length === 1 ? fields[0] === "@hourly" : EVERY_HOUR.has(fields.at(-4) ?? "");
}

const fieldsOf = (schedule: string): string[] => schedule.trim().toLowerCase().split(/\s+/);

/** Offsets such as `+02:00` are no zones, though some versions of Node take them for one. */
function isZone(name: string): boolean {
  if (!/^[a-z]/i.test(name)) return false;
  try {
    return new Intl.DateTimeFormat("en-US", { timeZone: name }).resolvedOptions().timeZone !== "";
  } catch (error) {
    if (error instanceof RangeError) return false;
    throw error;
  }
}

/** What is wrong with the schedule, or null. */
function scheduleTrouble(schedule: string): string | null {
  const fields = fieldsOf(schedule);
  // The library also takes dates and a field for years.
  const isNickname = fields.length === 1 && schedule.trim().startsWith("@");
  if (!isNickname && fields.length !== 5 && fields.length !== 6) {
    return "is not a cron schedule: five fields are needed, or six with seconds in front";
  }
  try {
    return new Cron(schedule, { timezone: "UTC" }).nextRun() === null ? "never comes" : null;
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    return `is not a cron schedule: ${error.message.replace(/^CronPattern: /, "")}`;
  }
}
