import { expect, test } from "vitest";
import type { NewRun, RunRecord, Storage, Tx } from "../../src/storage/storage.ts";
import * as runs from "../../src/storage/tables/runs.ts";
import { eachDialect, NOW, newRun } from "./support.ts";

const insert = (storage: Storage, change: Partial<NewRun> = {}): Promise<RunRecord> =>
  storage.write((tx) => runs.insert(tx, newRun(change)));

const claim = (storage: Storage, request: Partial<runs.ClaimRequest> = {}): Promise<RunRecord[]> =>
  storage.write((tx) => runs.claim(tx, { owner: "me", now: NOW, lease_ms: 1000, limit: 10, ...request }));

const ids = (records: readonly Pick<RunRecord, "run_id">[]): string[] => records.map((run) => run.run_id);

const settlement = { status: "success", error: null, checkpoint_id: "cp", now: NOW + 5 } as const;

eachDialect((openTemp, dialect) => {
  /** Leases and due times go by the clock of the process; PostgreSQL goes by its own (clocks.test.ts). */
  const byOurClock = test.skipIf(dialect === "postgres");

  test("which of a hundred thousand are in flight is one question", async () => {
    const storage = await openTemp();
    const run = await storage.write((tx) => runs.insert(tx, newRun()));
    const others = Array.from({ length: 100_000 }, (_, index) => `other ${index}`);
    expect(await storage.read((db) => runs.inFlightAmong(db, [...others, run.run_id]))).toEqual(new Set([run.run_id]));
    expect(await storage.read((db) => runs.inFlightAmong(db, []))).toEqual(new Set());
  });

  test("a run comes back as it was inserted, behind those before it", async () => {
    const storage = await openTemp();
    const first = await insert(storage, { error: { error: "E", message: "m" }, metadata: { a: [1, null] } });
    const second = await insert(storage);
    expect(second.seq).toBeGreaterThan(first.seq);
    expect(await storage.read((db) => runs.find(db, first.run_id))).toEqual(first);
    expect(await storage.read((db) => runs.find(db, "nobody"))).toBeUndefined();
  });

  test.runIf(dialect === "postgres")(
    "runs of a thread begin one after the other, however late a process's clock is",
    async () => {
      const storage = await openTemp();
      const thread_id = "t";
      const begun: number[] = [];
      const end = ({ run_id, fence }: RunRecord) => storage.write((tx) => runs.settle(tx, run_id, fence, settlement));
      for (const late of [0, 1000, 500, 3000]) {
        const now = Date.now() - late;
        const made = await insert(storage, { thread_id, created_at: now, not_before: now });
        const [run = expect.fail()] = await claim(storage, { now });
        expect(run.run_id).toBe(made.run_id);
        await end(run);
        const lease = { status: "running", attempt: 1, fence: 1, lease_owner: "me", lease_expires_at: now } as const;
        const atOnce = await insert(storage, {
          thread_id,
          created_at: now,
          not_before: now,
          ...lease,
          started_at: now,
        });
        expect(await storage.read((db) => runs.find(db, atOnce.run_id))).toEqual(atOnce);
        await end(atOnce);
        begun.push(run.started_at ?? 0, atOnce.started_at ?? 0);
      }
      expect(begun).toEqual([...new Set(begun)].sort((a, b) => a - b));
    },
  );

  byOurClock("a claim takes the oldest runs up to the limit and says who holds them", async () => {
    const storage = await openTemp();
    const [a, b, c] = [await insert(storage), await insert(storage), await insert(storage)];
    const claimed = await claim(storage, { limit: 2 });
    expect(ids(claimed)).toEqual([a.run_id, b.run_id]);
    expect(claimed[0]).toMatchObject({
      status: "running",
      attempt: 1,
      fence: 1,
      lease_owner: "me",
      lease_expires_at: NOW + 1000,
      started_at: NOW,
    });
    expect(ids(await claim(storage))).toEqual([c.run_id]);
    expect(await claim(storage)).toEqual([]);
  });

  test("runs of a thread run one at a time, in order of creation", async () => {
    const storage = await openTemp();
    const first = await insert(storage, { thread_id: "t" });
    const second = await insert(storage, { thread_id: "t" });
    const other = await insert(storage, { thread_id: "u" });
    expect(ids(await claim(storage))).toEqual([first.run_id, other.run_id]);
    expect(await claim(storage)).toEqual([]);
    await storage.write(async (tx) => {
      await runs.settle(tx, first.run_id, 1, settlement);
      await runs.promote(tx, "t", NOW);
    });
    expect(ids(await claim(storage))).toEqual([second.run_id]);
  });

  byOurClock("a delayed run waits for its time and does not hold up a younger one", async () => {
    const storage = await openTemp();
    const delayed = await insert(storage, { thread_id: "t", not_before: NOW + 500 });
    const later = await insert(storage, { thread_id: "u", not_before: NOW + 900 });
    const ready = await insert(storage, { thread_id: "t" });
    expect(ids(await claim(storage))).toEqual([ready.run_id]);
    expect(await storage.read((db) => runs.nextDue(db, NOW))).toBe(NOW + 500);
    expect(await storage.read((db) => runs.nextDue(db, NOW + 500))).toBe(NOW + 900);
    expect(await storage.read((db) => runs.nextDue(db, NOW + 900))).toBeUndefined();
    await storage.write((tx) => runs.settle(tx, ready.run_id, 1, settlement));
    expect(ids(await claim(storage, { now: NOW + 500 }))).toEqual([delayed.run_id]);
    expect(ids(await claim(storage, { now: NOW + 900 }))).toEqual([later.run_id]);
  });

  test("a long queue of one thread costs a claim nothing: only its head is looked at", async () => {
    const storage = await openTemp();
    const queue = await storage.write(async (tx) => {
      const made: RunRecord[] = [];
      for (let i = 0; i < 500; i += 1) made.push(await runs.insert(tx, newRun({ thread_id: "t" })));
      return made;
    });
    const lookedAt = () =>
      storage.read((db) =>
        db.selectFrom("runs").select("run_id").where("status", "=", "pending").where("behind", "=", 0).execute(),
      );
    expect((await lookedAt()).map(({ run_id }) => run_id)).toEqual([queue[0]?.run_id]);
    // It ends however a run can end, and the next in line is looked at.
    const ends: ((tx: Tx, run: RunRecord) => Promise<unknown>)[] = [
      (tx, run) => runs.settle(tx, run.run_id, 1, settlement),
      (tx, run) => runs.remove(tx, run.run_id),
    ];
    for (const [at, end] of ends.entries()) {
      const run = queue[at] as RunRecord;
      expect(ids(await claim(storage))).toEqual([run.run_id]);
      await storage.write(async (tx) => {
        await end(tx, run);
        await runs.promote(tx, "t", NOW);
      });
      expect((await lookedAt()).map(({ run_id }) => run_id)).toEqual([queue[at + 1]?.run_id]);
    }
  });

  test("excluded threads are left alone", async () => {
    const storage = await openTemp();
    await insert(storage, { thread_id: "t" });
    const other = await insert(storage, { thread_id: "u" });
    expect(ids(await claim(storage, { exclude_threads: ["t", 'odd"name'] }))).toEqual([other.run_id]);
  });

  test("a run that leaves no row takes all of its thread along, under its own token only", async () => {
    const storage = await openTemp();
    const { run_id } = await insert(storage, { thread_id: "t" });
    const waiting = await insert(storage, { thread_id: "t" });
    const other = await insert(storage, { thread_id: "u" });
    await claim(storage);
    const remove = (fence: number) => storage.write((tx) => runs.removeHeld(tx, { run_id, thread_id: "t", fence }));
    const left = async () => {
      const found = await storage.read((db) => db.selectFrom("runs").select("run_id").orderBy("seq").execute());
      return ids(found);
    };
    expect(await remove(2)).toBe(false);
    expect(await left()).toEqual([run_id, waiting.run_id, other.run_id]);
    expect(await remove(1)).toBe(true);
    expect(await left()).toEqual([other.run_id]);
    expect(await remove(1)).toBe(false);
  });

  test("a stale token writes nothing", async () => {
    const storage = await openTemp();
    const { run_id } = await insert(storage);
    await claim(storage);
    expect(await storage.write((tx) => runs.release(tx, run_id, 1, { now: NOW, spend_attempt: true }))).toBe(true);
    const [again] = await claim(storage, { owner: "other" });
    expect(again).toMatchObject({ fence: 2, attempt: 2, lease_owner: "other" });

    expect(await storage.write((tx) => runs.isHeld(tx, run_id, 1))).toBe(false);
    expect(await storage.write((tx) => runs.settle(tx, run_id, 1, settlement))).toBe(false);
    expect(await storage.write((tx) => runs.release(tx, run_id, 1, { now: NOW, spend_attempt: false }))).toBe(false);
    expect(await storage.read((db) => runs.find(db, run_id))).toEqual(again);

    expect(await storage.write((tx) => runs.isHeld(tx, run_id, 2))).toBe(true);
    expect(await storage.write((tx) => runs.settle(tx, run_id, 2, settlement))).toBe(true);
    expect(await storage.write((tx) => runs.isHeld(tx, run_id, 2))).toBe(false);
    expect(await storage.write((tx) => runs.settle(tx, run_id, 2, settlement))).toBe(false);
  });

  test("settling ends the run and gives the lease back", async () => {
    const storage = await openTemp();
    const { run_id } = await insert(storage);
    await claim(storage);
    const error = { error: "ValueError", message: "no" };
    await storage.write((tx) => runs.settle(tx, run_id, 1, { ...settlement, status: "error", error }));
    expect(await storage.read((db) => runs.find(db, run_id))).toMatchObject({
      status: "error",
      error,
      checkpoint_id: "cp",
      lease_owner: null,
      lease_expires_at: null,
      ended_at: NOW + 5,
    });
  });

  test("heldOf tells which of many are still held", async () => {
    const storage = await openTemp();
    const [a, b, pending] = [await insert(storage), await insert(storage), await insert(storage)];
    await claim(storage, { limit: 2 });
    const held = await storage.write((tx) =>
      runs.heldOf(tx, [
        { run_id: a.run_id, fence: 1 },
        { run_id: b.run_id, fence: 7 },
        { run_id: pending.run_id, fence: 0 },
      ]),
    );
    expect([...held]).toEqual([a.run_id]);
    expect((await storage.write((tx) => runs.heldOf(tx, []))).size).toBe(0);
  });

  test("a released run keeps its place, and its attempt when it was not spent", async () => {
    const storage = await openTemp();
    const first = await insert(storage);
    const second = await insert(storage);
    const [begun] = await claim(storage, { limit: 1 });
    await storage.write((tx) => runs.release(tx, first.run_id, 1, { now: NOW + 9, spend_attempt: false }));
    const claimed = await claim(storage, { now: NOW + 10 });
    expect(ids(claimed)).toEqual([first.run_id, second.run_id]);
    expect(claimed[0]).toMatchObject({ attempt: 1, fence: 2, started_at: begun?.started_at });
  });

  byOurClock("leases expire unless they are extended; a new owner finds those of the old", async () => {
    const storage = await openTemp();
    const run = await insert(storage);
    await claim(storage);
    const expired = (now: number, owner_not?: string) => storage.read((db) => runs.expired(db, now, owner_not));
    expect(ids(await expired(NOW + 1001))).toEqual([run.run_id]);
    await storage.write((tx) => runs.extendLeases(tx, { owner: "me", now: NOW + 900, lease_ms: 1000 }));
    await storage.write((tx) => runs.extendLeases(tx, { owner: "other", now: NOW + 5000, lease_ms: 1000 }));
    expect(await expired(NOW + 1900)).toEqual([]);
    expect(ids(await expired(NOW + 1901))).toEqual([run.run_id]);
    expect(ids(await expired(NOW, "new"))).toEqual([run.run_id]);
    expect(await expired(NOW, "me")).toEqual([]);
  });

  test("only a pending run can be settled as pending", async () => {
    const storage = await openTemp();
    const [a, b] = [await insert(storage), await insert(storage)];
    await claim(storage, { limit: 1 });
    const end = (run_id: string) =>
      storage.write((tx) => runs.settlePending(tx, run_id, { status: "interrupted", now: NOW }));
    expect(await end(a.run_id)).toBe(false);
    expect(await end(b.run_id)).toBe(true);
    expect(await end(b.run_id)).toBe(false);
    expect(await claim(storage)).toEqual([]);
  });

  test("in flight, list, cancel, counts, remove", async () => {
    const storage = await openTemp();
    const a = await insert(storage, { thread_id: "t" });
    const b = await insert(storage, { thread_id: "t" });
    const ended = await insert(storage, { thread_id: "t", status: "success" });
    await claim(storage);
    expect(ids(await storage.write((tx) => runs.inFlight(tx, "t")))).toEqual([a.run_id, b.run_id]);

    const list = (status: "success" | null, offset = 0) =>
      storage.read((db) => runs.listOfThread(db, "t", { limit: 2, offset, status }));
    expect(ids(await list(null))).toEqual([ended.run_id, b.run_id]);
    expect(ids(await list(null, 2))).toEqual([a.run_id]);
    expect(ids(await list("success"))).toEqual([ended.run_id]);

    await storage.write((tx) => runs.setCancel(tx, b.run_id, "rollback", NOW + 1));
    expect(await storage.read((db) => runs.find(db, b.run_id))).toMatchObject({ cancel_action: "rollback" });

    await storage.write((tx) => runs.remove(tx, ended.run_id));
    expect(await storage.read((db) => runs.countByStatus(db))).toEqual({
      pending: 1,
      running: 1,
      error: 0,
      success: 0,
      timeout: 0,
      interrupted: 0,
    });
  });
});
