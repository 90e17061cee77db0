/** A run that has ended is removed with its checkpoints, unless another in flight stands on them. */
import { expect, test } from "vitest";
import { removeEndedRun } from "../../src/engine/settle.ts";
import type { NewRun } from "../../src/storage/storage.ts";
import * as checkpoints from "../../src/storage/tables/checkpoints.ts";
import * as runs from "../../src/storage/tables/runs.ts";
import * as threads from "../../src/storage/tables/threads.ts";
import { eachDialect, NOW, newRun, newThread } from "../storage/support.ts";

const thread_id = "11111111-1111-4111-8111-111111111111";
const { kwargs } = newRun();
const OTHERS: Readonly<Record<string, { readonly other: Partial<NewRun>; readonly stays: boolean }>> = {
  "waits for its first attempt": { other: {}, stays: false },
  "is at work": { other: { status: "running", fence: 1 }, stays: true },
  "was handed back, and goes on where it was": { other: { attempt: 1, fence: 1 }, stays: true },
  "is to begin at a checkpoint": {
    other: { kwargs: { ...kwargs, config: { configurable: { checkpoint_id: "1" } } } },
    stays: true,
  },
};

eachDialect((open) => {
  test.each(Object.entries(OTHERS))("another %s", async (_, { other, stays }) => {
    const storage = await open();
    const ended = newRun({ thread_id, status: "success", fence: 1, ended_at: NOW });
    const left = await storage.write(async (tx) => {
      await threads.insert(tx, newThread(thread_id));
      await runs.insert(tx, ended);
      await runs.insert(tx, newRun({ thread_id, ...other }));
      const key = { thread_id, checkpoint_ns: "", checkpoint_id: "1" };
      const row = { ...key, parent_checkpoint_id: null, metadata: "{}", blob_versions: {} };
      await checkpoints.put(tx, ended.run_id, { ...row, checkpoint: ["json", "{}"] }, []);
      await removeEndedRun(tx, ended, NOW);
      return { run: await runs.find(tx, ended.run_id), isThere: await checkpoints.exists(tx, key) };
    });
    expect(left).toEqual({ run: undefined, isThere: stays });
  });
});
