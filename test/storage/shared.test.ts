/** What only a database that several processes share has to get right. Two storages are two processes as far as it can tell. */
import { randomUUID } from "node:crypto";
import { sql } from "kysely";
import { beforeEach, describe, expect, test } from "vitest";
import { cancelRun } from "../../src/engine/cancellation.ts";
import { conclude } from "../../src/engine/settle.ts";
import { newThread } from "../../src/services/runs.ts";
import { lockThread } from "../../src/storage/locks.ts";
import type { NewRun, RunRecord, Storage, Tx } from "../../src/storage/storage.ts";
import * as assistants from "../../src/storage/tables/assistants.ts";
import * as crons from "../../src/storage/tables/crons.ts";
import * as keys from "../../src/storage/tables/idempotency-keys.ts";
import * as runs from "../../src/storage/tables/runs.ts";
import * as threads from "../../src/storage/tables/threads.ts";
import * as webhooks from "../../src/storage/tables/webhooks.ts";
import { onPostgres, POSTGRES, requirePostgres } from "../support/postgres.ts";
import { proxyTo } from "../support/proxy.ts";
import { eventually } from "../support/server.ts";
import { newRun, openTempPostgres, tempPostgres } from "./support.ts";

beforeEach(requirePostgres);

async function two(): Promise<[Storage, Storage]> {
  const uri = await tempPostgres();
  return [await openTempPostgres({ uri }), await openTempPostgres({ uri })];
}

function barrier(): { readonly passed: Promise<void>; pass(): void } {
  let pass!: () => void;
  const passed = new Promise<void>((resolve) => {
    pass = resolve;
  });
  return { passed, pass };
}

/** Begins a write that stays open until it is told to commit. `begun` settles when `work` is through. */
function open<T>(storage: Storage, work: (tx: Tx) => Promise<T>) {
  const [through, go] = [barrier(), barrier()];
  const done = storage.write(async (tx) => {
    const result = await work(tx);
    through.pass();
    await go.passed;
    return result;
  });
  return { begun: through.passed, commit: go.pass, done };
}

/** Whether a promise is still waiting once the server shows somebody waiting for a lock. */
async function waits(storage: Storage, promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  const note = (): void => {
    settled = true;
  };
  promise.then(note, note);
  const uri = storage.location;
  await eventually(async () => {
    const rows = await onPostgres<{ n: number }>(
      uri,
      `select count(*)::int as n from pg_locks join pg_stat_activity using (pid)
        where not granted and application_name like current_setting('application_name') || '%'`,
    );
    return settled || (rows[0]?.n ?? 0) > 0;
  });
  return !settled;
}

const insert = (storage: Storage, change: Partial<NewRun> = {}): Promise<RunRecord> => {
  const now = storage.now();
  const times = { not_before: now, created_at: now, updated_at: now };
  return storage.write((tx) => runs.insert(tx, newRun({ ...times, ...change })));
};
const claim = (storage: Storage, owner: string, limit = 1, lease_ms = 60_000) =>
  storage.write((tx) => runs.claim(tx, { owner, now: storage.now(), lease_ms, limit }));

async function claimed(storage: Storage, lease_ms = 60_000): Promise<RunRecord> {
  const thread_id = randomUUID();
  await storage.write((tx) => threads.insert(tx, newThread(thread_id, "busy", {}, storage.now())));
  await insert(storage, { thread_id });
  const [run] = await claim(storage, "a", 1, lease_ms);
  return run as RunRecord;
}

describe("claims", () => {
  test("many workers at once: each run once, those of a thread one at a time and in order", async () => {
    const [a, b] = await two();
    const thread_ids = Array.from({ length: 6 }, () => randomUUID());
    const made: RunRecord[] = [];
    for (let n = 0; n < 5; n += 1) for (const thread_id of thread_ids) made.push(await insert(a, { thread_id }));
    const ended: RunRecord[] = [];
    const held = new Set<string>();
    const work = async (storage: Storage, owner: string): Promise<void> => {
      while (ended.length < made.length) {
        for (const run of await claim(storage, owner, 2)) {
          expect(held.has(run.thread_id)).toBe(false);
          held.add(run.thread_id);
          await storage.write(async (tx) => {
            lockThread(tx, run.thread_id);
            const settlement = { status: "success", error: null, checkpoint_id: null, now: storage.now() } as const;
            expect(await runs.settle(tx, run.run_id, run.fence, settlement)).toBe(true);
            await runs.promote(tx, run.thread_id, storage.now());
            // Whoever claims the next one does so after the commit.
            held.delete(run.thread_id);
          });
          ended.push(run);
        }
      }
    };
    await Promise.all([work(a, "a1"), work(b, "b1"), work(a, "a2"), work(b, "b2")]);
    expect(new Set(ended.map(({ run_id }) => run_id)).size).toBe(made.length);
    for (const thread_id of thread_ids) {
      const seqs = ended.filter((run) => run.thread_id === thread_id).map(({ seq }) => seq);
      expect(seqs).toEqual([...seqs].sort((x, y) => x - y));
    }
  });

  test("a claim passes by what another one is about to take", async () => {
    const [a, b] = await two();
    const [first, second] = [await insert(a), await insert(a)];
    const taking = open(a, (tx) => runs.claim(tx, { owner: "a", now: a.now(), lease_ms: 1000, limit: 1 }));
    await taking.begun;
    expect((await claim(b, "b", 5)).map(({ run_id }) => run_id)).toEqual([second.run_id]);
    taking.commit();
    expect((await taking.done).map(({ run_id }) => run_id)).toEqual([first.run_id]);
  });

  test("two running runs of a thread cannot be, whatever happens", async () => {
    const [a] = await two();
    const run = await claimed(a);
    const another = insert(a, { thread_id: run.thread_id, status: "running", fence: 1 });
    await expect(another).rejects.toThrow();
  });
});

describe("clocks", () => {
  test("leases and due times go by the database's clock", async () => {
    const [a, b] = await two();
    const run = await claimed(a, 300);
    const wrong = { owner: "b", now: 0, lease_ms: 60_000 };
    expect(await b.write((tx) => runs.takeOverExpired(tx, wrong))).toEqual([]);
    await insert(a, { not_before: a.now() + 400 });
    expect(await b.write((tx) => runs.claim(tx, { ...wrong, now: a.now() + 1e9, limit: 9 }))).toEqual([]);
    const taken = await eventually(async () => {
      const found = await b.write((tx) => runs.takeOverExpired(tx, wrong));
      return found.length > 0 ? found : undefined;
    });
    expect(taken).toMatchObject([{ run_id: run.run_id, fence: run.fence + 1, lease_owner: "b" }]);
    expect((taken[0]?.lease_expires_at ?? 0) - a.now()).toBeGreaterThan(50_000);
    await eventually(async () => (await b.write((tx) => runs.claim(tx, { ...wrong, limit: 9 }))).length === 1);
  });

  test("what is known of it here is never ahead of it", async () => {
    const [a] = await two();
    for (let n = 0; n < 20; n += 1) {
      const here = a.now();
      const rows = await onPostgres<{ t: string }>(
        a.location,
        "select extract(epoch from clock_timestamp()) * 1000 as t",
      );
      expect(Number(rows[0]?.t)).toBeGreaterThanOrEqual(here);
    }
  });

  test("a heartbeat finds what is still ours, and who wants it cancelled", async () => {
    const [a, b] = await two();
    const [mine, lost] = [await claimed(a), await claimed(a, 0)];
    const beat = { owner: "a", now: 0, lease_ms: 60_000 };
    await eventually(
      async () => (await b.write((tx) => runs.takeOverExpired(tx, { ...beat, owner: "b" }))).length === 1,
    );
    await b.write((tx) => cancelRun(tx, null, mine.run_id, "interrupt", b.now()));
    const found = await a.write((tx) => runs.extendLeases(tx, beat), { urgent: true });
    expect(found).toEqual([{ run_id: mine.run_id, fence: 1, cancel_action: "interrupt" }]);
    expect(await a.write((tx) => runs.isHeld(tx, lost.run_id, 1))).toBe(false);
  });
});

describe("fencing", () => {
  test("a run is not taken over while a write under its lease is on its way", async () => {
    const [a, b] = await two();
    const run = await claimed(a, 0);
    const writing = open(a, (tx) => runs.isHeld(tx, run.run_id, run.fence));
    await writing.begun;
    const takeOver = () => b.write((tx) => runs.takeOverExpired(tx, { owner: "b", now: 0, lease_ms: 1000 }));
    expect(await takeOver()).toEqual([]);
    writing.commit();
    expect(await writing.done).toBe(true);
    expect(await takeOver()).toMatchObject([{ run_id: run.run_id }]);
    expect(await a.write((tx) => runs.isHeld(tx, run.run_id, run.fence))).toBe(false);
  });

  test("a write waits for a take-over on its way, and is refused", async () => {
    const [a, b] = await two();
    const run = await claimed(a, 0);
    const taking = open(b, (tx) => runs.takeOverExpired(tx, { owner: "b", now: 0, lease_ms: 1000 }));
    await taking.begun;
    const write = a.write((tx) => runs.isHeld(tx, run.run_id, run.fence));
    expect(await waits(a, write)).toBe(true);
    taking.commit();
    expect(await taking.done).toHaveLength(1);
    expect(await write).toBe(false);
  });

  test("only one takes a lost run over", async () => {
    const [a, b] = await two();
    const lost = [];
    for (let n = 0; n < 8; n += 1) lost.push(await claimed(a, 0));
    const takes = await Promise.all(
      [a, b, a, b].map((storage, n) =>
        storage.write((tx) => runs.takeOverExpired(tx, { owner: `${n}`, now: 0, lease_ms: 60_000 })),
      ),
    );
    const ids = takes.flat().map(({ run_id }) => run_id);
    expect(ids.sort()).toEqual(lost.map(({ run_id }) => run_id).sort());
  });
});

describe("settling and cancelling", () => {
  const hold = { fence: 1, failure: undefined, hasStored: false };
  const settled = {
    kind: "settle",
    ending: { status: "success", thread: "idle", snapshot: null, output: null, error: null },
  };
  const end =
    (storage: Storage, run: RunRecord, seen: (cancel: string | null) => void = () => undefined) =>
    (tx: Tx) =>
      conclude(
        tx,
        run,
        hold,
        (cancel) => {
          seen(cancel);
          return settled as never;
        },
        storage.now(),
      );

  test("a cancel waits for the end that is on its way, and hears of it", async () => {
    const [a, b] = await two();
    const run = await claimed(a);
    const ending = open(a, end(a, run));
    await ending.begun;
    const cancel = b.write((tx) => cancelRun(tx, run.thread_id, run.run_id, "interrupt", b.now()));
    expect(await waits(a, cancel)).toBe(true);
    ending.commit();
    await ending.done;
    await expect(cancel).rejects.toThrow(/already ended/);
    expect(await a.read((db) => threads.findBare(db, run.thread_id))).toMatchObject({ status: "idle" });
  });

  test("an end that waited for a cancel obeys it", async () => {
    const [a, b] = await two();
    const run = await claimed(a);
    const cancelling = open(b, (tx) => cancelRun(tx, null, run.run_id, "rollback", b.now()));
    await cancelling.begun;
    let promised: string | null = null;
    const ending = a.write(
      end(a, run, (cancel) => {
        promised = cancel;
      }),
    );
    expect(await waits(a, ending)).toBe(true);
    cancelling.commit();
    await cancelling.done;
    await ending;
    expect(promised).toBe("rollback");
  });

  test("a pending run that is claimed while it is cancelled is cancelled as a running one", async () => {
    const [a, b] = await two();
    const thread_id = randomUUID();
    await a.write((tx) => threads.insert(tx, newThread(thread_id, "busy", {}, a.now())));
    const run = await insert(a, { thread_id });
    const claiming = open(a, (tx) => runs.claim(tx, { owner: "a", now: 0, lease_ms: 1000, limit: 1 }));
    await claiming.begun;
    const cancel = b.write((tx) => cancelRun(tx, thread_id, run.run_id, "interrupt", b.now()));
    expect(await waits(a, cancel)).toBe(true);
    claiming.commit();
    expect(await claiming.done).toHaveLength(1);
    expect((await cancel).kind).toBe("signal");
  });
});

test("one of two requests with the same key makes the runs, the other waits and gets its answer", async () => {
  const [a, b] = await two();
  const request = { key: "k", fingerprint: "f", created_at: a.now() };
  const making = open(a, async (tx) => {
    const before = await keys.take(tx, request, 0);
    await keys.answer(tx, "k", '["made"]');
    return before;
  });
  await making.begun;
  const again = b.write((tx) => keys.take(tx, request, 0));
  expect(await waits(a, again)).toBe(true);
  making.commit();
  expect(await making.done).toBeUndefined();
  expect(await again).toMatchObject({ runs: '["made"]' });
});

test("a tick is taken once", async () => {
  const [a, b] = await two();
  const cron = {
    cron_id: "c",
    assistant_id: "x",
    thread_id: null,
    on_run_completed: "delete",
    schedule: "* * * * *",
    timezone: null,
    end_time: null,
    enabled: true,
    next_run_date: 1000,
    created_at: 0,
    updated_at: 0,
    metadata: {},
    payload: {},
  } as const;
  await a.write((tx) => crons.insert(tx, cron));
  const tick = { cron_id: "c", next_run_date: 1000 };
  const taking = open(a, (tx) => crons.advance(tx, tick, 2000));
  await taking.begun;
  const again = b.write((tx) => crons.advance(tx, tick, 2000));
  expect(await waits(a, again)).toBe(true);
  taking.commit();
  expect([await taking.done, await again]).toEqual([true, false]);
});

test("a webhook call comes to one process, and to another when its time is over", async () => {
  const [a, b] = await two();
  const call = {
    webhook_id: "w",
    run_id: "r",
    url: "http://x",
    payload: "{}",
    attempts: 0,
    next_attempt_at: 0,
    created_at: 0,
    trace: null,
  };
  await a.write((tx) => webhooks.insert(tx, call));
  const take = (storage: Storage) => storage.write((tx) => webhooks.takeDue(tx, 0, 10, 200));
  const takes = await Promise.all([a, b, a, b].map(take));
  expect(takes.flat()).toHaveLength(1);
  await eventually(async () => (await take(b)).length === 1);
});

test("threads that are made together with equal metadata do not wait for each other", async () => {
  const [a, b] = await two();
  const thread = (id: string) => newThread(id, "idle", { user: "same" }, a.now());
  const making = open(a, (tx) => threads.insert(tx, thread(randomUUID())));
  await making.begun;
  expect(await b.write((tx) => threads.insert(tx, thread(randomUUID())))).toBe(true);
  making.commit();
  await making.done;
});

describe("kept plans", () => {
  test("a statement is planned once for a connection, and anew after another process has changed the table", async () => {
    const uri = await tempPostgres();
    const storage = await openTempPostgres({ uri });
    const look = () =>
      storage.write(async (tx) => {
        const found = await assistants.find(tx, randomUUID());
        const { rows } = await sql<{ n: number }>`select count(*)::int as n from pg_prepared_statements
          where statement like '%from "assistants"%'`.execute(tx);
        return { found, plans: rows[0]?.n };
      });
    for (let time = 0; time < 8; time++) expect(await look()).toEqual({ found: undefined, plans: 1 });
    await onPostgres(uri, "alter table assistants add column of_a_later_version text");
    // The plan of before is refused, and the work done again with one that is new.
    expect(await look()).toEqual({ found: undefined, plans: 2 });
  });
});

describe("a broken line", () => {
  async function behindProxy(options: { readonly poolMax?: number } = {}) {
    const proxy = await proxyTo(Number(new URL(POSTGRES).port || 5432), new URL(POSTGRES).hostname);
    const direct = await tempPostgres();
    const uri = new URL(direct);
    uri.hostname = "127.0.0.1";
    uri.port = String(proxy.port);
    const storage = await openTempPostgres({ ...options, uri: uri.href });
    const count = async (): Promise<number> => {
      const rows = await onPostgres<{ n: number }>(direct, "select count(*)::int as n from runs");
      return rows[0]?.n ?? -1;
    };
    return { proxy, storage, direct, count };
  }

  test.each([
    ["cut before", 4],
    ["cut after", 4],
    // None is left to ask what became of it: as when all of a pool are cut at once.
    ["cut before", 1],
    ["cut after", 1],
  ] as const)(
    "at COMMIT (%s it comes through, one of %i connections): the write is there once",
    async (how, poolMax) => {
      const { proxy, storage, count } = await behindProxy({ poolMax });
      await using _ = proxy;
      let cuts = 0;
      proxy.onSent = (data) => {
        if (cuts > 0 || !/^Q[\s\S]{4}commit\0/.test(data.toString("latin1"))) return "pass";
        cuts += 1;
        return how;
      };
      let works = 0;
      await storage.write((tx) => {
        works += 1;
        return runs.insert(tx, newRun());
      });
      expect([cuts, works, await count()]).toEqual([1, how === "cut before" ? 2 : 1, 1]);
    },
  );

  test("in the middle: the work is done again, and is there once", async () => {
    const { proxy, storage, count } = await behindProxy();
    await using _ = proxy;
    let works = 0;
    await storage.write(async (tx) => {
      await runs.insert(tx, newRun());
      works += 1;
      if (works === 1) proxy.cutAll();
      return runs.countByStatus(tx);
    });
    expect([works, await count()]).toEqual([2, 1]);
  });

  test("for a while: reads and writes wait; for long: they are told", async () => {
    const { proxy, storage, direct, count } = await behindProxy();
    await using _ = proxy;
    proxy.closed = true;
    proxy.cutAll();
    const write = storage.write((tx) => runs.insert(tx, newRun()));
    const read = storage.read((db) => runs.countByStatus(db));
    setTimeout(() => {
      proxy.closed = false;
    }, 500);
    await Promise.all([write, read]);
    expect(await count()).toBe(1);
    const url = new URL(direct);
    url.port = String(proxy.port);
    const hasty = await openTempPostgres({ uri: url.href, retryMs: 200 });
    proxy.closed = true;
    proxy.cutAll();
    const refused = hasty.write((tx) => runs.insert(tx, newRun()));
    await expect(refused).rejects.toMatchObject({ kind: "unavailable" });
    proxy.closed = false;
    expect(await count()).toBe(1);
  });

  test("all backends are terminated under load: every write is there once", async () => {
    const { proxy, storage, direct, count } = await behindProxy();
    await using _ = proxy;
    const writes = Array.from({ length: 200 }, () => storage.write((tx) => runs.insert(tx, newRun())));
    const kill =
      "select pg_terminate_backend(pid) from pg_stat_activity where application_name like current_setting('application_name') || '%' and pid <> pg_backend_pid()";
    await onPostgres(direct, kill);
    await Promise.all(writes);
    expect(await count()).toBe(200);
  });
});

test("processes that start together migrate once", async () => {
  const uri = await tempPostgres();
  const applied: string[] = [];
  const onMigrated = (names: readonly string[]) => void applied.push(...names);
  await Promise.all(Array.from({ length: 5 }, () => openTempPostgres({ uri, onMigrated })));
  expect(applied).toEqual([
    "0009_baseline",
    "0010_growing_values",
    "0011_protocol_threads",
    "0012_outcomes",
    "0013_told_to",
    "0014_departed_runs",
    "0015_webhook_trace",
    "0016_checkpoint_eras",
  ]);
  // An older server goes on where a newer one has added to the schema.
  await onPostgres(
    uri,
    "insert into kysely_migration values ('9999_newer', '')",
    "alter table runs add column more text",
  );
  const older = await openTempPostgres({ uri });
  await insert(older);
});

test("a statement that takes too long is ended, and its caller told", async () => {
  const storage = await openTempPostgres({ statementTimeoutMs: 2000 });
  const { sql } = await import("kysely");
  const slow = storage.read((db) => sql`select pg_sleep(60)`.execute(db));
  await expect(slow).rejects.toMatchObject({ kind: "unavailable" });
});

test("the password is shown nowhere", async () => {
  const uri = new URL(await tempPostgres());
  uri.password = "hush";
  const storage = await openTempPostgres({ uri: uri.href });
  expect(storage.location).not.toContain("hush");
  uri.port = "1";
  const { openPostgres } = await import("../../src/storage/postgres.ts");
  const error = await openPostgres({ uri: uri.href, retryMs: 1 }).catch((thrown: unknown) => thrown);
  expect(String(error)).toMatch(/cannot be used/);
  expect(String(error)).not.toContain("hush");
});
