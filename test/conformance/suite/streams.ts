/** Streams of runs and threads. */
import { expect } from "vitest";
import { type Any, behaviour, eventually, ids, json, NOBODY, names, of, refused } from "../kit.ts";

const HELLO = { messages: [{ role: "user", content: "hello world" }] };

behaviour("stream.metadata-first", async ({ api }) => {
  const [first] = await api.stream("plain", {});
  expect(first?.event).toBe("metadata");
  expect(json(first)).toMatchObject({ run_id: expect.any(String), attempt: 1 });
});

behaviour("stream.default-mode", async ({ api }) => {
  expect(new Set(names(await api.stream("plain", {})))).toEqual(new Set(["metadata", "values"]));
});

behaviour("stream.values", async ({ api }) => {
  const values = of(await api.stream("plain", { value: 1 }, { stream_mode: "values" }), "values");
  expect(values.map(({ value }) => value)).toEqual([1, 2, 4]);
});

behaviour("stream.updates", async ({ api }) => {
  const updates = of(await api.stream("plain", { value: 1 }, { stream_mode: "updates" }), "updates");
  expect(updates).toEqual([{ first: { value: 2, steps: ["first"] } }, { second: { value: 4, steps: ["second"] } }]);
});

behaviour("stream.updates.parallel", async ({ api }) => {
  const updates = of(await api.stream("route", { items: ["a", "b"] }, { stream_mode: "updates" }), "updates");
  expect(updates.filter((update) => "work" in update)).toHaveLength(2);
});

behaviour("stream.custom", async ({ api }) => {
  const custom = of(await api.stream("plain", {}, { stream_mode: "custom" }), "custom");
  expect(custom).toEqual([{ progress: 1 }, { progress: 2 }]);
});

behaviour("stream.messages-tuple", async ({ api }) => {
  const tuples = of(await api.stream("chat", HELLO, { stream_mode: "messages-tuple" }), "messages");
  const text = tuples.map(([chunk]) => chunk.content).join("");
  expect(text).toBe("You said: hello world");
  expect(tuples.length).toBeGreaterThan(1);
  for (const [, metadata] of tuples) expect(metadata).toMatchObject({ langgraph_node: "answer" });
});

behaviour("stream.messages-tuple.tool-calls", async ({ api }) => {
  const frames = await api.stream("agent", HELLO, { stream_mode: "messages-tuple" });
  const chunks = of(frames, "messages").flatMap(([chunk]) => chunk.tool_call_chunks ?? []);
  expect(chunks.length).toBeGreaterThan(0);
  for (const chunk of chunks) expect(chunk).toHaveProperty("args");
  expect(chunks.some((chunk: Any) => "args_json" in chunk)).toBe(false);
});

behaviour("stream.messages", async ({ api }) => {
  const frames = await api.stream("chat", HELLO, { stream_mode: "messages" });
  expect(names(frames)).toEqual(expect.arrayContaining(["messages/metadata", "messages/partial"]));
  const last = of(frames, "messages/partial").at(-1);
  expect(last).toMatchObject([{ type: "ai", content: "You said: hello world" }]);
});

behaviour("stream.tasks", async ({ api }) => {
  const tasks = of(await api.stream("plain", { value: 1 }, { stream_mode: "tasks" }), "tasks");
  expect(tasks).toHaveLength(4);
  expect(tasks[0]).toMatchObject({ id: expect.any(String), name: "first", triggers: expect.any(Array) });
  expect(tasks[1]).toMatchObject({ id: tasks[0].id, name: "first" });
});

behaviour("stream.checkpoints", async ({ api }) => {
  const checkpoints = of(await api.stream("plain", { value: 1 }, { stream_mode: "checkpoints" }), "checkpoints");
  expect(checkpoints.at(-1)).toMatchObject({ values: { value: 4 }, next: [], metadata: { step: 2 } });
});

behaviour("stream.debug", async ({ api }) => {
  const debug = of(await api.stream("plain", { value: 1 }, { stream_mode: "debug" }), "debug");
  expect(new Set(debug.map(({ type }) => type))).toEqual(new Set(["checkpoint", "task", "task_result"]));
});

behaviour("stream.events", async ({ api }) => {
  const events = of(await api.stream("chat", HELLO, { stream_mode: "events" }), "events");
  expect(events.map(({ event }) => event)).toEqual(
    expect.arrayContaining(["on_chain_start", "on_chat_model_stream", "on_chain_end"]),
  );
});

behaviour("stream.tools", async ({ api }) => {
  const tools = of(await api.stream("agent", HELLO, { stream_mode: "tools" }), "tools");
  expect(tools.map(({ event }) => event)).toEqual(expect.arrayContaining(["on_tool_start", "on_tool_end"]));
});

behaviour("stream.several-modes", async ({ api }) => {
  const frames = await api.stream("plain", {}, { stream_mode: ["values", "updates", "custom"] });
  expect(new Set(names(frames))).toEqual(new Set(["metadata", "values", "updates", "custom"]));
});

behaviour("stream.unknown-mode", async ({ api }) => {
  await refused(
    api.http.post("/runs/stream", { assistant_id: "plain", stream_mode: ["values", "all"] }),
    422,
    "stream_mode.1",
  );
});

behaviour("stream.subgraphs", async ({ api }) => {
  const frames = await api.stream("nested", {}, { stream_mode: "updates", stream_subgraphs: true });
  expect(names(frames).some((name) => /^updates\|middle:[^|]+$/.test(name ?? ""))).toBe(true);
  expect(names(frames).some((name) => /^updates\|middle:[^|]+\|inner:[^|]+$/.test(name ?? ""))).toBe(true);
});

behaviour("stream.subgraphs.off", async ({ api }) => {
  const frames = await api.stream("nested", {}, { stream_mode: "updates" });
  expect(names(frames).filter((name) => name?.includes("|"))).toEqual([]);
});

behaviour("stream.subgraphs.custom", async ({ api }) => {
  const frames = await api.stream("nested", {}, { stream_mode: "custom", stream_subgraphs: true });
  const [custom] = frames.filter(({ event }) => event?.startsWith("custom"));
  expect(json(custom)).toEqual({ from: "deep" });
});

behaviour("stream.interrupt", async ({ api }) => {
  const frames = await api.stream("hitl", { question: "Sure?" }, { stream_mode: "updates" });
  expect(of(frames, "updates").at(-1)).toMatchObject({ __interrupt__: [{ value: { ask: "person" } }] });
});

behaviour("stream.interrupt.parallel", async ({ api }) => {
  const frames = await api.stream("hitl2", {}, { stream_mode: "values" });
  const asked = of(frames, "values").flatMap((value) => value.__interrupt__ ?? []);
  expect(asked.map(({ value }: Any) => value.ask).sort()).toEqual(["left", "right"]);
});

behaviour("stream.error", async ({ api }) => {
  const frames = await api.stream("error", {}, { stream_mode: "updates" });
  expect(frames.at(-1)?.event).toBe("error");
  expect(json(frames.at(-1))).toEqual({ error: "TypeError", message: "kaboom" });
});

behaviour("stream.no-end-frame", async ({ api }) => {
  await using stream = await api.open("/runs/stream", { body: { assistant_id: "plain", input: {} } });
  expect(names(await stream.rest())).not.toContain("end");
  expect(stream.complete).toBe(true);
});

behaviour("stream.ids", async ({ api }) => {
  const frames = await api.stream("plain", { value: 1 });
  expect(frames.map(({ id }) => id)).toEqual(frames.map((_, index) => String(index)));
});

behaviour("stream.location", async ({ api }) => {
  const thread_id = await api.thread();
  await using stream = await api.open(`/threads/${thread_id}/runs/stream`, {
    body: { assistant_id: "plain", input: {} },
  });
  expect(stream.headers["content-location"]).toMatch(new RegExp(`^/threads/${thread_id}/runs/[0-9a-f-]{36}$`));
  expect(stream.headers.location).toBe(`${stream.headers["content-location"]}/stream`);
});

behaviour("stream.unknown-thread", async ({ api }) => {
  await refused(api.http.post(`/threads/${NOBODY}/runs/stream`, { assistant_id: "plain" }), 404, NOBODY);
});

behaviour("stream.plain-messages", async ({ api }) => {
  const frames = await api.stream("chat", HELLO, { stream_mode: ["values", "updates"] });
  expect(frames.map(({ data }) => data).join("")).not.toContain('"lc":1');
  expect(
    of(frames, "values")
      .at(-1)
      .messages.map(({ type }: Any) => type),
  ).toEqual(["human", "ai"]);
});

behaviour("stream.heartbeat", async ({ api }) => {
  const body = { assistant_id: "plain", input: {}, after_seconds: 600, on_disconnect: "cancel" };
  const client = new AbortController();
  const answer = await api.raw("/runs/stream", { method: "POST", body: JSON.stringify(body), signal: client.signal });
  const first = await answer.body?.getReader().read();
  client.abort();
  expect(new TextDecoder().decode(first?.value)).toBe(": heartbeat\n");
});

behaviour("stream.disconnect-continues", async ({ api }) => {
  const thread_id = await api.thread();
  const body = { assistant_id: "counter", input: { steps: 5, delay_ms: 60 } };
  const stream = await api.open(`/threads/${thread_id}/runs/stream`, { body });
  await stream.next();
  stream.close();
  await eventually(async () => (await api.get(`/threads/${thread_id}/runs`))[0]?.status === "success");
});

behaviour("stream.disconnect-cancels", async ({ api }) => {
  const thread_id = await api.thread();
  const body = { assistant_id: "slow", input: { delay_ms: 300_000 }, on_disconnect: "cancel" };
  const stream = await api.open(`/threads/${thread_id}/runs/stream`, { body });
  await stream.next();
  stream.close();
  await eventually(async () => (await api.get(`/threads/${thread_id}/runs`))[0]?.status === "interrupted");
});

/* ------------------------------------------------------------------------------------ join */

behaviour("join-stream.live", async ({ api }) => {
  const place = await api.start("counter", { steps: 5, delay_ms: 50 }, { stream_mode: "updates" });
  const frames = await api.frames(`${place.path}/stream`);
  expect(of(frames, "updates").at(-1)).toEqual({ tick: { count: 5 } });
});

const resumable = async (api: Any): Promise<Any> => {
  const place = await api.start("plain", { value: 1 }, { stream_mode: ["values", "updates"], stream_resumable: true });
  await api.get(`${place.path}/join`);
  return place;
};

behaviour("join-stream.resumable", async ({ api }) => {
  const { path } = await resumable(api);
  const frames = await api.frames(`${path}/stream`, { lastEventId: "-1" });
  expect(names(frames)[0]).toBe("metadata");
  expect(of(frames, "values").at(-1)).toMatchObject({ value: 4 });
});

behaviour("join-stream.last-event-id", async ({ api }) => {
  const { path } = await resumable(api);
  const all = await api.frames(`${path}/stream`, { lastEventId: "-1" });
  const rest = await api.frames(`${path}/stream`, { lastEventId: String(all[2]?.id) });
  expect(rest.map(({ id }) => id)).toEqual(all.slice(3).map(({ id }) => id));
});

behaviour("join-stream.two-readers", async ({ api }) => {
  const place = await api.start(
    "counter",
    { steps: 6, delay_ms: 30 },
    { stream_mode: "updates", stream_resumable: true },
  );
  const read = () => api.frames(`${place.path}/stream`, { lastEventId: "-1" });
  const [one, two] = await Promise.all([read(), read()]);
  expect(one.map(({ raw }) => raw)).toEqual(two.map(({ raw }) => raw));
});

behaviour("join-stream.mode", async ({ api }) => {
  const { path } = await resumable(api);
  const frames = await api.frames(`${path}/stream?stream_mode=updates`, { lastEventId: "-1" });
  expect(new Set(names(frames))).toEqual(new Set(["metadata", "updates"]));
});

behaviour("join-stream.mode-forms", async ({ api }) => {
  const { path } = await resumable(api);
  for (const query of [
    "stream_mode=values&stream_mode=updates",
    `stream_mode=${encodeURIComponent('["values","updates"]')}`,
  ]) {
    const frames = await api.frames(`${path}/stream?${query}`, { lastEventId: "-1" });
    expect(new Set(names(frames))).toEqual(new Set(["metadata", "values", "updates"]));
  }
});

behaviour("join-stream.mode-keeps-subgraphs", async ({ api }) => {
  const more = { stream_mode: ["values", "updates"], stream_subgraphs: true, stream_resumable: true };
  const place = await api.start("nested", {}, more);
  await api.get(`${place.path}/join`);
  const frames = await api.frames(`${place.path}/stream?stream_mode=updates`, { lastEventId: "-1" });
  expect(names(frames).some((name) => name?.startsWith("updates|middle"))).toBe(true);
});

behaviour("join-stream.unknown-mode", async ({ api }) => {
  const { path } = await api.start("plain");
  await refused(api.http.get(`${path}/stream?stream_mode=all`), 422, "stream_mode");
});

behaviour("join-stream.unknown", async ({ api }) => {
  await refused(api.http.get(`/threads/${await api.thread()}/runs/${NOBODY}/stream`), 404, NOBODY);
});

behaviour("join-stream.finished", async ({ api }) => {
  const place = await api.start("plain", { value: 1 });
  await api.get(`${place.path}/join`);
  const started = performance.now();
  await api.frames(`${place.path}/stream`);
  expect(performance.now() - started).toBeLessThan(3000);
});

behaviour("join-stream.cancel-on-disconnect", async ({ api }) => {
  const place = await api.start("slow", { delay_ms: 300_000 });
  const stream = await api.open(`${place.path}/stream?cancel_on_disconnect=true`);
  await stream.next();
  stream.close();
  await eventually(async () => (await api.get(place.path)).status === "interrupted");
});

/* -------------------------------------------------------------------------- thread streams */

behaviour("thread-stream.runs-in-sequence", async ({ api }) => {
  const thread_id = await api.thread();
  await using stream = await api.open(`/threads/${thread_id}/stream`);
  expect(stream.status).toBe(200);
  const one = await api.start("plain", { value: 1 }, { stream_mode: "updates" }, thread_id);
  const two = await api.start("plain", { value: 10 }, { stream_mode: "updates" }, thread_id);
  const frames = await stream.until(({ data }) => data?.includes('"value":22') ?? false);
  const starts = of(frames, "metadata").filter(({ attempt }) => attempt === 1);
  expect(ids(starts, "run_id")).toEqual([one.run_id, two.run_id]);
});

behaviour("thread-stream.state-update", async ({ api }) => {
  const thread_id = await api.thread();
  await using stream = await api.open(`/threads/${thread_id}/stream?stream_modes=state_update`);
  await api.start("plain", { value: 1 }, {}, thread_id);
  const frames = await stream.until(({ data }) => data?.includes('"value":4') ?? false);
  expect(names(frames)).not.toContain("values");
});

behaviour("thread-stream.lifecycle", async ({ api }) => {
  const thread_id = await api.thread();
  await using stream = await api.open(`/threads/${thread_id}/stream?stream_mode=lifecycle`);
  const { run_id } = await api.start("plain", { value: 1 }, {}, thread_id);
  const first = await stream.next();
  expect(first?.data).toContain(run_id);
  expect(first?.event).not.toBe("values");
});

behaviour("thread-stream.from-the-beginning", async ({ api }) => {
  const thread_id = await api.thread();
  await api.runOn(thread_id, "plain", { value: 1 }, { stream_resumable: true });
  await using stream = await api.open(`/threads/${thread_id}/stream`, { lastEventId: "-" });
  const frames = await stream.until(({ data }) => data?.includes('"value":4') ?? false);
  expect(frames.length).toBeGreaterThan(1);
});

behaviour("thread-stream.unknown-thread", async ({ api }) => {
  await refused(api.http.get(`/threads/${NOBODY}/stream`), 404, NOBODY);
});

behaviour("thread-stream.bad-mode", async ({ api }) => {
  await refused(api.http.get(`/threads/${await api.thread()}/stream?stream_modes=everything`), 422, "stream_mode");
});
