/** Each field of a run's body does what it says, on each of the operations that take it. */
import { v5 as uuid5 } from "uuid";
import { describe, expect, test } from "vitest";
import { type Any, type Body, Gate, json, names, useServer, useTempDir, WAYS } from "./support.ts";

const api = useServer();
const temp = useTempDir();

const NAMESPACE = "6ba7b821-9dad-11d1-80b4-00c04fd430c8";
const echo = { assistant_id: "echo" };

describe.each(WAYS)("$name", (way) => {
  const output = (body: Body): Promise<Any> => way.output(api, body);
  const seen = async (body: Body): Promise<Any> => (await output({ ...echo, ...body })).seen;
  const refusal = async (body: Body) => api.http.post(await way.path(api), way.wrap(body));

  test("assistant_id: a graph's id or its assistant's UUID", async () => {
    expect(await output({ assistant_id: "plain", input: { value: 1 } })).toMatchObject({ value: 4 });
    expect(await output({ assistant_id: uuid5("plain", NAMESPACE), input: { value: 2 } })).toMatchObject({ value: 6 });
  });

  test("assistant_id: 404 with the name when nobody is called so, 422 when it is no string", async () => {
    for (const assistant_id of ["nobody", uuid5("nobody", NAMESPACE)]) {
      const { status, body } = await refusal({ assistant_id });
      expect(status).toBe(404);
      expect(body.detail).toContain(assistant_id);
    }
    for (const assistant_id of [7, null, ["plain"], undefined]) {
      const { status, body } = await refusal({ assistant_id });
      expect(status).toBe(422);
      expect(body.detail).toContain("assistant_id");
    }
  });

  test("input: any JSON arrives as it is", async () => {
    const inputs = [{ a: { b: [1, "two", null] } }, [1, [2]], "text", 1.5, 0, true, false];
    const outputs = inputs.map((input) => output({ assistant_id: "functional", input }));
    expect(await Promise.all(outputs)).toEqual(inputs);
  });

  test("metadata arrives in the node; the run's wins over its assistant's", async () => {
    const { metadata } = await seen({ input: {}, metadata: { who: "me", created_by: "the run" } });
    expect(metadata).toMatchObject({ who: "me", created_by: "the run", graph_id: "echo" });
    expect((await seen({ input: {} })).metadata.created_by).toBe("system");
  });

  test("config: tags, recursion_limit, configurable arrive in the node", async () => {
    const config = { tags: ["a", "b"], recursion_limit: 7, configurable: { colour: "red", deep: { x: [1] } } };
    expect(await seen({ input: {}, config })).toMatchObject(config);
  });

  test("config.configurable cannot name another run or thread", async () => {
    const configurable = { thread_id: "mine", run_id: "mine", graph_id: "mine", __pregel_task_id: "mine" };
    expect(JSON.stringify((await seen({ input: {}, config: { configurable } })).configurable)).not.toContain("mine");
  });

  test("config.recursion_limit ends a run that goes in circles, and the client reads why", async () => {
    const result = await output({ assistant_id: "recursion", input: {}, config: { recursion_limit: 4 } });
    expect(result.__error__).toMatchObject({ error: "GraphRecursionError" });
    expect(result.__error__.message).toContain("4");
  });

  test("context arrives in the node, as context and as configurable", async () => {
    const { context, configurable } = await seen({ input: {}, context: { tone: "dry", size: 3 } });
    expect(context).toEqual({ tone: "dry", size: 3 });
    expect(configurable).toMatchObject({ tone: "dry", size: 3 });
  });

  test("interrupt_before and interrupt_after stop the graph there", async () => {
    const stops = (extra: Body): Promise<Any> => output({ assistant_id: "plain", input: { value: 1 }, ...extra });
    const between = { value: 2, steps: ["first"], __interrupt__: [] };
    expect(await stops({ interrupt_before: ["second"] })).toEqual(between);
    expect(await stops({ interrupt_after: ["first"] })).toEqual(between);
    expect(await stops({ interrupt_after: "*" })).toEqual(between);
    expect(await stops({ interrupt_before: "*" })).toEqual({ value: 1, steps: [], __interrupt__: [] });
  });

  test("feedback_keys are taken and change nothing", async () => {
    const body = { assistant_id: "plain", input: { value: 1 }, feedback_keys: ["thumbs"] };
    expect(await output(body)).toEqual({ value: 4, steps: ["first", "second"] });
  });

  test("fields that are null are as good as absent", async () => {
    const fields = ["command", "metadata", "config", "context", "webhook", "stream_mode", "feedback_keys"];
    const more = ["stream_subgraphs", "stream_resumable", "after_seconds", "checkpoint_during", "durability"];
    const last = ["interrupt_before", "interrupt_after", "on_completion", "on_disconnect"];
    const nulls = Object.fromEntries([...fields, ...more, ...last].map((field) => [field, null]));
    expect(await output({ ...nulls, assistant_id: "plain", input: { value: 1 } })).toMatchObject({ value: 4 });
  });

  test("after_seconds starts it no sooner", async () => {
    const asked = Date.now();
    const gate = new Gate(temp.dir, `after-${WAYS.indexOf(way)}`);
    gate.openAll();
    await output({ assistant_id: "slow", input: gate.input, after_seconds: 0.4 });
    expect(Date.now() - asked).toBeGreaterThanOrEqual(400);
    expect(gate.log).toContain("end 3");
  });
});

describe("what a run on a thread shows of its fields", () => {
  test("kwargs, metadata and strategy; the thread is stamped with graph and assistant", async () => {
    const { path, thread_id } = await api.background({
      ...echo,
      input: { input: [1] },
      metadata: { who: "me" },
      config: { tags: ["t"], configurable: { x: 1 } },
      stream_mode: ["updates", "custom"],
      multitask_strategy: "reject",
      feedback_keys: ["thumbs"],
    });
    await api.get(`${path}/join`);
    const run = await api.get(path);
    expect(run).toMatchObject({ status: "success", multitask_strategy: "reject", metadata: { who: "me" } });
    expect(run.kwargs).toMatchObject({
      input: { input: [1] },
      config: { tags: ["t"], configurable: { x: 1 } },
      stream_mode: ["updates", "custom"],
      feedback_keys: ["thumbs"],
    });
    const assistant_id = uuid5("echo", NAMESPACE);
    expect(run.assistant_id).toBe(assistant_id);
    const thread = await api.get(`/threads/${thread_id}`);
    expect(thread.metadata).toMatchObject({ graph_id: "echo", assistant_id });
  });

  test("if_not_exists: create makes the thread, otherwise 404", async () => {
    const path = `/threads/${uuid5("new thread", NAMESPACE)}/runs/wait`;
    const body = { assistant_id: "plain", input: { value: 1 } };
    expect((await api.http.post(path, body)).status).toBe(404);
    expect(await api.wait({ ...body, if_not_exists: "create" }, path)).toMatchObject({ value: 4 });
    expect(await api.wait(body, path)).toMatchObject({ value: 4, steps: ["first", "second", "first", "second"] });
  });
});

describe("input", () => {
  test("absent and null go on from the thread's checkpoint", async () => {
    const runs = `/threads/${await api.thread()}/runs/wait`;
    const body = { assistant_id: "plain" };
    await api.wait({ ...body, input: { value: 1 }, interrupt_before: ["second"] }, runs);
    expect(await api.wait({ ...body, input: null }, runs)).toEqual({ value: 4, steps: ["first", "second"] });
    await api.wait({ ...body, input: { value: 1 }, interrupt_before: ["second"] }, runs);
    expect((await api.wait(body, runs)).steps).toHaveLength(4);
  });

  test("absent on a new thread is an error the client reads, not a hang", async () => {
    const result = await api.wait({ assistant_id: "plain" });
    expect(result.__error__.message).toEqual(expect.any(String));
  });
});

describe("command", () => {
  const started = async (assistant_id: string, input: unknown = {}, extra: Body = {}) => {
    const thread_id = await api.thread();
    const runs = `/threads/${thread_id}/runs`;
    const first = await api.wait({ assistant_id, input, ...extra }, `${runs}/wait`);
    return { first, thread_id, runs, go: (command: Body) => api.wait({ assistant_id, command }, `${runs}/wait`) };
  };

  test.each([
    ["text", "yes"],
    ["number", 0],
    ["boolean", false],
    ["object", { decision: "approve", edits: [1] }],
    ["array", [{ type: "accept" }]],
    ["null", null],
    ["empty text", ""],
  ])("resume with %s", async (_, resume) => {
    const { first, go, thread_id } = await started("hitl", { question: "Sure?" });
    expect(first.__interrupt__).toEqual([{ id: expect.any(String), value: { ask: "person", question: "Sure?" } }]);
    expect((await api.get(`/threads/${thread_id}`)).status).toBe("interrupted");
    expect(await go({ resume })).toMatchObject({ answers: { person: resume }, done: "person" });
    expect((await api.get(`/threads/${thread_id}`)).status).toBe("idle");
  });

  test("resume by a map of interrupt id to value", async () => {
    const { first, go } = await started("hitl2");
    const idOf = (name: string) => first.__interrupt__.find(({ value }: Any) => value.ask === name).id;
    const resume = { [idOf("left")]: { l: 1 }, [idOf("right")]: ["r"] };
    expect(await go({ resume })).toMatchObject({ answers: { left: { l: 1 }, right: ["r"] }, done: "left+right" });
  });

  test("resume of one of two interrupts leaves the other", async () => {
    const { first, go, thread_id } = await started("hitl2");
    const [one, two] = first.__interrupt__;
    const rest = await go({ resume: { [one.id]: "first" } });
    expect(rest.__interrupt__).toEqual([two]);
    expect(Object.values((await api.get(`/threads/${thread_id}`)).interrupts).flat()).toEqual([two]);
    expect(await go({ resume: { [two.id]: "second" } })).toMatchObject({ done: "left+right" });
  });

  test("resume through /stream", async () => {
    const { runs } = await started("hitl");
    const frames = await api.stream({ assistant_id: "hitl", command: { resume: "ok" } }, `${runs}/stream`);
    expect(json(frames.at(-1))).toMatchObject({ answers: { person: "ok" } });
  });

  test("update with an object, and with a list of pairs", async () => {
    const { go, thread_id } = await started("plain", { value: 1 });
    await go({ update: { steps: ["by hand"] } });
    await go({
      update: [
        ["steps", ["pair one"]],
        ["steps", ["pair two"]],
        ["value", 100],
      ],
    });
    const { values } = await api.get(`/threads/${thread_id}/state`);
    expect(values.steps).toEqual(expect.arrayContaining(["by hand", "pair one", "pair two"]));
    expect(values.value).toBe(100);
  });

  test("goto a node, and a list of nodes", async () => {
    const { go } = await started("plain", { value: 1 });
    expect((await go({ goto: "second" })).steps.slice(2)).toEqual(["second"]);
    expect((await go({ goto: ["first"] })).steps.slice(3)).toEqual(["first", "second"]);
  });

  test("goto with update", async () => {
    const { go } = await started("plain", { value: 1 });
    expect(await go({ goto: "second", update: { value: 50 } })).toMatchObject({ value: 100 });
  });

  test("goto a Send, and a list of Send", async () => {
    const { go } = await started("route", { items: ["a"] });
    const send = (item: string) => ({ node: "work", input: { item } });
    expect((await go({ goto: send("x") })).results).toEqual(["worked on a", "gathered", "worked on x", "gathered"]);
    const { results } = await go({ goto: [send("y"), send("z"), "detour"] });
    expect(results.slice(4).sort()).toEqual(["extra", "gathered", "worked on y", "worked on z"]);
  });

  test("on a stateless run, goto starts there", async () => {
    const result = await api.wait({ assistant_id: "plain", command: { goto: "second", update: { value: 4 } } });
    expect(result).toEqual({ value: 8, steps: ["second"] });
  });

  test.each([
    ["goto", { goto: 7 }],
    ["goto", { goto: [{ input: 1 }] }],
    ["update", { update: "x" }],
  ])("a %s of the wrong kind is named", async (field, command) => {
    const { status, body } = await api.http.post("/runs/wait", { assistant_id: "plain", command });
    expect(status).toBe(422);
    expect(body.detail).toContain(`command.${field}`);
  });
});

test("several stream modes at once are told apart by name", async () => {
  const body = { assistant_id: "plain", input: { value: 1 }, stream_mode: ["updates", "custom"] };
  expect(names(await api.stream(body))).toEqual(["metadata", "custom", "custom", "updates", "updates"]);
});
