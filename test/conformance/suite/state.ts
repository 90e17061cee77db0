import { expect } from "vitest";
import { type Any, behaviour, NOBODY, refused } from "../kit.ts";

/* ------------------------------------------------------------------------------------ read */

behaviour("state.get", async ({ api }) => {
  const thread_id = await api.ranPlain();
  const state = await api.state(thread_id);
  expect(state).toMatchObject({
    values: { value: 4, steps: ["first", "second"] },
    next: [],
    tasks: [],
    checkpoint: { thread_id, checkpoint_ns: "", checkpoint_id: expect.any(String) },
    parent_checkpoint: { checkpoint_id: expect.any(String) },
    created_at: expect.any(String),
    interrupts: [],
  });
});

behaviour("state.get.metadata", async ({ api }) => {
  const place = await api.start("plain", { value: 1 }, { config: { configurable: { mine: "yes" } } });
  await api.get(`${place.path}/join`);
  const { metadata } = await api.state(place.thread_id);
  const { assistant_id } = await api.get("/assistants/plain");
  const { thread_id, run_id } = place;
  expect(metadata).toMatchObject({
    source: "loop",
    step: 2,
    run_id,
    thread_id,
    graph_id: "plain",
    assistant_id,
    mine: "yes",
  });
  expect(Object.keys(metadata).filter((key) => /^langgraph_(auth|request)/.test(key))).toEqual([]);
});

behaviour("state.get.flat-ids", async ({ api }) => {
  const state = await api.state(await api.ranPlain());
  expect(state.checkpoint_id).toBe(state.checkpoint.checkpoint_id);
  expect(state.parent_checkpoint_id).toBe(state.parent_checkpoint.checkpoint_id);
});

behaviour("state.get.fresh", async ({ api }) => {
  const state = await api.state(await api.thread());
  expect(state).toMatchObject({ next: [], tasks: [], checkpoint: null });
});

behaviour("state.get.unknown-thread", async ({ api }) => {
  await refused(api.http.get(`/threads/${NOBODY}/state`), 404, NOBODY);
});

behaviour("state.get.interrupt", async ({ api }) => {
  const state = await api.state(await api.asked());
  expect(state.next).toEqual(["ask"]);
  expect(state.tasks).toMatchObject([{ name: "ask", interrupts: [{ value: { ask: "person", question: "Sure?" } }] }]);
  expect(state.interrupts).toMatchObject([{ id: expect.any(String), value: { ask: "person" } }]);
});

behaviour("state.get.error-task", async ({ api }) => {
  const thread_id = await api.thread();
  await api.runOn(thread_id, "error");
  const state = await api.state(thread_id);
  expect(state).toMatchObject({
    next: ["fails"],
    tasks: [{ name: "fails", error: expect.stringContaining("kaboom") }],
  });
});

behaviour("state.get.subgraphs", async ({ api }) => {
  const thread_id = await api.thread();
  await api.runOn(thread_id, "nested", { ask: true });
  const [task] = (await api.get(`/threads/${thread_id}/state?subgraphs=true`)).tasks;
  expect(task).toMatchObject({ name: "middle", state: { next: ["inner"], values: { trail: expect.any(Array) } } });
});

behaviour("state.get.subgraphs-off", async ({ api }) => {
  const thread_id = await api.thread();
  await api.runOn(thread_id, "nested", { ask: true });
  const [task] = (await api.state(thread_id)).tasks;
  expect(task.state?.values).toBeUndefined();
});

behaviour("state.at", async ({ api }) => {
  const thread_id = await api.ranPlain();
  for (const { checkpoint, values, next } of await api.history(thread_id)) {
    const state = await api.get(`/threads/${thread_id}/state/${checkpoint.checkpoint_id}`);
    expect(state).toMatchObject({ values, next, checkpoint });
  }
});

behaviour("state.at.unknown", async ({ api }) => {
  await refused(api.http.get(`/threads/${await api.ranPlain()}/state/${NOBODY}`), 404, NOBODY);
});

behaviour("state.at-checkpoint.object", async ({ api }) => {
  const thread_id = await api.ranPlain();
  const [, { checkpoint, values }] = (await api.history(thread_id)) as Any;
  expect(await api.post(`/threads/${thread_id}/state/checkpoint`, { checkpoint })).toMatchObject({
    values,
    checkpoint,
  });
});

behaviour("state.at-checkpoint.namespace", async ({ api }) => {
  const thread_id = await api.thread();
  await api.runOn(thread_id, "nested", { ask: true });
  const [task] = (await api.get(`/threads/${thread_id}/state?subgraphs=true`)).tasks;
  const { checkpoint } = task.state;
  const state = await api.post(`/threads/${thread_id}/state/checkpoint`, { checkpoint, subgraphs: true });
  expect(state).toMatchObject({ next: ["inner"], values: task.state.values });
});

behaviour("state.at-checkpoint.required", async ({ api }) => {
  await refused(api.http.post(`/threads/${await api.thread()}/state/checkpoint`, {}), 422, "checkpoint");
});

behaviour("state.at-checkpoint.nulls", async ({ api }) => {
  const thread_id = await api.ranPlain();
  const { checkpoint_id } = (await api.state(thread_id)).checkpoint;
  const checkpoint = { checkpoint_id, checkpoint_ns: null, checkpoint_map: null, thread_id: null };
  expect(await api.post(`/threads/${thread_id}/state/checkpoint`, { checkpoint })).toMatchObject({
    values: { value: 4 },
  });
});

/* ---------------------------------------------------------------------------------- update */

behaviour("state.update", async ({ api }) => {
  const thread_id = await api.ranPlain();
  const before = await api.state(thread_id);
  await api.post(`/threads/${thread_id}/state`, { values: { value: 50 }, as_node: "first" });
  const after = await api.state(thread_id);
  expect(after).toMatchObject({ values: { value: 50 }, next: ["second"], metadata: { source: "update" } });
  expect(after.parent_checkpoint.checkpoint_id).toBe(before.checkpoint.checkpoint_id);
});

behaviour("state.update.answer", async ({ api }) => {
  const thread_id = await api.ranPlain();
  const answer = await api.post(`/threads/${thread_id}/state`, { values: { value: 50 } });
  const { checkpoint_id } = (await api.state(thread_id)).checkpoint;
  expect(answer).toMatchObject({
    checkpoint: { thread_id, checkpoint_id },
    checkpoint_id,
    configurable: { thread_id, checkpoint_id },
  });
});

behaviour("state.update.thread-values", async ({ api }) => {
  const thread_id = await api.ranPlain();
  await api.post(`/threads/${thread_id}/state`, { values: { value: 50 } });
  expect((await api.get(`/threads/${thread_id}`)).values).toMatchObject({ value: 50 });
});

behaviour("state.update.infers-node", async ({ api }) => {
  const thread_id = await api.ranPlain();
  await api.post(`/threads/${thread_id}/state`, { values: { value: 50 } });
  expect(await api.state(thread_id)).toMatchObject({ values: { value: 50 }, next: [] });
});

behaviour("state.update.reducer", async ({ api }) => {
  const thread_id = await api.ranPlain();
  await api.post(`/threads/${thread_id}/state`, { values: { steps: ["by hand"] }, as_node: "second" });
  expect((await api.state(thread_id)).values.steps).toEqual(["first", "second", "by hand"]);
});

behaviour("state.update.null-values", async ({ api }) => {
  const thread_id = await api.asked();
  await api.post(`/threads/${thread_id}/state`, { values: null, as_node: "ask" });
  expect(await api.state(thread_id)).toMatchObject({ next: ["finish"] });
});

behaviour("state.update.continue", async ({ api }) => {
  const thread_id = await api.ranPlain();
  await api.post(`/threads/${thread_id}/state`, { values: { value: 50 }, as_node: "first" });
  expect(await api.runOn(thread_id, "plain", null)).toMatchObject({ value: 100 });
});

behaviour("state.update.at-checkpoint", async ({ api }) => {
  const thread_id = await api.ranPlain();
  const [latest, , { checkpoint }] = (await api.history(thread_id)) as Any;
  await api.post(`/threads/${thread_id}/state`, { values: { value: 7 }, checkpoint, as_node: "first" });
  const after = await api.state(thread_id);
  expect(after.parent_checkpoint.checkpoint_id).toBe(checkpoint.checkpoint_id);
  expect(after.checkpoint.checkpoint_id > latest.checkpoint.checkpoint_id).toBe(true);
});

behaviour("state.update.checkpoint-id", async ({ api }) => {
  const thread_id = await api.ranPlain();
  const [, { checkpoint }] = (await api.history(thread_id)) as Any;
  await api.post(`/threads/${thread_id}/state`, {
    values: { value: 7 },
    checkpoint_id: checkpoint.checkpoint_id,
    as_node: "first",
  });
  expect((await api.state(thread_id)).parent_checkpoint.checkpoint_id).toBe(checkpoint.checkpoint_id);
});

behaviour("state.update.keeps-history", async ({ api }) => {
  const thread_id = await api.ranPlain();
  const before = await api.history(thread_id);
  await api.post(`/threads/${thread_id}/state`, { values: { value: 50 } });
  expect((await api.history(thread_id)).slice(1).map(({ values }) => values)).toEqual(
    before.map(({ values }) => values),
  );
});

behaviour("state.update.unknown-node", async ({ api }) => {
  const thread_id = await api.ranPlain();
  await refused(
    api.http.post(`/threads/${thread_id}/state`, { values: { value: 1 }, as_node: "nobody" }),
    422,
    "nobody",
  );
  expect(await api.state(thread_id)).toMatchObject({ values: { value: 4 } });
});

behaviour("state.update.unknown-thread", async ({ api }) => {
  await refused(api.http.post(`/threads/${NOBODY}/state`, { values: {} }), 404, NOBODY);
});

behaviour("state.update.no-graph", async ({ api }) => {
  await refused(api.http.post(`/threads/${await api.thread()}/state`, { values: { a: 1 } }), 422);
});

behaviour("state.update.fresh-thread", async ({ api }) => {
  const thread_id = await api.thread({ metadata: { graph_id: "plain" } });
  await api.post(`/threads/${thread_id}/state`, { values: { value: 3 }, as_node: "first" });
  expect(await api.runOn(thread_id, "plain", null)).toMatchObject({ value: 6 });
});

behaviour("state.update.bad-values", async ({ api }) => {
  await refused(api.http.post(`/threads/${await api.ranPlain()}/state`, { values: "x" }), 422, "values");
});

behaviour("state.update.unknown-checkpoint", async ({ api }) => {
  const thread_id = await api.ranPlain();
  const body = { values: { value: 1 }, checkpoint: { checkpoint_id: NOBODY } };
  await refused(api.http.post(`/threads/${thread_id}/state`, body), 404, NOBODY);
});

/* --------------------------------------------------------------------------------- history */

behaviour("history.newest-first", async ({ api }) => {
  const steps = (await api.history(await api.ranPlain())).map(({ metadata }) => metadata.step);
  expect(steps).toEqual([2, 1, 0, -1]);
});

behaviour("history.get.limit-default", async ({ api }) => {
  const thread_id = await api.thread();
  await api.runOn(thread_id, "counter", { steps: 12 });
  expect(await api.get(`/threads/${thread_id}/history`)).toHaveLength(10);
});

behaviour("history.get.limit", async ({ api }) => {
  expect(await api.get(`/threads/${await api.ranPlain()}/history?limit=2`)).toHaveLength(2);
});

behaviour("history.get.before", async ({ api }) => {
  const thread_id = await api.ranPlain();
  const [, second, third] = (await api.history(thread_id)) as Any;
  const before = second.checkpoint.checkpoint_id;
  const [found] = await api.get(`/threads/${thread_id}/history?before=${before}&limit=1`);
  expect(found.checkpoint).toEqual(third.checkpoint);
});

behaviour("history.get.bad-limit", async ({ api }) => {
  await refused(api.http.get(`/threads/${await api.thread()}/history?limit=-3`), 422, "limit");
});

behaviour("history.get.unknown-thread", async ({ api }) => {
  await refused(api.http.get(`/threads/${NOBODY}/history`), 404, NOBODY);
});

behaviour("history.post.limit-default", async ({ api }) => {
  expect(await api.post(`/threads/${await api.ranPlain()}/history`, {})).toHaveLength(1);
});

behaviour("history.post.before", async ({ api }) => {
  const thread_id = await api.ranPlain();
  const [, { checkpoint }, third] = (await api.history(thread_id)) as Any;
  const [found] = await api.post(`/threads/${thread_id}/history`, { before: checkpoint });
  expect(found.checkpoint).toEqual(third.checkpoint);
});

behaviour("history.post.metadata", async ({ api }) => {
  const found = await api.post(`/threads/${await api.ranPlain()}/history`, {
    metadata: { source: "input" },
    limit: 10,
  });
  expect(found.map(({ metadata }: Any) => metadata.step)).toEqual([-1]);
});

behaviour("history.post.namespace", async ({ api }) => {
  const thread_id = await api.thread();
  await api.runOn(thread_id, "nested", { ask: true });
  const [task] = (await api.get(`/threads/${thread_id}/state?subgraphs=true`)).tasks;
  const { checkpoint_ns } = task.state.checkpoint;
  const found = await api.post(`/threads/${thread_id}/history`, { checkpoint: { checkpoint_ns }, limit: 10 });
  expect(found.length).toBeGreaterThan(0);
  for (const { checkpoint } of found) expect(checkpoint.checkpoint_ns).toBe(checkpoint_ns);
});

behaviour("history.post.limits", async ({ api }) => {
  const thread_id = await api.thread();
  for (const limit of [0, 1001]) await refused(api.http.post(`/threads/${thread_id}/history`, { limit }), 422, "limit");
});

behaviour("history.post.fresh", async ({ api }) => {
  expect(await api.post(`/threads/${await api.thread()}/history`, { limit: 10 })).toEqual([]);
});

behaviour("history.post.tasks", async ({ api }) => {
  const [, , before] = (await api.history(await api.ranPlain())) as Any;
  expect(before).toMatchObject({ next: ["first"], tasks: [{ name: "first" }] });
});
