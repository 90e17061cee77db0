import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import type { RunHold, StorageRequest } from "../../src/engine/executor-thread.ts";
import { storageHandler } from "../../src/engine/storage-calls.ts";
import type { CheckpointRow } from "../../src/executor/protocol.ts";
import type { Storage } from "../../src/storage/storage.ts";
import * as checkpoints from "../../src/storage/tables/checkpoints.ts";
import * as runs from "../../src/storage/tables/runs.ts";
import { makeStore } from "../storage/make-store.ts";
import { NOW, newRun } from "../storage/new-run.ts";
import { openTemp } from "../storage/support.ts";

const claim = async (storage: Storage) => {
  const run = newRun();
  await storage.write((tx) => runs.insert(tx, run));
  const [claimed] = await storage.write((tx) => runs.claim(tx, { owner: "me", now: NOW, lease_ms: 1000, limit: 1 }));
  if (claimed === undefined) throw new Error("nothing to claim");
  return claimed;
};

const put = (run: { run_id: string; thread_id: string }, hold: RunHold, checkpoint_id: string): StorageRequest => {
  const row: CheckpointRow = {
    thread_id: run.thread_id,
    checkpoint_ns: "",
    checkpoint_id,
    parent_checkpoint_id: null,
    checkpoint: ["json", "{}"],
    metadata: "{}",
    blob_versions: {},
  };
  const { run_id } = run;
  return { hold, call: { op: "put_checkpoint", run_id, fence: hold.fence, row, blobs: [], durability: "async" } };
};

const stored = (storage: Storage, thread_id: string) =>
  storage.read((db) => checkpoints.list(db, { thread_id, checkpoint_ns: "" }));

test("a write under a stale fencing token changes nothing", async () => {
  const storage = await openTemp();
  const run = await claim(storage);
  const handle = storageHandler(storage, makeStore(storage));
  const stale: RunHold = { fence: run.fence - 1, failure: undefined, hasStored: false };
  const [refused] = await handle([put(run, stale, "1")]);
  expect(refused).toMatchObject({ ok: false, error: { error: "FencedError" } });
  expect(await stored(storage, run.thread_id)).toEqual([]);
  const [taken] = await handle([put(run, { fence: run.fence, failure: undefined, hasStored: false }, "1")]);
  expect(taken).toEqual({ ok: true, value: null });
});

test("after a checkpoint that could not be stored, no later one of the attempt is", async () => {
  const storage = await openTemp();
  const run = await claim(storage);
  const handle = storageHandler(storage, makeStore(storage));
  const hold: RunHold = { fence: run.fence, failure: undefined, hasStored: false };
  // libsql cannot bind a boolean: the statement fails as a full disk would make it fail.
  const broken = put(run, hold, true as unknown as string);
  const replies = await Promise.all([handle([broken]), handle([put(run, hold, randomUUID())])]);
  expect(replies.flat().map(({ ok }) => ok)).toEqual([false, false]);
  expect(hold.failure).toBeDefined();
  expect(await stored(storage, run.thread_id)).toEqual([]);
});
