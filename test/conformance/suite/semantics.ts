/** Double texting, people in the loop, time travel, durability, prebuilt memory. */
import { expect } from "vitest";
import { type Any, behaviour, eventually, refused } from "../kit.ts";

/* -------------------------------------------------------------------------- double texting */

behaviour("multitask.enqueue", async ({ api }) => {
  const thread_id = await api.thread();
  await api.start("plain", { value: 1, steps: ["a"] }, {}, thread_id);
  const second = await api.start("plain", { value: 10, steps: ["b"] }, {}, thread_id);
  const output = await api.get(`${second.path}/join`);
  expect(output).toEqual({ value: 22, steps: ["a", "first", "second", "b", "first", "second"] });
});

behaviour("multitask.enqueue.one-at-a-time", async ({ api }) => {
  await using busy = await api.busy();
  await api.running(busy);
  const second = await api.start("plain", {}, {}, busy.thread_id);
  expect(await api.get(second.path)).toMatchObject({ status: "pending" });
});

behaviour("multitask.reject", async ({ api }) => {
  await using busy = await api.busy();
  const body = { assistant_id: "plain", multitask_strategy: "reject" };
  await refused(api.http.post(`/threads/${busy.thread_id}/runs`, body), 409);
  expect(await api.get(`/threads/${busy.thread_id}/runs`)).toHaveLength(1);
  expect(["pending", "running"]).toContain((await api.get(busy.path)).status);
});

behaviour("multitask.reject.idle", async ({ api }) => {
  const more = { multitask_strategy: "reject" };
  expect(await api.runOn(await api.ranPlain(), "plain", { value: 1 }, more)).toMatchObject({ value: 4 });
});

behaviour("multitask.interrupt", async ({ api }) => {
  const busy = await api.busy();
  await api.running(busy);
  const output = await api.runOn(busy.thread_id, "plain", { value: 1 }, { multitask_strategy: "interrupt" });
  expect(output).toMatchObject({ value: 4 });
  expect(await api.get(busy.path)).toMatchObject({ status: "interrupted" });
});

behaviour("multitask.interrupt.keeps-progress", async ({ api }) => {
  const thread_id = await api.ranPlain();
  const busy = await api.busy({}, thread_id);
  await api.running(busy);
  const output = await api.runOn(thread_id, "plain", { value: 1 }, { multitask_strategy: "interrupt" });
  expect(output.steps).toEqual(expect.arrayContaining(["first", "second", "first", "second"]));
});

behaviour("multitask.rollback", async ({ api }) => {
  const busy = await api.busy();
  await api.running(busy);
  const output = await api.runOn(busy.thread_id, "plain", { value: 1 }, { multitask_strategy: "rollback" });
  expect(output).toEqual({ value: 4, steps: ["first", "second"] });
  await refused(api.http.get(busy.path), 404);
});

behaviour("multitask.rollback.checkpoints", async ({ api }) => {
  const busy = await api.busy();
  await api.running(busy);
  await api.runOn(busy.thread_id, "plain", { value: 1 }, { multitask_strategy: "rollback" });
  const runs = new Set((await api.history(busy.thread_id)).map(({ metadata }) => metadata.run_id));
  expect(runs.has(busy.run_id)).toBe(false);
});

behaviour("multitask.default", async ({ api }) => {
  expect((await api.start("plain")).run.multitask_strategy).toBe("enqueue");
});

/* ----------------------------------------------------------------------- people in the loop */

behaviour("interrupts.resume", async ({ api }) => {
  const output = await api.runOn(await api.asked(), "hitl", null, { command: { resume: "yes" } });
  expect(output).toMatchObject({ answers: { person: "yes" }, done: "person" });
});

behaviour("interrupts.resume-any", async ({ api }) => {
  for (const resume of [false, 0, "", { ok: true }, [1, null]]) {
    const output = await api.runOn(await api.asked(), "hitl", null, { command: { resume } });
    expect(output).toMatchObject({ answers: { person: resume }, done: "person" });
  }
});

behaviour("interrupts.clears", async ({ api }) => {
  const thread_id = await api.asked();
  await api.runOn(thread_id, "hitl", null, { command: { resume: "yes" } });
  expect(await api.get(`/threads/${thread_id}`)).toMatchObject({ status: "idle", interrupts: {} });
});

behaviour("interrupts.parallel", async ({ api }) => {
  const thread_id = await api.thread();
  const { __interrupt__ } = await api.runOn(thread_id, "hitl2");
  expect(__interrupt__.map(({ value }: Any) => value.ask).sort()).toEqual(["left", "right"]);
  const resume = Object.fromEntries(__interrupt__.map(({ id, value }: Any) => [id, `from ${value.ask}`]));
  const output = await api.runOn(thread_id, "hitl2", null, { command: { resume } });
  expect(output.answers).toEqual({ left: "from left", right: "from right" });
});

behaviour("interrupts.resume-one-of-two", async ({ api }) => {
  const thread_id = await api.thread();
  const { __interrupt__ } = await api.runOn(thread_id, "hitl2");
  const [first, second] = __interrupt__;
  const output = await api.runOn(thread_id, "hitl2", null, { command: { resume: { [first.id]: "one" } } });
  expect(output.__interrupt__).toMatchObject([{ id: second.id }]);
});

behaviour("interrupts.map-of-null", async ({ api }) => {
  const thread_id = await api.asked();
  const { interrupts } = await api.state(thread_id);
  const output = await api.runOn(thread_id, "hitl", null, { command: { resume: { [interrupts[0].id]: null } } });
  expect(output).toMatchObject({ answers: { person: null }, done: "person" });
});

behaviour("interrupts.subgraph", async ({ api }) => {
  const thread_id = await api.thread();
  await api.runOn(thread_id, "nested", { ask: true });
  const output = await api.runOn(thread_id, "nested", null, { command: { resume: "deep yes" } });
  expect(output.trail).toEqual(expect.arrayContaining(["answer: deep yes", "last"]));
});

behaviour("interrupts.update-with-resume", async ({ api }) => {
  const command = { resume: "yes", update: { question: "changed" } };
  expect(await api.runOn(await api.asked(), "hitl", null, { command })).toMatchObject({
    question: "changed",
    done: "person",
  });
});

behaviour("interrupts.goto", async ({ api }) => {
  const output = await api.runOn(await api.asked(), "hitl", null, { command: { goto: "finish" } });
  expect(output).toHaveProperty("done");
});

behaviour("interrupts.goto-send", async ({ api }) => {
  const command = { goto: [{ node: "work", input: { item: "x" } }] };
  const thread_id = await api.thread();
  await api.runOn(thread_id, "route", { items: ["a"] });
  expect((await api.runOn(thread_id, "route", null, { command })).results).toContain("worked on x");
});

behaviour("interrupts.before", async ({ api }) => {
  const thread_id = await api.thread();
  await api.runOn(thread_id, "plain", { value: 1 }, { interrupt_before: ["second"] });
  expect(await api.state(thread_id)).toMatchObject({ values: { value: 2 }, next: ["second"] });
  expect(await api.get(`/threads/${thread_id}`)).toMatchObject({ status: "interrupted" });
  expect(await api.runOn(thread_id, "plain", null)).toMatchObject({ value: 4 });
});

behaviour("interrupts.after", async ({ api }) => {
  const thread_id = await api.thread();
  await api.runOn(thread_id, "plain", { value: 1 }, { interrupt_after: ["first"] });
  expect(await api.state(thread_id)).toMatchObject({ next: ["second"] });
});

behaviour("interrupts.star", async ({ api }) => {
  const thread_id = await api.thread();
  await api.runOn(thread_id, "plain", { value: 1 }, { interrupt_before: "*" });
  expect(await api.state(thread_id)).toMatchObject({ next: ["first"] });
});

/* ----------------------------------------------------------------------------- time travel */

const checkpointBefore = async (api: Any, thread_id: string, node: string): Promise<Any> =>
  (await api.history(thread_id)).find(({ next }: Any) => next.includes(node)).checkpoint;

behaviour("travel.checkpoint", async ({ api }) => {
  const thread_id = await api.ranPlain();
  const checkpoint = await checkpointBefore(api, thread_id, "second");
  expect(await api.runOn(thread_id, "plain", null, { checkpoint })).toMatchObject({
    value: 4,
    steps: ["first", "second"],
  });
});

behaviour("travel.checkpoint-id", async ({ api }) => {
  const thread_id = await api.ranPlain();
  const { checkpoint_id } = await checkpointBefore(api, thread_id, "first");
  expect(await api.runOn(thread_id, "plain", null, { checkpoint_id })).toMatchObject({ value: 4 });
});

behaviour("travel.configurable", async ({ api }) => {
  const thread_id = await api.ranPlain();
  const { checkpoint_id } = await checkpointBefore(api, thread_id, "second");
  const output = await api.runOn(thread_id, "plain", null, { config: { configurable: { checkpoint_id } } });
  expect(output).toMatchObject({ value: 4 });
});

behaviour("travel.keeps-history", async ({ api }) => {
  const thread_id = await api.ranPlain();
  const before = await api.history(thread_id);
  const checkpoint = await checkpointBefore(api, thread_id, "second");
  await api.runOn(thread_id, "plain", null, { checkpoint });
  const known = (await api.history(thread_id)).map(({ checkpoint_id }) => checkpoint_id);
  expect(known).toEqual(expect.arrayContaining(before.map(({ checkpoint_id }) => checkpoint_id)));
  expect(known.length).toBeGreaterThan(before.length);
});

behaviour("travel.fork-with-input", async ({ api }) => {
  const thread_id = await api.ranPlain();
  const checkpoint = await checkpointBefore(api, thread_id, "first");
  const output = await api.runOn(thread_id, "plain", { value: 10 }, { checkpoint });
  expect(output.value).toBe(22);
});

behaviour("travel.edit-and-continue", async ({ api }) => {
  const thread_id = await api.ranPlain();
  const checkpoint = await checkpointBefore(api, thread_id, "second");
  const edited = await api.post(`/threads/${thread_id}/state`, { values: { value: 21 }, checkpoint, as_node: "first" });
  expect(await api.runOn(thread_id, "plain", null, { checkpoint: edited.checkpoint })).toMatchObject({ value: 42 });
});

behaviour("travel.map-does-not-leak", async ({ api }) => {
  const thread_id = await api.thread();
  await api.runOn(thread_id, "nested", { ask: true });
  const { checkpoint } = await api.state(thread_id);
  await api.runOn(thread_id, "nested", null, { checkpoint: { ...checkpoint, checkpoint_map: {} } });
  const output = await api.runOn(thread_id, "nested", null, { command: { resume: "later" } });
  expect(output.trail).toContain("answer: later");
});

/* ------------------------------------------------------------------------------- durability */

behaviour("durability.exit", async ({ api }) => {
  const thread_id = await api.thread();
  await api.runOn(thread_id, "plain", { value: 1 }, { durability: "exit" });
  expect(await api.history(thread_id)).toHaveLength(1);
});

behaviour("durability.sync", async ({ api }) => {
  const thread_id = await api.thread();
  await api.runOn(thread_id, "plain", { value: 1 }, { durability: "sync" });
  expect(await api.history(thread_id)).toHaveLength(4);
});

behaviour("durability.checkpoint-during", async ({ api }) => {
  const thread_id = await api.thread();
  await api.runOn(thread_id, "plain", { value: 1 }, { checkpoint_during: false });
  expect(await api.history(thread_id)).toHaveLength(1);
});

behaviour("durability.default", async ({ api }) => {
  expect(await api.history(await api.ranPlain())).toHaveLength(4);
});

/* ---------------------------------------------------------------------- threads and graphs */

behaviour("threads.memory", async ({ api }) => {
  const thread_id = await api.thread();
  await api.runOn(thread_id, "chat", { messages: [{ role: "user", content: "one" }] });
  const output = await api.runOn(thread_id, "chat", { messages: [{ role: "user", content: "two" }] });
  expect(output.messages).toHaveLength(4);
});

behaviour("threads.other-graph", async ({ api }) => {
  const thread_id = await api.thread();
  await api.runOn(thread_id, "chat", { messages: [{ role: "user", content: "hi" }] });
  const output = await api.runOn(thread_id, "agent", { messages: [{ role: "user", content: "go" }] });
  expect(output.messages.length).toBeGreaterThan(4);
});

behaviour("threads.functional-memory", async ({ api }) => {
  const thread_id = await api.thread();
  await api.runOn(thread_id, "functional", { a: 1 });
  expect(await api.runOn(thread_id, "functional", { previous: true })).toEqual({ previous: { a: 1 } });
});

behaviour("runs.send-fan-out", async ({ api }) => {
  const { results } = await api.run("route", { items: ["a", "b", "c"], extra: true });
  expect(results).toEqual(expect.arrayContaining(["worked on a", "worked on b", "worked on c", "gathered", "extra"]));
});

behaviour("runs.retry-after-error", async ({ api }) => {
  const thread_id = await api.thread();
  await api.runOn(thread_id, "error");
  expect(await api.runOn(thread_id, "plain", { value: 1 })).toMatchObject({ value: 4 });
  await eventually(async () => (await api.get(`/threads/${thread_id}`)).status === "idle");
});
