/** States of threads changed by hand: updates, forks, subgraphs, threads that begin with a state. */
import { fileURLToPath } from "node:url";
import { Client } from "@langchain/langgraph-sdk";
import { describe, expect, test } from "vitest";
import { type Any, Gate, useServer, useTempDir } from "../runs/support.ts";
import { eventually, startServer } from "../support/server.ts";

const api = useServer();
const temp = useTempDir();
const UNKNOWN = "00000000-0000-4000-8000-000000000000";

/** A thread on which `plain` has run: value 4, steps first and second. */
async function plainThread(): Promise<string> {
  const thread_id = await api.thread();
  await api.wait({ assistant_id: "plain", input: { value: 1 } }, `/threads/${thread_id}/runs/wait`);
  return thread_id;
}

const update = (thread_id: string, body: object) => api.http.post(`/threads/${thread_id}/state`, body);
const state = (thread_id: string) => api.get(`/threads/${thread_id}/state`);
const resume = (thread_id: string, body: object) => api.wait(body as Any, `/threads/${thread_id}/runs/wait`);

describe("an update", () => {
  test("answers the new checkpoint in the three shapes that clients read", async () => {
    const thread_id = await plainThread();
    const before = await state(thread_id);
    const { status, body } = await update(thread_id, { values: { steps: ["by hand"] }, as_node: "first" });
    expect(status).toBe(200);
    expect(body.checkpoint).toEqual({
      thread_id,
      checkpoint_ns: "",
      checkpoint_id: body.checkpoint_id,
      checkpoint_map: null,
    });
    expect(body.configurable).toEqual(body.checkpoint);
    const after = await state(thread_id);
    expect(after).toMatchObject({
      values: { value: 4, steps: ["first", "second", "by hand"] },
      next: ["second"],
      checkpoint_id: body.checkpoint_id,
      parent_checkpoint_id: before.checkpoint_id,
      metadata: { source: "update", step: before.metadata.step + 1, graph_id: "plain", thread_id },
    });
    expect(after.metadata).not.toHaveProperty("run_id");
  });

  test("shows on the thread: values, status, interrupts and when", async () => {
    const thread_id = await api.thread();
    await resume(thread_id, { assistant_id: "hitl", input: { question: "Sure?" } });
    const waiting = await api.get(`/threads/${thread_id}`);
    expect(waiting.status).toBe("interrupted");
    expect(Object.values(waiting.interrupts).flat()).toHaveLength(1);

    await api.post(`/threads/${thread_id}/state`, { values: { answers: { person: "me" } }, as_node: "ask" });
    const answered = await api.get(`/threads/${thread_id}`);
    expect(answered.values).toMatchObject({ answers: { person: "me" } });
    expect(Object.values(answered.interrupts).flat()).toEqual([]);
    expect(answered.status).toBe("interrupted");
    expect(answered.state_updated_at > waiting.state_updated_at).toBe(true);
    expect((await state(thread_id)).next).toEqual(["finish"]);

    // The run goes on from there.
    expect(await resume(thread_id, { assistant_id: "hitl", input: null })).toMatchObject({ done: "person" });
    expect((await api.get(`/threads/${thread_id}`)).status).toBe("idle");
  });

  test("takes a checkpoint or its id, and forks there; the next run goes on from the fork", async () => {
    for (const point of [(id: string) => ({ checkpoint: pointer(id) }), (id: string) => ({ checkpoint_id: id })]) {
      const thread_id = await plainThread();
      const history = await api.get(`/threads/${thread_id}/history`);
      const early = history.find((s: Any) => s.next[0] === "second");
      await api.post(`/threads/${thread_id}/state`, { values: { value: 10 }, ...point(early.checkpoint_id) });
      const fork = await state(thread_id);
      expect(fork).toMatchObject({ values: { value: 10, steps: ["first"] }, next: ["second"] });
      expect(fork.parent_checkpoint_id).toBe(early.checkpoint_id);
      expect(await resume(thread_id, { assistant_id: "plain", input: null })).toMatchObject({ value: 20 });
      // The old line is still there.
      const old = history[0];
      expect((await api.get(`/threads/${thread_id}/state/${old.checkpoint_id}`)).values).toEqual(old.values);
    }
  });

  const pointer = (checkpoint_id: string) => ({ checkpoint_id, checkpoint_ns: "", checkpoint_map: null });

  test("infers the node, copies with nothing to add, and clears what was to come as __end__", async () => {
    const thread_id = await api.thread();
    await resume(thread_id, { assistant_id: "hitl", input: {} });
    await api.post(`/threads/${thread_id}/state`, { values: { question: "Other?" } });
    expect(await state(thread_id)).toMatchObject({ values: { question: "Other?" }, next: ["ask"] });
    await api.post(`/threads/${thread_id}/state`, {});
    expect(await state(thread_id)).toMatchObject({ values: { question: "Other?" }, next: ["ask"] });
    await api.post(`/threads/${thread_id}/state`, { values: null, as_node: "__end__" });
    expect(await state(thread_id)).toMatchObject({ values: { question: "Other?" }, next: [], tasks: [] });
    expect((await api.get(`/threads/${thread_id}`)).status).toBe("idle");
  });

  test("makes messages plain objects with an id and a type", async () => {
    const thread_id = await api.thread();
    await resume(thread_id, { assistant_id: "chat", input: { messages: [{ role: "user", content: "hi" }] } });
    await api.post(`/threads/${thread_id}/state`, {
      values: { messages: [{ role: "assistant", content: "by hand" }] },
      as_node: "answer",
    });
    const { messages } = (await state(thread_id)).values;
    expect(messages.map(({ type, content }: Any) => [type, content])).toEqual([
      ["human", "hi"],
      ["ai", "You said: hi"],
      ["ai", "by hand"],
    ]);
    expect(messages[2].id).toEqual(expect.any(String));
    expect((await api.get(`/threads/${thread_id}`)).values.messages).toEqual(messages);

    // The next run adds to the list that runs and updates have made; a fork leaves it alone.
    const again = { assistant_id: "chat", input: { messages: [{ role: "user", content: "again" }] } };
    const end = await resume(thread_id, again);
    expect(end.messages.slice(0, 3)).toEqual(messages);
    expect(end.messages).toMatchObject([{}, {}, {}, { content: "again" }, { content: "You said: again" }]);
    const history = await api.get(`/threads/${thread_id}/history`);
    const early = history.find((s: Any) => s.values.messages.length === 2);
    await api.post(`/threads/${thread_id}/state`, {
      values: { messages: [{ role: "assistant", content: "forked" }] },
      checkpoint: early.checkpoint,
      as_node: "answer",
    });
    expect((await state(thread_id)).values.messages).toMatchObject([...early.values.messages, { content: "forked" }]);
    const [, ...older] = await api.get(`/threads/${thread_id}/history?limit=100`);
    expect(older).toEqual(history);
  });

  test("that forks without touching a list leaves the list's later items to those that have them", async () => {
    const thread_id = await api.thread();
    const say = (content: string) =>
      resume(thread_id, { assistant_id: "chat", input: { messages: [{ role: "user", content }] } });
    for (const text of ["one", "two", "three"]) await say(text);
    const history = await api.get(`/threads/${thread_id}/history?limit=100`);
    const early = history.find((s: Any) => s.values.messages.length === 2 && s.next.length === 0);
    await api.post(`/threads/${thread_id}/state`, { checkpoint: early.checkpoint });
    expect((await state(thread_id)).values).toEqual(early.values);
    expect((await say("other")).messages).toMatchObject([{}, {}, { content: "other" }, { content: "You said: other" }]);
    const old = await api.get(`/threads/${thread_id}/state/${history[0].checkpoint_id}`);
    expect(old.values).toEqual(history[0].values);
  });

  test("of a subgraph changes that subgraph's state, and the run goes on with it", async () => {
    const thread_id = await api.thread();
    await resume(thread_id, { assistant_id: "nested", input: { ask: true } });
    const before = await api.get(`/threads/${thread_id}/state?subgraphs=true`);
    expect(before.interrupts).toEqual(before.tasks[0].interrupts);
    expect(before.interrupts).toMatchObject([{ value: "Deep down: go on?" }]);
    const middle = before.tasks[0].state;
    const inner = middle.tasks[0].state;
    expect(inner.interrupts).toMatchObject([{ value: "Deep down: go on?" }]);

    const answer = await api.post(`/threads/${thread_id}/state`, {
      values: { trail: ["by hand"] },
      checkpoint: inner.checkpoint,
      as_node: "__start__",
    });
    expect(answer.checkpoint.checkpoint_ns).toBe(inner.checkpoint.checkpoint_ns);
    expect(answer.checkpoint.checkpoint_map).toMatchObject({
      [inner.checkpoint.checkpoint_ns]: answer.checkpoint_id,
    });
    const at = await api.post(`/threads/${thread_id}/state/checkpoint`, { checkpoint: answer.checkpoint });
    expect(at.values.trail).toContain("by hand");
    // Known by its place in the map alone, too.
    const { checkpoint_id: _, ...mapped } = answer.checkpoint;
    expect(await api.post(`/threads/${thread_id}/state/checkpoint`, { checkpoint: mapped })).toEqual(at);
    // The root has not moved.
    expect((await state(thread_id)).checkpoint_id).toBe(before.checkpoint_id);
    const end = await resume(thread_id, { assistant_id: "nested", command: { resume: "yes" } });
    expect(end.trail).toEqual(expect.arrayContaining(["by hand", "answer: yes", "last"]));
  });

  test("is refused with the field or LangGraph's words for it, and leaves the thread as it was", async () => {
    const thread_id = await plainThread();
    const before = await api.get(`/threads/${thread_id}`);
    const refused = async (body: object, status: number, detail: RegExp | string): Promise<void> => {
      const answer = await update(thread_id, body);
      expect([answer.status, answer.body.detail]).toEqual([status, expect.stringMatching(detail)]);
    };
    await refused({ values: { value: 1 }, as_node: "nobody" }, 422, /^Node "nobody" does not exist$/);
    await refused({ values: [1, 2], as_node: "first" }, 422, /^Expected node "first" to return an object/);
    await refused({ values: "x" }, 422, /^values: expected an object or an array or null/);
    await refused({ values: {}, as_node: 7 }, 422, /^as_node: /);
    await refused({ values: {}, checkpoint: { thread_id: UNKNOWN } }, 422, /^checkpoint.thread_id: /);
    await refused({ values: {}, checkpoint: { checkpoint_ns: "nobody:1" } }, 422, /Subgraph "nobody" not found/);
    await refused({ values: {}, checkpoint_id: "1f000000" }, 404, /^Checkpoint 1f000000 of thread/);
    await refused({ values: {}, checkpoint: { checkpoint_id: "a" }, checkpoint_id: "b" }, 422, /^checkpoint_id: /);
    expect(await api.get(`/threads/${thread_id}`)).toEqual(before);
    expect(await api.get(`/threads/${thread_id}/history`)).toHaveLength(4);
    expect((await update(UNKNOWN, { values: {} })).status).toBe(404);
  });

  test("needs a graph: the thread's, which its metadata may name", async () => {
    const none = await update(await api.thread(), { values: { value: 1 }, as_node: "first" });
    expect([none.status, none.body.detail]).toEqual([422, expect.stringContaining("has no graph")]);
    const { thread_id } = await api.post("/threads", { metadata: { graph_id: "plain" } });
    await api.post(`/threads/${thread_id}/state`, { values: { value: 1 } });
    expect(await state(thread_id)).toMatchObject({ values: { value: 1 }, next: ["first"] });
  });
});

describe("updates and runs of one thread", () => {
  test("an update is refused while a run is in flight", async () => {
    const gate = new Gate(temp.dir, "busy");
    const thread_id = await api.thread();
    const { run_id } = await api.post(`/threads/${thread_id}/runs`, { assistant_id: "slow", input: gate.input });
    const answer = await update(thread_id, { values: { steps: [9] }, as_node: "one" });
    expect([answer.status, answer.body.detail]).toEqual([409, `Thread ${thread_id} is busy with run ${run_id}`]);
    gate.openAll();
    await api.get(`/threads/${thread_id}/runs/${run_id}/join`);
    expect((await update(thread_id, { values: { steps: [9] }, as_node: "three" })).status).toBe(200);
    expect((await state(thread_id)).values.steps).toEqual([1, 2, 3, 9]);
  });

  test("updates at once are all applied, one after the other", async () => {
    const thread_id = await plainThread();
    const all = Array.from({ length: 12 }, (_, index) => `u${index}`);
    const answers = await Promise.all(
      all.map((step) => update(thread_id, { values: { steps: [step] }, as_node: "second" })),
    );
    expect(answers.map(({ status }) => status)).toEqual(all.map(() => 200));
    const { values } = await state(thread_id);
    expect(values.steps.slice(2).sort()).toEqual([...all].sort());
    expect((await api.get(`/threads/${thread_id}`)).values).toEqual(values);
  });

  test("updates among runs are applied or refused, and never lost or mixed in", async () => {
    const thread_id = await plainThread();
    const applied: string[] = [];
    const tryUpdate = async (step: string): Promise<void> => {
      const { status } = await update(thread_id, { values: { steps: [step] }, as_node: "second" });
      expect([200, 409]).toContain(status);
      if (status === 200) applied.push(step);
    };
    const rounds = Array.from({ length: 12 }, (_, index) => `u${index}`);
    for (const step of rounds) {
      const run = resume(thread_id, { assistant_id: "plain", input: {} });
      await Promise.all([tryUpdate(`${step}a`), run, tryUpdate(`${step}b`)]);
      await tryUpdate(`${step}c`);
    }
    expect(applied).toEqual(expect.arrayContaining(rounds.map((step) => `${step}c`)));
    const { values, next } = await state(thread_id);
    expect(next).toEqual([]);
    const byHand = (step: string): boolean => step.startsWith("u");
    expect(values.steps.filter(byHand).sort()).toEqual([...applied].sort());
    expect(values.steps.filter((step: string) => !byHand(step))).toEqual(
      ["before", ...rounds].flatMap(() => ["first", "second"]),
    );
    expect(await api.get(`/threads/${thread_id}`)).toMatchObject({ values, status: "idle" });
  });
});

describe("a thread that begins with a state", () => {
  const seed = (graph_id: string | undefined, ...supersteps: object[][]) => ({
    metadata: { graph_id },
    supersteps: supersteps.map((updates) => ({ updates })),
  });

  test("has it in the answer, in its history and in the next run", async () => {
    const thread = await api.post(
      "/threads",
      seed(
        "chat",
        [{ values: { messages: [{ role: "user", content: "hi" }] }, as_node: "__start__" }],
        [{ values: { messages: [{ role: "assistant", content: "hello" }] }, as_node: "answer" }],
      ),
    );
    expect(thread).toMatchObject({ status: "idle", metadata: { graph_id: "chat" } });
    const { messages } = thread.values;
    expect(messages).toMatchObject([
      { type: "human", content: "hi", id: expect.any(String) },
      { type: "ai", content: "hello", id: expect.any(String) },
    ]);
    expect(await api.get(`/threads/${thread.thread_id}`)).toEqual(thread);
    const history = await api.get(`/threads/${thread.thread_id}/history`);
    expect(history.map((s: Any) => s.values.messages.length)).toEqual([2, 1]);
    expect(history[0].parent_checkpoint_id).toBe(history[1].checkpoint_id);
    const next = { assistant_id: "chat", input: { messages: [{ role: "user", content: "again" }] } };
    expect((await resume(thread.thread_id, next)).messages).toMatchObject([{}, {}, {}, { content: "You said: again" }]);
  });

  test("applies input, updates of one superstep together, and commands", async () => {
    const input = [{ values: { items: ["a", "b"] }, as_node: "__input__" }];
    const start = [{ values: { items: ["a", "b"] }, as_node: "__start__" }];
    const both = [
      { values: { results: ["left"] }, as_node: "work" },
      { values: { results: ["right"] }, as_node: "detour" },
    ];
    const command = [{ command: { update: { results: ["told"] }, goto: "detour" }, as_node: "gather" }];
    const thread = await api.post("/threads", seed("route", input, start, both, command));
    expect(thread.values).toEqual({ items: ["a", "b"], results: ["left", "right", "told"] });
    expect((await state(thread.thread_id)).next).toEqual(["detour"]);
    expect(await resume(thread.thread_id, { assistant_id: "route", input: null })).toMatchObject({
      results: ["left", "right", "told", "extra"],
    });
    const sends = [{ command: { goto: [{ node: "work", input: { item: "q" } }] }, as_node: "plan" }];
    const sent = await api.post("/threads", seed("route", sends));
    expect(await resume(sent.thread_id, { assistant_id: "route", input: null })).toMatchObject({
      results: ["worked on q", "gathered"],
    });
  });

  test("is not left behind half made when an update is refused", async () => {
    const fine = [{ values: { value: 1 }, as_node: "first" }];
    const cases: readonly [object, RegExp][] = [
      [seed("plain", fine, [{ values: {}, as_node: "nobody" }]), /^supersteps: Node "nobody" does not exist$/],
      [seed("plain", fine, [{ command: { goto: "nobody" }, as_node: "first" }]), /^supersteps: Node "nobody"/],
      [seed("plain", [...fine, ...fine]), /^supersteps: Invalid update for channel "value"/],
      [seed("plain", fine, []), /^supersteps.1.updates: /],
      [seed("plain", [{ values: {} }]), /^supersteps.0.updates.0.as_node: field required/],
      [seed("plain", [{ values: 3, as_node: "first" }]), /^supersteps.0.updates.0.values: /],
      [seed("plain", [{ command: { resume: 1 }, as_node: "first" }]), /^supersteps.0.updates.0.command.resume: /],
      [seed("plain", [{ values: {}, command: { goto: "second" }, as_node: "first" }]), /not both/],
      [seed("plain", [{ command: { update: {} }, as_node: "__input__" }]), /__input__ takes values/],
      [seed("no such graph", fine), /^metadata.graph_id: Graph "no such graph" is not loaded/],
      [seed(undefined, fine), /^metadata.graph_id: field required/],
    ];
    for (const [index, [body, detail]] of cases.entries()) {
      const thread_id = `00000000-0000-4000-8000-0000000000${10 + index}`;
      const answer = await api.http.post("/threads", { thread_id, ...body });
      expect([answer.status, answer.body.detail]).toEqual([422, expect.stringMatching(detail)]);
      expect((await api.http.get(`/threads/${thread_id}`)).status).toBe(404);
      expect((await api.http.get(`/threads/${thread_id}/history`)).status).toBe(404);
    }
  });

  test("leaves a thread that is there already as it is", async () => {
    const thread_id = await plainThread();
    const before = await api.get(`/threads/${thread_id}`);
    const body = { thread_id, ...seed("plain", [{ values: { value: 99 }, as_node: "first" }]) };
    expect((await api.http.post("/threads", body)).status).toBe(409);
    expect(await api.post("/threads", { ...body, if_exists: "do_nothing" })).toEqual(before);
    expect((await state(thread_id)).values).toEqual(before.values);
  });

  test("comes to be once when asked for at once", async () => {
    const body = { thread_id: crypto.randomUUID(), ...seed("plain", [{ values: { value: 7 }, as_node: "first" }]) };
    const answers = await Promise.all(Array.from({ length: 6 }, () => api.http.post("/threads", body)));
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 409, 409, 409, 409, 409]);
    expect(await api.get(`/threads/${body.thread_id}/history`)).toHaveLength(1);
  });
});

test("of two parallel interrupts, only the unanswered one waits in `interrupts`", async () => {
  const thread_id = await api.thread();
  await resume(thread_id, { assistant_id: "hitl2", input: {} });
  const both = await state(thread_id);
  expect(both.interrupts).toHaveLength(2);
  const [left] = both.interrupts.filter(({ value }: Any) => value.ask === "left");
  await resume(thread_id, { assistant_id: "hitl2", command: { resume: { [left.id]: "L" } } });
  const one = await state(thread_id);
  expect(one.interrupts).toMatchObject([{ value: { ask: "right" } }]);
  expect(one.tasks.map(({ name, result }: Any) => [name, result])).toEqual([
    ["left", { answers: { left: "L" } }],
    ["right", null],
  ]);
});

test("the JavaScript SDK creates, updates, reads and walks back", async () => {
  const client = new Client({ apiUrl: api.url });
  const { thread_id, values } = await client.threads.create({
    graphId: "plain",
    supersteps: [{ updates: [{ values: { value: 1 }, asNode: "__start__" }] }],
  });
  expect(values).toEqual({ value: 1, steps: [] });
  const made = await client.threads.updateState(thread_id, { values: { steps: ["sdk"] }, asNode: "first" });
  const now = await client.threads.getState(thread_id);
  expect(now.checkpoint.checkpoint_id).toBe(made.configurable?.checkpoint_id);
  const { checkpoint_id } = made.configurable ?? {};
  expect(checkpoint_id).toEqual(expect.any(String));
  const history = await client.threads.getHistory<Any>(thread_id, {
    before: { configurable: { checkpoint_id } } as Any,
  });
  expect(history.map((past) => past.values)).toEqual([{ value: 1, steps: [] }]);
  const forked = await client.threads.updateState(thread_id, {
    values: { value: 5 },
    checkpoint: history[0]?.checkpoint as Any,
    asNode: "first",
  });
  expect((await client.threads.getState<Any>(thread_id, forked.configurable as Any)).values.value).toBe(5);
});

test("what was answered is there after the process is killed", async () => {
  const { server } = api;
  const post = async (path: string, body: object): Promise<Any> =>
    (await fetch(server.url + path, { method: "POST", body: JSON.stringify(body) })).json();
  const supersteps = [{ updates: [{ values: { value: 1 }, as_node: "first" }] }];
  const { thread_id } = await post("/threads", { metadata: { graph_id: "plain" }, supersteps });
  const { checkpoint_id } = await post(`/threads/${thread_id}/state`, { values: { value: 2 }, as_node: "second" });
  await server.restart("SIGKILL");
  const read = async (path: string): Promise<Any> => (await fetch(server.url + path)).json();
  expect(await read(`/threads/${thread_id}/state`)).toMatchObject({ checkpoint_id, values: { value: 2 } });
  expect(await read(`/threads/${thread_id}`)).toMatchObject({ values: { value: 2, steps: [] }, status: "idle" });
});

test("a graph that throws is told so, one that never answers is given up, and its thread is replaced", async () => {
  const project = fileURLToPath(new URL("./graphs", import.meta.url));
  await using server = await startServer({ project, env: { SKEIN_QUESTION_SECS: "1" } });
  const post = (path: string, body: object): Promise<Response> =>
    fetch(server.url + path, { method: "POST", body: JSON.stringify(body) });
  const { thread_id } = (await (await post("/threads", { metadata: { graph_id: "stuck" } })).json()) as Any;
  const throws = await post(`/threads/${thread_id}/state`, { values: { throws: 1 } });
  expect([throws.status, await throws.json()]).toEqual([422, { detail: "TypeError: this reducer takes nothing" }]);
  const loops = await post(`/threads/${thread_id}/state`, { values: { loops: true } });
  expect([loops.status, await loops.json()]).toEqual([503, { detail: 'graph "stuck" did not answer within 1 s' }]);
  await eventually(async () => (await post(`/threads/${thread_id}/state`, { values: { loops: false } })).ok);
  expect(server.logs().some(({ msg }) => msg === "an executor thread died; it is replaced")).toBe(true);
});
