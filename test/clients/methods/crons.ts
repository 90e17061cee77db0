import { expect } from "vitest";
import { eventually } from "../../support/server.ts";
import { type Cases, final, input, NOBODY, pick, type World } from "./support.ts";

const NIGHTLY = "0 3 * * *";
const create = ({ sdk, mine }: World, fields: Record<string, unknown> = {}) =>
  sdk.crons.create("plain", { schedule: NIGHTLY, input, metadata: mine, ...fields });

export const crons: Cases = {
  async create(world) {
    const { sdk, mine, api } = world;
    const endTime = "2999-01-01T00:00:00.000Z";
    const cron = await create(world, { timezone: "Europe/Berlin", endTime, streamMode: ["values"] });
    expect(cron).toMatchObject({ schedule: NIGHTLY, timezone: "Europe/Berlin", enabled: true, metadata: mine });
    expect(cron).toMatchObject({ end_time: endTime, thread_id: null, on_run_completed: "delete" });
    expect(cron.payload).toMatchObject({ input, stream_mode: ["values"] });
    expect(new Date(cron.next_run_date).toLocaleTimeString("en-GB", { timeZone: "Europe/Berlin" })).toBe("03:00:00");
    await expect(create(world, { schedule: "nonsense" })).rejects.toThrow(/422.*schedule/);

    const { cron_id } = await create(world, { schedule: "* * * * * *", onRunCompleted: "keep" });
    const made = await eventually(async () => {
      const kept = { metadata: { cron_id }, status: "idle" };
      return (await api.post("/threads/search", kept)).find(
        ({ values }: World["sdk"]) => values?.value === final.value,
      );
    });
    await sdk.crons.delete(cron_id);
    expect(made.values).toEqual(final);
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
    const { sdk, mine } = world;
    const { cron_id } = await create(world);
    const fields = { schedule: "30 4 * * *", enabled: false, metadata: { more: 1 }, input: { value: 9 } };
    const changed = await sdk.crons.update(cron_id, fields);
    expect(changed).toMatchObject({ cron_id, schedule: "30 4 * * *", enabled: false, next_run_date: null });
    expect(changed).toMatchObject({ metadata: { ...mine, more: 1 }, payload: { input: { value: 9 } } });
    const endTime = "2999-01-01T00:00:00.000Z";
    const again = await sdk.crons.update(cron_id, { enabled: true, timezone: "Asia/Tokyo", endTime });
    expect(again).toMatchObject({ enabled: true, timezone: "Asia/Tokyo", end_time: endTime });
    expect(again.next_run_date).toMatch(/T19:30:00/);
    await expect(sdk.crons.update(NOBODY, { enabled: true })).rejects.toThrow("404");
  },

  async delete(world) {
    const { sdk, mine } = world;
    const { cron_id } = await create(world);
    await sdk.crons.delete(cron_id);
    expect(await sdk.crons.search({ metadata: mine })).toEqual([]);
    await expect(sdk.crons.delete(cron_id)).rejects.toThrow("404");
  },

  async search(world) {
    const { sdk, mine } = world;
    const first = await create(world);
    const { thread_id } = await sdk.threads.create();
    const fields = { schedule: "0 1 * * *", metadata: mine, enabled: false };
    const second = await sdk.crons.createForThread(thread_id, "echo", fields);
    const search = (query: object) => sdk.crons.search({ metadata: mine, ...query });
    const ids = async (query: object) => pick(await search(query), "cron_id");
    expect(await ids({})).toEqual([second.cron_id, first.cron_id]);
    expect(await ids({ sortBy: "created_at", sortOrder: "asc" })).toEqual([first.cron_id, second.cron_id]);
    expect(await ids({ threadId: thread_id })).toEqual([second.cron_id]);
    expect(await ids({ assistantId: first.assistant_id })).toEqual([first.cron_id]);
    expect(await ids({ limit: 1, offset: 1 })).toEqual([first.cron_id]);
    expect(await search({ threadId: thread_id, select: ["cron_id"] })).toEqual([{ cron_id: second.cron_id }]);
    if (world.newest) expect(await ids({ enabled: false })).toEqual([second.cron_id]);
  },

  async count(world) {
    const { sdk, mine } = world;
    await create(world);
    const { assistant_id } = await create(world);
    const { thread_id: threadId } = await sdk.threads.create();
    await sdk.crons.createForThread(threadId, "echo", { schedule: NIGHTLY, metadata: mine });
    if (world.newest) expect(await sdk.crons.count({ metadata: mine })).toBe(3);
    expect(await sdk.crons.count({ threadId })).toBe(1);
    expect(await sdk.crons.count({ assistantId: assistant_id })).toBeGreaterThanOrEqual(2);
  },
};
