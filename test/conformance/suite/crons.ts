import { expect } from "vitest";
import { type Any, behaviour, eventually, ids, NOBODY, refused, UUID, YEARLY } from "../kit.ts";

behaviour("crons.create", async ({ api }) => {
  const cron = await api.cron({ input: { value: 1 }, metadata: { a: 1 } });
  const { assistant_id } = await api.get("/assistants/plain");
  expect(cron).toMatchObject({
    cron_id: expect.stringMatching(UUID),
    assistant_id,
    schedule: YEARLY,
    enabled: true,
    metadata: { a: 1 },
    end_time: null,
    payload: { input: { value: 1 } },
  });
  for (const field of ["created_at", "updated_at", "next_run_date"]) expect(Date.parse(cron[field])).not.toBeNaN();
});

behaviour("crons.create.thread-is-null", async ({ api }) => {
  expect(await api.cron()).toMatchObject({ thread_id: null });
});

behaviour("crons.create.next-run-is-utc", async ({ api }) => {
  const { next_run_date } = await api.cron({ schedule: "30 4 * * *" });
  expect(new Date(next_run_date).toISOString()).toContain("T04:30:00");
});

behaviour("crons.create.timezone", async ({ api }) => {
  const { next_run_date } = await api.cron({ schedule: "30 4 * * *", timezone: "Asia/Kolkata" });
  expect(new Date(next_run_date).toISOString()).toContain("T23:00:00");
});

behaviour("crons.create.bad-timezone", async ({ api }) => {
  const body = { assistant_id: "plain", schedule: YEARLY, timezone: "Mars/Olympus" };
  await refused(api.http.post("/runs/crons", body), 422, "timezone");
});

behaviour("crons.create.bad-schedule", async ({ api }) => {
  for (const schedule of ["every day", "61 * * * *", "* * *", ""]) {
    await refused(api.http.post("/runs/crons", { assistant_id: "plain", schedule }), 422, "schedule");
  }
});

behaviour("crons.create.no-schedule", async ({ api }) => {
  await refused(api.http.post("/runs/crons", { assistant_id: "plain" }), 422, "schedule");
});

behaviour("crons.create.no-assistant", async ({ api }) => {
  await refused(api.http.post("/runs/crons", { schedule: YEARLY }), 422, "assistant_id");
});

behaviour("crons.create.unknown-assistant", async ({ api }) => {
  await refused(
    api.http.post("/runs/crons", { schedule: YEARLY, assistant_id: "no-such-graph" }),
    404,
    "no-such-graph",
  );
});

behaviour("crons.create.disabled", async ({ api }) => {
  expect(await api.cron({ enabled: false })).toMatchObject({ enabled: false });
});

behaviour("crons.create.bad-end-time", async ({ api }) => {
  const body = { assistant_id: "plain", schedule: YEARLY, end_time: "tomorrow" };
  await refused(api.http.post("/runs/crons", body), 422, "end_time");
});

behaviour("crons.create.unknown-fields", async ({ api }) => {
  expect(await api.cron({ whatever: 1 })).toMatchObject({ schedule: YEARLY });
});

behaviour("crons.on-thread", async ({ api }) => {
  const thread_id = await api.thread();
  const body = { assistant_id: "plain", schedule: YEARLY };
  expect(await api.post(`/threads/${thread_id}/runs/crons`, body)).toMatchObject({ thread_id, enabled: true });
});

behaviour("crons.on-thread.unknown-thread", async ({ api }) => {
  const body = { assistant_id: "plain", schedule: YEARLY };
  await refused(api.http.post(`/threads/${NOBODY}/runs/crons`, body), 404, NOBODY);
});

behaviour("crons.on-thread.goes-with-thread", async ({ api }) => {
  const thread_id = await api.thread();
  const { cron_id } = await api.post(`/threads/${thread_id}/runs/crons`, { assistant_id: "plain", schedule: YEARLY });
  await api.delete(`/threads/${thread_id}`);
  await refused(api.http.get(`/runs/crons/${cron_id}`), 404);
});

behaviour("crons.get", async ({ api }) => {
  const cron = await api.cron({ input: { value: 1 } });
  expect(await api.get(`/runs/crons/${cron.cron_id}`)).toEqual(cron);
});

behaviour("crons.get.unknown", async ({ api }) => {
  await refused(api.http.get(`/runs/crons/${NOBODY}`), 404, NOBODY);
});

behaviour("crons.get.bad-id", async ({ api }) => {
  await refused(api.http.get("/runs/crons/nightly"), 422, "cron_id");
});

behaviour("crons.patch.schedule", async ({ api }) => {
  const { cron_id } = await api.cron();
  const cron = await api.patch(`/runs/crons/${cron_id}`, { schedule: "15 6 * * *" });
  expect(cron.schedule).toBe("15 6 * * *");
  expect(new Date(cron.next_run_date).toISOString()).toContain("T06:15:00");
});

behaviour("crons.patch.metadata", async ({ api }) => {
  const { cron_id } = await api.cron({ metadata: { a: 1, b: 1 } });
  expect((await api.patch(`/runs/crons/${cron_id}`, { metadata: { b: 2 } })).metadata).toEqual({ a: 1, b: 2 });
});

behaviour("crons.patch.end-time", async ({ api }) => {
  const end_time = "2031-01-01T00:00:00.000Z";
  const { cron_id } = await api.cron({ end_time });
  const kept = await api.patch(`/runs/crons/${cron_id}`, { metadata: {} });
  expect(new Date(kept.end_time).toISOString()).toBe(end_time);
  expect(await api.patch(`/runs/crons/${cron_id}`, { end_time: null })).toMatchObject({ end_time: null });
});

behaviour("crons.patch.enabled", async ({ api }) => {
  const { cron_id } = await api.cron();
  expect(await api.patch(`/runs/crons/${cron_id}`, { enabled: false })).toMatchObject({ enabled: false });
  expect(await api.get(`/runs/crons/${cron_id}`)).toMatchObject({ enabled: false });
});

behaviour("crons.patch.input", async ({ api }) => {
  const { cron_id } = await api.cron({ input: { value: 1 } });
  expect((await api.patch(`/runs/crons/${cron_id}`, { input: { value: 2 } })).payload).toMatchObject({
    input: { value: 2 },
  });
});

behaviour("crons.patch.bad-schedule", async ({ api }) => {
  const { cron_id } = await api.cron();
  await refused(api.http.patch(`/runs/crons/${cron_id}`, { schedule: "never" }), 422, "schedule");
  expect(await api.get(`/runs/crons/${cron_id}`)).toMatchObject({ schedule: YEARLY });
});

behaviour("crons.patch.unknown", async ({ api }) => {
  await refused(api.http.patch(`/runs/crons/${NOBODY}`, { enabled: false }), 404, NOBODY);
});

behaviour("crons.delete", async ({ api }) => {
  const { cron_id } = await api.cron();
  const answer = await api.http.delete(`/runs/crons/${cron_id}`);
  expect([answer.status, answer.body]).toEqual([200, expect.anything()]);
  await refused(api.http.get(`/runs/crons/${cron_id}`), 404);
});

behaviour("crons.delete.unknown", async ({ api }) => {
  await refused(api.http.delete(`/runs/crons/${NOBODY}`), 404, NOBODY);
});

behaviour("crons.search.metadata", async ({ api }) => {
  const mark = api.mark();
  const { cron_id } = await api.cron({ metadata: { mark, n: 1 } });
  await api.cron({ metadata: { mark, n: 2 } });
  expect(ids(await api.post("/runs/crons/search", { metadata: { mark, n: 1 } }), "cron_id")).toEqual([cron_id]);
});

behaviour("crons.search.filters", async ({ api }) => {
  const mark = api.mark();
  const thread_id = await api.thread();
  const { assistant_id } = await api.assistant();
  const off = await api.cron({ enabled: false, metadata: { mark } });
  const theirs = await api.cron({ assistant_id, metadata: { mark } });
  const body = { assistant_id: "plain", schedule: YEARLY, metadata: { mark } };
  const on = await api.post(`/threads/${thread_id}/runs/crons`, body);
  const search = async (filter: Any) =>
    ids(await api.post("/runs/crons/search", { metadata: { mark }, ...filter }), "cron_id");
  expect(await search({ enabled: false })).toEqual([off.cron_id]);
  expect(await search({ assistant_id })).toEqual([theirs.cron_id]);
  expect(await search({ thread_id })).toEqual([on.cron_id]);
});

behaviour("crons.search.newest-first", async ({ api }) => {
  const mark = api.mark();
  const made = [await api.cron({ metadata: { mark } }), await api.cron({ metadata: { mark } })];
  expect(ids(await api.post("/runs/crons/search", { metadata: { mark } }), "cron_id")).toEqual(
    ids(made, "cron_id").reverse(),
  );
});

behaviour("crons.search.sort", async ({ api }) => {
  const mark = api.mark();
  for (const schedule of ["0 0 1 6 *", "0 0 1 3 *"]) await api.cron({ schedule, metadata: { mark } });
  const found = await api.post("/runs/crons/search", {
    metadata: { mark },
    sort_by: "next_run_date",
    sort_order: "asc",
  });
  const dates = found.map(({ next_run_date }: Any) => Date.parse(next_run_date));
  expect(dates).toEqual([...dates].sort((a, b) => a - b));
});

behaviour("crons.search.bad-sort", async ({ api }) => {
  await refused(api.http.post("/runs/crons/search", { sort_by: "payload" }), 422, "sort_by");
});

behaviour("crons.search.page", async ({ api }) => {
  const mark = api.mark();
  for (const n of [1, 2, 3]) await api.cron({ metadata: { mark, n } });
  const answer = await api.http.post("/runs/crons/search", { metadata: { mark }, limit: 2, sort_order: "asc" });
  expect(answer.body.map(({ metadata }: Any) => metadata.n)).toEqual([1, 2]);
  expect([answer.headers.get("x-pagination-total"), answer.headers.get("x-pagination-next")]).toEqual(["3", "2"]);
});

behaviour("crons.search.limits", async ({ api }) => {
  for (const limit of [0, 1001]) await refused(api.http.post("/runs/crons/search", { limit }), 422, "limit");
});

behaviour("crons.search.select", async ({ api }) => {
  const mark = api.mark();
  await api.cron({ metadata: { mark }, timezone: "UTC" });
  const found = await api.post("/runs/crons/search", {
    metadata: { mark },
    select: ["schedule", "timezone", "on_run_completed"],
  });
  expect(found).toEqual([{ schedule: YEARLY, timezone: "UTC", on_run_completed: "delete" }]);
});

behaviour("crons.count", async ({ api }) => {
  const mark = api.mark();
  await api.cron({ metadata: { mark } });
  await api.cron({ metadata: { mark } });
  expect(await api.post("/runs/crons/count", { metadata: { mark } })).toBe(2);
});

behaviour("crons.count.bad-thread", async ({ api }) => {
  await refused(api.http.post("/runs/crons/count", { thread_id: "x" }), 422, "thread_id");
});

/* ----------------------------------------------------------------------------------- firing */

/** Six fields: every second. */
const ALWAYS = "* * * * * *";

behaviour("crons.fires", async ({ api }) => {
  const mark = api.mark();
  const cron = await api.cron({ schedule: ALWAYS, input: { value: 1 }, metadata: { mark }, on_run_completed: "keep" });
  const threads = () => api.post("/threads/search", { metadata: { cron_id: cron.cron_id } });
  await eventually(async () => (await threads()).length > 0);
  await api.delete(`/runs/crons/${cron.cron_id}`);
  const [thread] = await threads();
  const [run] = await api.get(`/threads/${thread.thread_id}/runs`);
  expect(run.metadata).toMatchObject({ cron_id: cron.cron_id, mark });
  expect(await api.get(`/threads/${thread.thread_id}/runs/${run.run_id}/join`)).toMatchObject({ value: 4 });
});

behaviour("crons.fires.on-thread", async ({ api }) => {
  const thread_id = await api.thread();
  const body = { assistant_id: "plain", schedule: ALWAYS, input: { value: 1 } };
  const { cron_id } = await api.post(`/threads/${thread_id}/runs/crons`, body);
  await eventually(async () => (await api.get(`/threads/${thread_id}/runs`)).length > 0);
  await api.delete(`/runs/crons/${cron_id}`);
  expect((await api.get(`/threads/${thread_id}/runs`))[0].metadata).toMatchObject({ cron_id });
});

behaviour("crons.fires.not-when-disabled", async ({ api }) => {
  const [off, on] = [await api.thread(), await api.thread()];
  const body = { assistant_id: "plain", schedule: ALWAYS, input: {} };
  await api.post(`/threads/${off}/runs/crons`, { ...body, enabled: false });
  const { cron_id } = await api.post(`/threads/${on}/runs/crons`, body);
  await eventually(async () => (await api.get(`/threads/${on}/runs`)).length >= 2);
  await api.delete(`/runs/crons/${cron_id}`);
  expect(await api.get(`/threads/${off}/runs`)).toEqual([]);
});

behaviour("crons.fires.not-after-end", async ({ api }) => {
  const [over, on] = [await api.thread(), await api.thread()];
  const body = { assistant_id: "plain", schedule: ALWAYS, input: {} };
  const { cron_id: past } = await api.post(`/threads/${over}/runs/crons`, { ...body, enabled: false });
  await api.patch(`/runs/crons/${past}`, { end_time: new Date(Date.now() - 60_000).toISOString(), enabled: true });
  const { cron_id } = await api.post(`/threads/${on}/runs/crons`, body);
  await eventually(async () => (await api.get(`/threads/${on}/runs`)).length >= 2);
  await api.delete(`/runs/crons/${cron_id}`);
  expect(await api.get(`/threads/${over}/runs`)).toEqual([]);
});
