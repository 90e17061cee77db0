import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { newThread } from "../../src/services/runs.ts";
import type { CronRecord } from "../../src/storage/storage.ts";
import * as crons from "../../src/storage/tables/crons.ts";
import * as threads from "../../src/storage/tables/threads.ts";
import { eachDialect, NOW } from "./support.ts";

const cron = (change: Partial<CronRecord>): CronRecord => ({
  cron_id: randomUUID(),
  assistant_id: randomUUID(),
  thread_id: null,
  on_run_completed: null,
  schedule: "0 * * * *",
  timezone: null,
  end_time: null,
  enabled: true,
  next_run_date: NOW,
  created_at: NOW,
  updated_at: NOW,
  metadata: {},
  payload: {},
  ...change,
});

eachDialect((openTemp) => {
  test("crons go with their thread, or with their assistant when told", async () => {
    const storage = await openTemp();
    const [mine, other] = [randomUUID(), randomUUID()];
    const [onMine, onOther, nowhere] = [cron({ thread_id: mine }), cron({ thread_id: other }), cron({})];
    await storage.write(async (tx) => {
      for (const id of [mine, other]) await threads.insert(tx, newThread(id, "idle", {}, NOW));
      for (const record of [onMine, onOther, nowhere]) await crons.insert(tx, record);
    });
    const left = async (): Promise<string[]> =>
      (await storage.read((db) => crons.search(db, { sort_by: "thread_id" }))).map(({ cron_id }) => cron_id);
    await storage.write((tx) => threads.remove(tx, mine));
    expect(await left()).toEqual([onOther.cron_id, nowhere.cron_id]);
    await storage.write((tx) => crons.removeOfAssistant(tx, nowhere.assistant_id));
    expect(await left()).toEqual([onOther.cron_id]);
  });

  test("a cron on a thread that is not there is not written", async () => {
    const storage = await openTemp();
    await expect(storage.write((tx) => crons.insert(tx, cron({ thread_id: randomUUID() })))).rejects.toThrow(
      /foreign key/i,
    );
    expect(await storage.read((db) => crons.count(db, {}))).toBe(0);
  });
});
