/** When crons fire, and that each tick is fired once: with a clock of the test's own and a real database. */
import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";
import { checkTiming, nextTick } from "../../src/engine/schedule.ts";
import { type Clock, type DueRun, Scheduler, type TakeTick } from "../../src/engine/scheduler.ts";
import { conflict, notFound } from "../../src/errors.ts";
import { patched } from "../../src/services/crons.ts";
import type { CronRecord, Storage } from "../../src/storage/storage.ts";
import * as crons from "../../src/storage/tables/crons.ts";
import { openTemp } from "../storage/support.ts";

const NEW_YORK = "America/New_York";
const at = (iso: string): number => Date.parse(iso);

function ticks(schedule: string, timezone: string | null, from: string, count: number): string[] {
  const found: string[] = [];
  for (let tick = nextTick({ schedule, timezone, end_time: null }, at(from)); tick !== null; ) {
    found.push(new Date(tick).toISOString().slice(0, 16));
    if (found.length === count) break;
    tick = nextTick({ schedule, timezone, end_time: null }, tick);
  }
  return found;
}

describe("ticks", () => {
  test.each([
    ["0 9 * * *", null, ["2026-03-01T09:00", "2026-03-02T09:00"]],
    ["0 9 * * *", "Asia/Kolkata", ["2026-03-01T03:30", "2026-03-02T03:30"]],
    ["*/20 * * * *", null, ["2026-03-01T00:20", "2026-03-01T00:40"]],
    ["0 0 13 * 5", null, ["2026-03-06T00:00", "2026-03-13T00:00"]],
    ["0 0 29 2 *", null, ["2028-02-29T00:00", "2032-02-29T00:00"]],
    ["0 0 * * 7", null, ["2026-03-08T00:00", "2026-03-15T00:00"]],
    ["0 0 * jun mon-fri", null, ["2026-06-01T00:00", "2026-06-02T00:00"]],
    ["@daily", NEW_YORK, ["2026-03-01T05:00", "2026-03-02T05:00"]],
    ["15 30 6 * * *", null, ["2026-03-01T06:30", "2026-03-02T06:30"]],
  ])("%s in %s", (schedule, zone, expected) => {
    expect(ticks(schedule, zone, "2026-03-01T00:00:00Z", expected.length)).toEqual(expected);
  });

  test("of the very instant are not after it", () => {
    const noon = at("2026-03-01T12:00:00Z");
    const timing = { schedule: "* * * * * *", timezone: null, end_time: null };
    expect([nextTick(timing, noon), nextTick(timing, noon - 1)]).toEqual([noon + 1000, noon]);
  });

  test("end at end_time, which itself is none", () => {
    const end_time = at("2026-03-01T12:00:00Z");
    const timing = { schedule: "0 * * * *", timezone: null, end_time };
    expect(nextTick(timing, at("2026-03-01T10:30:00Z"))).toBe(at("2026-03-01T11:00:00Z"));
    expect(nextTick(timing, at("2026-03-01T11:00:00Z"))).toBeNull();
  });

  test.each([
    ["61 * * * *", "Invalid value for minute: 61"],
    ["nonsense", "five fields"],
    ["", "five fields"],
    ["* * * *", "five fields"],
    ["0 0 0 1 1 * 2030", "five fields"],
    ["2030-01-01T00:00:00", "five fields"],
    ["@reboot", "not supported"],
    ["@never", "not a cron schedule"],
    ["*/0 * * * *", "stepping"],
    ["0 0 30 2 *", "never comes"],
  ])("the schedule %j is refused", (schedule, why) => {
    const check = () => checkTiming({ schedule, timezone: null, end_time: null });
    expect(check).toThrow(/^schedule: /);
    expect(check).toThrow(why);
  });

  test.each(["Mars/Olympus", "+02:00", "", "local"])("the time zone %j is refused", (timezone) => {
    expect(() => checkTiming({ schedule: "* * * * *", timezone, end_time: null })).toThrow(/^timezone: .* IANA/);
  });
});

describe("where clocks go forward", () => {
  // New York, 2026-03-08: 01:59:59 EST (06:59:59Z) is followed by 03:00 EDT.
  test.each([
    ["30 2 * * *", ["2026-03-07T07:30", "2026-03-08T07:00", "2026-03-09T06:30"]],
    ["0 2,14 * * *", ["2026-03-07T07:00", "2026-03-07T19:00", "2026-03-08T07:00", "2026-03-08T18:00"]],
    ["*/15 2 * * 0", ["2026-03-08T07:00", "2026-03-15T06:00", "2026-03-15T06:15"]],
    ["30 2,3 8 3 *", ["2026-03-08T07:00", "2026-03-08T07:30"]],
    ["0 2,3 8 3 *", ["2026-03-08T07:00", "2027-03-08T07:00"]],
  ])("%s fires once after the gap", (schedule, expected) => {
    expect(ticks(schedule, NEW_YORK, "2026-03-07T00:00:00Z", expected.length)).toEqual(expected);
  });

  test("what fires in every hour goes by elapsed time", () => {
    const expected = ["2026-03-08T06:30", "2026-03-08T07:00", "2026-03-08T07:30", "2026-03-08T08:00"];
    expect(ticks("*/30 * * * *", NEW_YORK, "2026-03-08T06:00:00Z", 4)).toEqual(expected);
    expect(ticks("0,30 0-23 * * *", NEW_YORK, "2026-03-08T06:00:00Z", 4)).toEqual(expected);
  });

  test("by half an hour, at midnight, over a whole day", () => {
    expect(ticks("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", 2)).toEqual([
      "2026-10-03T15:30",
      "2026-10-04T15:15",
    ]);
    expect(ticks("0 0 * * *", "America/Santiago", "2026-09-05T05:00:00Z", 2)).toEqual([
      "2026-09-06T04:00",
      "2026-09-07T03:00",
    ]);
    // Samoa had no 30 December 2011.
    expect(ticks("0 12 30 12 *", "Pacific/Apia", "2011-12-01T00:00:00Z", 1)).toEqual(["2011-12-30T10:00"]);
  });
});

describe("where clocks go back", () => {
  // New York, 2026-11-01: 01:59:59 EDT (05:59:59Z) is followed by 01:00 EST.
  test.each([
    ["30 1 * * *", ["2026-10-31T05:30", "2026-11-01T05:30", "2026-11-02T06:30"]],
    ["0 1,13 * * *", ["2026-10-31T05:00", "2026-10-31T17:00", "2026-11-01T05:00", "2026-11-01T18:00"]],
    ["*/30 1 1 11 *", ["2026-11-01T05:00", "2026-11-01T05:30", "2027-11-01T05:00"]],
    ["0 2 * * *", ["2026-10-31T06:00", "2026-11-01T07:00", "2026-11-02T07:00"]],
  ])("%s fires once", (schedule, expected) => {
    expect(ticks(schedule, NEW_YORK, "2026-10-31T00:00:00Z", expected.length)).toEqual(expected);
  });

  test("whenever one asks: the second half past one is no tick", () => {
    for (const from of ["2026-11-01T05:30:00Z", "2026-11-01T05:45:00Z", "2026-11-01T06:05:00Z"]) {
      expect(ticks("30 1 * * *", NEW_YORK, from, 1), from).toEqual(["2026-11-02T06:30"]);
    }
  });

  test("what fires in every hour goes by elapsed time", () => {
    const expected = [
      "2026-11-01T05:00",
      "2026-11-01T05:30",
      "2026-11-01T06:00",
      "2026-11-01T06:30",
      "2026-11-01T07:00",
    ];
    expect(ticks("*/30 * * * *", NEW_YORK, "2026-11-01T04:59:00Z", 5)).toEqual(expected);
  });
});

test("named times come once a day, in order, whatever the zone does", () => {
  const CHANGES = [
    [NEW_YORK, "2026-03-08"],
    [NEW_YORK, "2026-11-01"],
    ["Europe/Berlin", "2026-03-29"],
    ["Europe/Berlin", "2026-10-25"],
    ["Australia/Lord_Howe", "2026-10-04"],
    ["Australia/Lord_Howe", "2026-04-05"],
    ["America/Santiago", "2026-09-06"],
    ["America/Santiago", "2026-04-05"],
    ["Asia/Kathmandu", "2026-04-05"],
  ] as const;
  const minutes = fc.uniqueArray(fc.integer({ min: 0, max: 59 }), { minLength: 1, maxLength: 3 });
  const hours = fc.uniqueArray(fc.integer({ min: 0, max: 23 }), { minLength: 1, maxLength: 6 });
  const model = fc.property(fc.constantFrom(...CHANGES), minutes, hours, fc.nat(47 * 60), (change, m, h, start) => {
    const [zone, day] = change;
    const from = at(`${day}T00:00:00Z`) - 86_400_000 + start * 60_000;
    const until = at(`${day}T00:00:00Z`) + 2 * 86_400_000;
    const expected = scanned(zone, from, until, new Set(m), new Set(h));
    const timing = { schedule: `${m.join()} ${h.join()} * * *`, timezone: zone, end_time: until };
    const got: number[] = [];
    for (let t = nextTick(timing, from); t !== null; t = nextTick(timing, t)) got.push(t);
    expect(got.map((t) => new Date(t).toISOString())).toEqual(expected.map((t) => new Date(t).toISOString()));
  });
  fc.assert(model, { numRuns: 60 });
});

/** The same by walking a clock minute by minute, from long before: what it shows for the first time, or jumps over. */
function scanned(zone: string, from: number, until: number, minutes: Set<number>, hours: Set<number>): number[] {
  const clock = new Intl.DateTimeFormat("sv-SE", { timeZone: zone, dateStyle: "short", timeStyle: "short" });
  const shown = (t: number): number => at(`${clock.format(t).replace(" ", "T")}:00Z`);
  const begin = from - 86_400_000;
  const due: number[] = [];
  let latest = shown(begin);
  for (let t = begin + 60_000; t < until; t += 60_000) {
    const now = shown(t);
    let isDue = false;
    for (let wall = latest + 60_000; wall <= now; wall += 60_000) {
      const date = new Date(wall);
      isDue ||= minutes.has(date.getUTCMinutes()) && hours.has(date.getUTCHours());
    }
    latest = Math.max(latest, now);
    if (isDue && t > from) due.push(t);
  }
  return due;
}

/* ------------------------------------------------------------------------------ scheduler */

/** Stands still until the test moves it. */
class ManualClock implements Clock {
  time: number;
  /** What the scheduler last asked for. */
  wait: number | undefined;
  #wake: (() => void) | undefined;
  #sleeping: (() => void)[] = [];

  constructor(time: number) {
    this.time = time;
  }

  now(): number {
    return this.time;
  }

  after(ms: number, wake: () => void): () => void {
    this.wait = ms;
    this.#wake = wake;
    for (const resolve of this.#sleeping.splice(0)) resolve();
    return () => {
      this.#wake = undefined;
    };
  }

  /** Resolves when the scheduler sleeps. */
  asleep(): Promise<void> {
    if (this.#wake !== undefined) return Promise.resolve();
    return new Promise((resolve) => void this.#sleeping.push(resolve));
  }

  /** Sets the clock, lets the timer ring, and waits until the scheduler sleeps again. */
  async set(time: string | number): Promise<void> {
    await this.asleep();
    this.time = typeof time === "number" ? time : at(time);
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
    await this.asleep();
  }
}

const cronRecord = (change: Partial<CronRecord> = {}): CronRecord => ({
  cron_id: randomUUID(),
  assistant_id: randomUUID(),
  thread_id: null,
  on_run_completed: "delete",
  schedule: "0 * * * *",
  timezone: null,
  end_time: null,
  enabled: true,
  next_run_date: at("2026-03-01T10:00:00Z"),
  created_at: 0,
  updated_at: 0,
  metadata: {},
  payload: {},
  ...change,
});

/** One process's scheduler. `made` is a table of the database, so that it is committed with the tick or not at all. */
class Bench {
  readonly storage: Storage;
  readonly clock: ManualClock;
  readonly scheduler: Scheduler;
  readonly logged: { level: string; fields: object; message: string }[] = [];
  /** Called in the transaction, after the tick is taken. */
  onTaken: (due: DueRun) => void = () => {};
  /** Called before the transaction begins. */
  beforeWrite: () => Promise<void> = async () => {};

  constructor(storage: Storage, clock: ManualClock) {
    this.storage = storage;
    this.clock = clock;
    const log = (level: string) => (fields: object, message: string) =>
      void this.logged.push({ level, fields, message });
    const logger = { debug: log("debug"), info: log("info"), warn: log("warn"), error: log("error") };
    const metrics = { cronTicks: { inc: () => {} } };
    this.scheduler = new Scheduler({
      storage,
      clock,
      create: (take) => this.#create(take),
      logger: logger as never,
      metrics: metrics as never,
    });
    onTestFinished(() => this.scheduler.stop());
  }

  async #create(take: TakeTick): Promise<{ run_id: string }> {
    await this.beforeWrite();
    const run_id = randomUUID();
    await this.storage.write(async (tx) => {
      const due = await take(tx);
      const value = JSON.stringify({ ...due, at: this.clock.time });
      const times = { created_at: this.clock.time, updated_at: this.clock.time };
      await tx
        .insertInto("store_items")
        .values({ namespace: "made", key: run_id, value, ...times })
        .execute();
      this.onTaken(due);
    });
    return { run_id };
  }

  add(cron: CronRecord): Promise<void> {
    return this.storage.write((tx) => crons.insert(tx, cron));
  }

  /** When runs were made. */
  async fired(): Promise<string[]> {
    return (await this.made()).map(({ at }) => new Date(at).toISOString().slice(0, 16)).sort();
  }

  async made(): Promise<(DueRun & { at: number })[]> {
    const rows = await this.storage.read((db) => db.selectFrom("store_items").select("value").execute());
    return rows.map(({ value }) => JSON.parse(value));
  }

  async next(cron: CronRecord): Promise<string | null> {
    const found = await this.storage.read((db) => crons.find(db, cron.cron_id));
    return found?.next_run_date == null ? null : new Date(found.next_run_date).toISOString().slice(0, 16);
  }
}

async function bench(now: string, ...records: CronRecord[]): Promise<Bench> {
  const made = new Bench(await openTemp(), new ManualClock(at(now)));
  for (const record of records) await made.add(record);
  return made;
}

describe("the scheduler", () => {
  test("fires when a tick is due, not before, and goes on", async () => {
    const cron = cronRecord();
    const b = await bench("2026-03-01T09:59:30Z", cron);
    b.scheduler.start();
    await b.clock.asleep();
    expect([await b.fired(), b.clock.wait]).toEqual([[], 30_000]);
    await b.clock.set("2026-03-01T09:59:59.999Z");
    expect([await b.fired(), b.clock.wait]).toEqual([[], 1]);
    await b.clock.set("2026-03-01T10:00:00Z");
    expect([await b.fired(), await b.next(cron)]).toEqual([["2026-03-01T10:00"], "2026-03-01T11:00"]);
    await b.clock.set("2026-03-01T10:59:00Z");
    await b.clock.set("2026-03-01T11:00:00Z");
    expect(await b.fired()).toEqual(["2026-03-01T10:00", "2026-03-01T11:00"]);
  });

  test("sleeps a minute at most, so that a machine that slept, or a tick next year, is no trouble", async () => {
    const b = await bench("2026-03-01T09:00:00Z", cronRecord({ next_run_date: at("2027-03-01T10:00:00Z") }));
    b.scheduler.start();
    await b.clock.asleep();
    expect(b.clock.wait).toBe(60_000);
    await b.clock.set("2027-03-01T12:34:00Z");
    expect(await b.fired()).toEqual(["2027-03-01T12:34"]);
  });

  test("is woken by a new cron", async () => {
    const b = await bench("2026-03-01T09:59:00Z");
    b.scheduler.start();
    await b.add(cronRecord());
    b.scheduler.nudge();
    await b.clock.asleep();
    await b.clock.set("2026-03-01T10:00:00Z");
    expect(await b.fired()).toEqual(["2026-03-01T10:00"]);
  });

  test("makes one run of all that was missed while it was down, and keeps the rhythm", async () => {
    const [hourly, daily] = [cronRecord(), cronRecord({ schedule: "0 10 * * *" })];
    const b = await bench("2026-03-04T15:20:00Z", hourly, daily);
    b.scheduler.start();
    await b.clock.asleep();
    expect(await b.fired()).toEqual(["2026-03-04T15:20", "2026-03-04T15:20"]);
    expect([await b.next(hourly), await b.next(daily)]).toEqual(["2026-03-04T16:00", "2026-03-05T10:00"]);
  });

  test("a missed tick in a repeated hour comes once", async () => {
    const cron = cronRecord({ schedule: "30 1 * * *", timezone: NEW_YORK, next_run_date: at("2026-11-01T05:30:00Z") });
    const b = await bench("2026-11-01T06:05:00Z", cron);
    b.scheduler.start();
    await b.clock.asleep();
    await b.clock.set("2026-11-01T06:30:00Z");
    expect([await b.fired(), await b.next(cron)]).toEqual([["2026-11-01T06:05"], "2026-11-02T06:30"]);
  });

  test("fires nothing past end_time, not even what was missed", async () => {
    const cron = cronRecord({ end_time: at("2026-03-01T10:30:00Z") });
    const b = await bench("2026-03-01T11:20:00Z", cron, cronRecord({ next_run_date: at("2027-03-01T10:00:00Z") }));
    b.scheduler.start();
    await b.clock.asleep();
    expect([await b.fired(), await b.next(cron)]).toEqual([[], null]);
  });

  test("a clock that is set back does not bring a tick twice", async () => {
    const cron = cronRecord();
    const b = await bench("2026-03-01T10:00:00Z", cron);
    b.beforeWrite = async () => {
      b.clock.time = at("2026-03-01T09:30:00Z");
    };
    b.scheduler.start();
    await b.clock.asleep();
    await b.clock.set("2026-03-01T10:00:00Z");
    expect([(await b.made()).length, await b.next(cron)]).toEqual([1, "2026-03-01T11:00"]);
  });

  test("says what to run", async () => {
    const payload = { input: { a: 1 }, stream_mode: ["updates" as const] };
    const cron = cronRecord({ payload, metadata: { team: "x", cron_id: "forged" }, on_run_completed: "keep" });
    const b = await bench("2026-03-01T10:00:00Z", cron);
    b.scheduler.start();
    await b.clock.asleep();
    const { cron_id, assistant_id } = cron;
    const request = { ...payload, assistant_id, metadata: { team: "x", cron_id }, on_completion: "keep" };
    expect(await b.made()).toMatchObject([{ cron_id, thread_id: null, request }]);
  });

  test("a crash before the commit leaves the tick due: the next process fires it, once", async () => {
    const cron = cronRecord();
    const b = await bench("2026-03-01T10:00:00Z", cron);
    b.onTaken = () => {
      throw new Error("the process died here");
    };
    b.scheduler.start();
    await b.clock.asleep();
    await b.scheduler.stop();
    expect([await b.fired(), await b.next(cron), b.clock.wait]).toEqual([[], "2026-03-01T10:00", 1000]);
    const after = new Bench(b.storage, new ManualClock(at("2026-03-01T10:00:10Z")));
    after.scheduler.start();
    await after.clock.asleep();
    expect([await after.fired(), await after.next(cron)]).toEqual([["2026-03-01T10:00"], "2026-03-01T11:00"]);
  });

  test("one that cannot be fired is tried again and holds up no other", async () => {
    const [bad, good] = [cronRecord({ cron_id: "bad" }), cronRecord({ cron_id: "good" })];
    const b = await bench("2026-03-01T10:00:00Z", bad, good);
    b.onTaken = ({ cron_id }) => {
      if (cron_id === "bad") throw new Error("disk full");
    };
    b.scheduler.start();
    await b.clock.asleep();
    expect((await b.made()).map((run) => run.cron_id)).toEqual(["good"]);
    b.onTaken = () => {};
    await b.clock.set("2026-03-01T10:00:01Z");
    expect((await b.made()).map((run) => run.cron_id).sort()).toEqual(["bad", "good"]);
  });

  test.each([
    ["a busy thread", conflict("Thread is busy")],
    ["a missing assistant", notFound("Assistant not found")],
  ])("%s: the tick is logged and passed over", async (_, refusal) => {
    const cron = cronRecord();
    const b = await bench("2026-03-01T10:00:00Z", cron);
    b.onTaken = () => {
      throw refusal;
    };
    b.scheduler.start();
    await b.clock.asleep();
    expect([await b.fired(), await b.next(cron)]).toEqual([[], "2026-03-01T11:00"]);
    const fields = { cron_id: cron.cron_id, reason: refusal.message, due: "2026-03-01T10:00:00.000Z" };
    expect(b.logged).toMatchObject([{ level: "warn", fields }]);
  });

  test("two processes that see the same ticks make one run of each", async () => {
    const records = Array.from({ length: 20 }, () => cronRecord());
    const first = await bench("2026-03-01T10:00:00Z", ...records);
    const second = new Bench(first.storage, new ManualClock(at("2026-03-01T10:00:00Z")));
    let waiting = 0;
    let open!: () => void;
    const all = new Promise<void>((resolve) => {
      open = resolve;
    });
    // Nobody writes before both have read all ticks as due.
    const barrier = async (): Promise<void> => {
      waiting += 1;
      if (waiting === 40) open();
      await all;
    };
    for (const b of [first, second]) {
      b.beforeWrite = barrier;
      b.scheduler.start();
    }
    await Promise.all([first.clock.asleep(), second.clock.asleep()]);
    const fired = (await first.made()).map((run) => run.cron_id).sort();
    expect(fired).toEqual(records.map((cron) => cron.cron_id).sort());
    expect([...first.logged, ...second.logged].filter(({ level }) => level !== "debug")).toEqual([]);
  });

  test("a cron that is disabled, changed or deleted while its tick is due fires as it is, or not", async () => {
    const [disabled, changed, deleted] = [cronRecord(), cronRecord(), cronRecord()];
    const b = await bench("2026-03-01T10:00:00Z", disabled, changed, deleted);
    const now = b.clock.time;
    b.beforeWrite = async () => {
      b.beforeWrite = async () => {};
      await b.storage.write(async (tx) => {
        await crons.update(tx, patched(disabled, { enabled: false }, now));
        await crons.update(tx, patched(changed, { input: { new: true } }, now));
        await crons.remove(tx, deleted.cron_id);
      });
    };
    b.scheduler.start();
    await b.clock.asleep();
    expect(await b.made()).toMatchObject([{ cron_id: changed.cron_id, request: { input: { new: true } } }]);
  });
});

describe("a change", () => {
  const cron = cronRecord({ next_run_date: at("2026-03-01T10:00:00Z") });
  const now = at("2026-03-01T10:00:02Z");
  const nextOf = (before: CronRecord, change: Parameters<typeof patched>[1]): string | null => {
    const { next_run_date } = patched(before, change, now);
    return next_run_date === null ? null : new Date(next_run_date).toISOString().slice(0, 16);
  };

  test("that leaves the ticks alone does not lose the one that is due", () => {
    const same = { schedule: cron.schedule, enabled: true, timezone: null, end_time: at("2027-01-01T00:00:00Z") };
    expect(nextOf(cron, { ...same, metadata: { a: 1 } })).toBe("2026-03-01T10:00");
  });

  test("of schedule, zone, end and switch sets the next tick", () => {
    expect(nextOf(cron, { schedule: "30 * * * *" })).toBe("2026-03-01T10:30");
    expect(nextOf({ ...cron, schedule: "0 9 * * *" }, { timezone: NEW_YORK })).toBe("2026-03-01T14:00");
    expect(nextOf(cron, { end_time: at("2026-03-01T10:00:00Z") })).toBeNull();
    expect(nextOf(cron, { enabled: false })).toBeNull();
    const off = { ...cron, enabled: false, next_run_date: null };
    expect(nextOf(off, { metadata: {} })).toBeNull();
    expect(nextOf(off, { enabled: true })).toBe("2026-03-01T11:00");
    const over = { ...cron, end_time: at("2026-03-01T09:00:00Z"), next_run_date: null };
    expect(nextOf(over, { end_time: null })).toBe("2026-03-01T11:00");
  });
});
