import { expect } from "vitest";
import { eventually } from "../../support/server.ts";
import { type Cases, final, input, NOBODY, pick, type World } from "./support.ts";

const NIGHTLY = "0 3 * * *";
const END = "2999-01-01T00:00:00.000Z";
const create = ({ sdk, mine }: World, fields: Record<string, unknown> = {}, assistant = "plain") =>
  sdk.crons.create(assistant, { schedule: NIGHTLY, input, metadata: mine, ...fields });
const hour = (date: string, timeZone: string): string => new Date(date).toLocaleTimeString("en-GB", { timeZone });

export const crons: Cases = {
  async create(world) {
    const { sdk, mine, api, oldest } = world;
    const cron = await create(world);
    expect(cron).toMatchObject({ schedule: NIGHTLY, enabled: true, metadata: mine, payload: { input } });
    expect(cron).toMatchObject({ end_time: null, thread_id: null, on_run_completed: "delete" });
    expect(hour(cron.next_run_date, "UTC")).toBe("03:00:00");
    await expect(create(world, { schedule: "nonsense" })).rejects.toThrow(/422.*schedule/);
    if (!oldest) {
      const more = await create(world, { timezone: "Europe/Berlin", endTime: END, streamMode: ["values"] });
      expect(more).toMatchObject({ timezone: "Europe/Berlin", end_time: END, payload: { stream_mode: ["values"] } });
      expect(hour(more.next_run_date, "Europe/Berlin")).toBe("03:00:00");
    }

    const { cron_id } = await create(world, { schedule: "* * * * * *", onRunCompleted: "keep" });
    const kept = await eventually(async () => {
      const [thread] = await api.post("/threads/search", { metadata: { cron_id }, status: "idle" });
      return thread;
    });
    await sdk.crons.delete(cron_id);
    expect(kept.values).toEqual(final);
  },

  async createForThread({ sdk, mine }) {
    const { thread_id } = await sdk.threads.create();
    const fields = { schedule: NIGHTLY, input, metadata: mine, multitaskStrategy: "interrupt", enabled: false };
    const cron = await sdk.crons.createForThread(thread_id, "plain", fields);
    expect(cron).toMatchObject({ thread_id, enabled: false, next_run_date: null });
    expect(cron.payload.multitask_strategy).toBe("interrupt");
    await expect(sdk.crons.createForThread(NOBODY, "plain", fields)).rejects.toThrow("404");
  },

  async update(world) {
    const { sdk, mine, oldest } = world;
    const { cron_id } = await create(world);
    const fields = { schedule: "30 4 * * *", enabled: false, metadata: { more: 1 }, input: { value: 9 } };
    const changed = await sdk.crons.update(cron_id, fields);
    expect(changed).toMatchObject({ cron_id, schedule: "30 4 * * *", enabled: false, next_run_date: null });
    expect(changed).toMatchObject({ metadata: { ...mine, more: 1 }, payload: { input: { value: 9 } } });
    const again = await sdk.crons.update(cron_id, { enabled: true, timezone: "Asia/Tokyo", endTime: END });
    expect(again).toMatchObject({ enabled: true, end_time: END });
    expect(hour(again.next_run_date, oldest ? "UTC" : "Asia/Tokyo")).toBe("04:30:00");
    await expect(sdk.crons.update(NOBODY, { enabled: true })).rejects.toThrow("404");
  },

  async delete(world) {
    const { sdk } = world;
    const { thread_id: threadId } = await sdk.threads.create();
    const { cron_id } = await sdk.crons.createForThread(threadId, "plain", { schedule: NIGHTLY });
    await sdk.crons.delete(cron_id);
    expect(await sdk.crons.search({ threadId })).toEqual([]);
    await expect(sdk.crons.delete(cron_id)).rejects.toThrow("404");
  },

  async search(world) {
    const { sdk, mine, oldest } = world;
    const { assistant_id: assistantId } = await sdk.assistants.create({ graphId: "plain" });
    const first = await create(world, {}, assistantId);
    const { thread_id: threadId } = await sdk.threads.create();
    const fields = { schedule: "0 1 * * *", metadata: mine, enabled: false };
    const second = await sdk.crons.createForThread(threadId, assistantId, fields);
    const search = (query: object) => sdk.crons.search({ assistantId, ...query });
    const ids = async (query: object) => pick(await search(query), "cron_id");
    expect(await ids({})).toEqual([second.cron_id, first.cron_id]);
    expect(await ids({ sortBy: "created_at", sortOrder: "asc" })).toEqual([first.cron_id, second.cron_id]);
    expect(await ids({ threadId })).toEqual([second.cron_id]);
    expect(await ids({ enabled: false })).toEqual([second.cron_id]);
    expect(await ids({ limit: 1, offset: 1 })).toEqual([first.cron_id]);
    expect(await search({ threadId, select: ["cron_id"] })).toEqual([{ cron_id: second.cron_id }]);
    if (!oldest) expect(await ids({ assistantId: undefined, metadata: mine })).toHaveLength(2);
  },

  async count(world) {
    const { sdk, mine, oldest } = world;
    const { assistant_id: assistantId } = await sdk.assistants.create({ graphId: "plain" });
    for (const schedule of [NIGHTLY, "0 1 * * *"]) await create(world, { schedule }, assistantId);
    const { thread_id: threadId } = await sdk.threads.create();
    await sdk.crons.createForThread(threadId, "echo", { schedule: NIGHTLY, metadata: mine });
    expect(await sdk.crons.count({ assistantId })).toBe(2);
    expect(await sdk.crons.count({ threadId })).toBe(1);
    if (!oldest) expect(await sdk.crons.count({ metadata: mine })).toBe(3);
  },
};
