/** A change that was worked out from a state that is no longer the thread's is not stored. */
import { expect, test } from "vitest";
import { applyChange, type RestingThread, restingThread } from "../../src/engine/state-update.ts";
import type { CheckpointRow, StateChange } from "../../src/executor/protocol.ts";
import type { Storage } from "../../src/storage/storage.ts";
import * as checkpoints from "../../src/storage/tables/checkpoints.ts";
import * as runs from "../../src/storage/tables/runs.ts";
import * as threads from "../../src/storage/tables/threads.ts";
import { NOW, newRun, openTemp } from "../storage/support.ts";

const THREAD = "11111111-1111-4111-8111-111111111111";

const row = (checkpoint_id: string, checkpoint_ns = ""): CheckpointRow => ({
  thread_id: THREAD,
  checkpoint_ns,
  checkpoint_id,
  parent_checkpoint_id: null,
  checkpoint: ["json", "{}"],
  metadata: "{}",
  blob_versions: {},
});

/** Checkpoint 2 on top of 1; the update also looked at a subgraph that had nothing. */
const change: StateChange = {
  writes: [{ op: "put_checkpoint", row: row("2"), blobs: [] }],
  seen: [
    { checkpoint_ns: "", checkpoint_id: "1" },
    { checkpoint_ns: "sub", checkpoint_id: null },
  ],
  checkpoint: { thread_id: THREAD, checkpoint_ns: "", checkpoint_id: "2", checkpoint_map: null },
  snapshot: { values: '{"a":2}', interrupts: '{"task":[]}', interrupted: true, checkpoint_id: "2" },
};

async function open(): Promise<{ storage: Storage; found: RestingThread }> {
  const storage = await openTemp();
  const times = { created_at: NOW, updated_at: NOW, state_updated_at: NOW };
  const rest = { metadata: {}, config: {}, values: null, temporary: false, protocol: false, ttl: null };
  const thread = { thread_id: THREAD, status: "error" as const, ...rest, ...times };
  await storage.write(async (tx) => {
    await threads.insert(tx, { ...thread, interrupts: "{}" });
    await checkpoints.put(tx, null, row("1"), []);
  });
  return { storage, found: await storage.read((db) => restingThread(db, THREAD)) };
}

const apply = (storage: Storage, found: RestingThread) =>
  storage.write((tx) => applyChange(tx, THREAD, found, change, NOW + 5));
const latest = (storage: Storage) => storage.read((db) => checkpoints.latestOf(db, THREAD));
const run = (status: "pending" | "success") => newRun({ thread_id: THREAD, status });

test("what has not changed takes the update: checkpoint and thread together", async () => {
  const { storage, found } = await open();
  expect(await apply(storage, found)).toBe(true);
  expect(await latest(storage)).toBe("2");
  expect(await storage.read((db) => threads.find(db, THREAD))).toMatchObject({
    status: "interrupted",
    values: '{"a":2}',
    interrupts: '{"task":[]}',
    updated_at: NOW + 5,
    state_updated_at: NOW + 5,
  });
});

test("a run in flight refuses it", async () => {
  const { storage, found } = await open();
  await storage.write((tx) => runs.insert(tx, run("pending")));
  await expect(apply(storage, found)).rejects.toMatchObject({ kind: "conflict" });
  expect(await latest(storage)).toBe("1");
});

test("a run that came and went, another checkpoint, also of a subgraph: it has to be worked out again", async () => {
  const moves: ((storage: Storage) => Promise<unknown>)[] = [
    (storage) => storage.write((tx) => runs.insert(tx, run("success"))),
    (storage) => storage.write((tx) => checkpoints.put(tx, null, row("1b"), [])),
    (storage) => storage.write((tx) => checkpoints.put(tx, null, row("1", "sub"), [])),
  ];
  for (const move of moves) {
    const { storage, found } = await open();
    await move(storage);
    expect(await apply(storage, found)).toBe(false);
    expect(await latest(storage)).not.toBe("2");
    expect(await storage.read((db) => threads.find(db, THREAD))).toMatchObject({
      status: "error",
      temporary: false,
      ttl: null,
      values: null,
    });
  }
});

test("a fork of a checkpoint that has gone meanwhile is not stored: its values have gone, too", async () => {
  const { storage, found } = await open();
  await storage.write(async (tx) => {
    await checkpoints.put(tx, "a run", row("1a"), []);
    await checkpoints.put(tx, null, row("1b"), []);
  });
  const fork = { ...row("2"), parent_checkpoint_id: "1a" };
  const again = { ...row("3"), parent_checkpoint_id: "2" };
  const seen = [{ checkpoint_ns: "", checkpoint_id: await latest(storage) }];
  const forks = (...rows: CheckpointRow[]): StateChange => {
    return { ...change, seen, writes: rows.map((each) => ({ op: "put_checkpoint", row: each, blobs: [] })) };
  };
  const store = (what: StateChange) => storage.write((tx) => applyChange(tx, THREAD, found, what, NOW + 5));
  const read = { op: "put_writes", key: row("1a"), writes: [], keep_existing: false } as const;
  await storage.write((tx) => checkpoints.removeForRuns(tx, THREAD, ["a run"]));
  expect(await store(forks(fork))).toBe(false);
  expect(await store({ ...forks(again), writes: [read] })).toBe(false);
  expect(await latest(storage)).toBe("1b");
  expect(await store(forks({ ...fork, parent_checkpoint_id: "1b" }, again))).toBe(true);
});

test("a thread that was deleted meanwhile is not brought back", async () => {
  const { storage, found } = await open();
  await storage.write((tx) => threads.remove(tx, THREAD));
  await expect(apply(storage, found)).rejects.toMatchObject({ kind: "not_found" });
  expect(await latest(storage)).toBeNull();
});
