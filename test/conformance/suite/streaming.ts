/** Streaming v2: commands, and the events of a thread. */
import { expect } from "vitest";
import { type Any, type Api, type Body, behaviour, eventually, json, NOBODY } from "../kit.ts";

const HELLO = { messages: [{ role: "user", content: "hello world" }] };
const ENDS = ["completed", "failed", "interrupted"];

/** A thread that comes to be with its first command. */
class Thread {
  readonly id = crypto.randomUUID();
  readonly api: Api;
  #last = 0;

  constructor(api: Api) {
    this.api = api;
  }

  async command(method: string, params: Body = {}): Promise<Any> {
    this.#last += 1;
    const answer = await this.api.post(`/threads/${this.id}/commands`, { id: this.#last, method, params });
    expect(answer.id).toBe(this.#last);
    return answer;
  }

  async result(method: string, params: Body = {}): Promise<Any> {
    const answer = await this.command(method, params);
    expect(answer).toMatchObject({ type: "success" });
    return answer.result;
  }

  async code(method: string, params: Body = {}): Promise<string> {
    const { type, error, message } = await this.command(method, params);
    expect([type, message]).toEqual(["error", expect.stringMatching(/\S/)]);
    return error;
  }

  start(assistant_id: string, input: unknown, more: Body = {}): Promise<Any> {
    return this.result("run.start", { assistant_id, input, ...more });
  }

  output(run_id: string): Promise<Any> {
    return this.api.get(`/threads/${this.id}/runs/${run_id}/join`);
  }

  async ran(assistant_id: string, input: unknown, more: Body = {}): Promise<Any> {
    return this.output((await this.start(assistant_id, input, more)).run_id);
  }

  async questions(): Promise<Any[]> {
    const { interrupts } = await this.api.get(`/threads/${this.id}`);
    return Object.values<Any>(interrupts).flat();
  }

  /** Events up to the end of as many runs as there were `ends`. */
  async events(body: Body, ends = 1, before: () => Promise<unknown> = async () => {}): Promise<Any[]> {
    const channels = ["lifecycle", ...((body.channels as string[]) ?? [])];
    await using stream = await this.api.open(`/threads/${this.id}/stream/events`, { body: { ...body, channels } });
    expect(stream.status).toBe(200);
    await before();
    const events: Any[] = [];
    let ended = 0;
    for await (const frame of stream) {
      if (frame.data === undefined) continue;
      const event = json(frame);
      expect([frame.event, frame.id]).toEqual([event.method, String(event.seq)]);
      events.push(event);
      if (isEnd(event)) ended += 1;
      if (ended === ends) break;
    }
    return events;
  }
}

const isEnd = ({ method, params }: Any): boolean =>
  method === "lifecycle" && params.namespace.length === 0 && ENDS.includes(params.data.event);
const on = (events: readonly Any[], method: string): Any[] => events.filter((event) => event.method === method);
const data = (events: readonly Any[], method: string): Any[] => on(events, method).map(({ params }) => params.data);

behaviour("commands.envelope", async ({ api }) => {
  for (const [body, id] of [
    ["{bad", null],
    ["{}", null],
    ['{"id":-1,"method":"x"}', null],
    ['{"id":7}', 7],
  ] as const) {
    const response = await api.raw(`/threads/${NOBODY}/commands`, { method: "POST", body });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ type: "error", id, error: "invalid_argument" });
  }
});

behaviour("commands.refused", async ({ api }) => {
  expect(await new Thread(api).command("run.start")).toMatchObject({ type: "error", id: 1, error: "invalid_argument" });
});

behaviour("commands.unknown", async ({ api }) => {
  expect(await new Thread(api).code("nope.nope")).toBe("unknown_command");
});

behaviour("commands.meta", async ({ api }) => {
  const thread = new Thread(api);
  await thread.ran("plain", { value: 1 });
  const events = await thread.events({});
  const { meta } = await thread.command("agent.getTree");
  expect(meta.applied_through_seq).toBeGreaterThanOrEqual(events.at(-1).seq);
});

behaviour("commands.start", async ({ api }) => {
  const thread = new Thread(api);
  const { run_id } = await thread.start("plain", { value: 1 });
  expect(await thread.output(run_id)).toMatchObject({ value: 4 });
  expect(await api.get(`/threads/${thread.id}/runs/${run_id}`)).toMatchObject({ run_id, status: "success" });
});

behaviour("commands.start.no-assistant", async ({ api }) => {
  expect(await new Thread(api).code("run.start", { input: {} })).toBe("invalid_argument");
  expect(await new Thread(api).code("run.start", { input: {}, assistant_id: "nobody" })).toBe("invalid_argument");
});

behaviour("commands.start.fork", async ({ api }) => {
  const thread = new Thread(api);
  await thread.ran("plain", { value: 1 });
  const [, second] = await api.history(thread.id);
  const config = { configurable: { checkpoint_id: second.checkpoint.checkpoint_id } };
  expect(await thread.ran("plain", null, { config })).toMatchObject({ value: 4 });
  const bad = { assistant_id: "plain", input: null, config: { configurable: { checkpoint_id: NOBODY } } };
  expect(await thread.code("run.start", bad)).toBe("no_such_checkpoint");
});

behaviour("commands.start.strategy", async ({ api }) => {
  const thread = new Thread(api);
  await using busy = await api.busy({ if_not_exists: "create" }, thread.id);
  for (const spelling of ["multitask_strategy", "multitaskStrategy"])
    expect(await thread.code("run.start", { assistant_id: "plain", input: {}, [spelling]: "reject" })).toBe(
      "invalid_argument",
    );
  await thread.ran("plain", { value: 1 }, { multitask_strategy: "interrupt" });
  expect((await api.get(busy.path)).status).toBe("interrupted");
});

behaviour("commands.start.resume", async ({ api }) => {
  const thread = new Thread(api);
  await thread.ran("hitl", { question: "Sure?" });
  expect((await thread.ran("hitl", "yes")).answers).toEqual({ person: "yes" });
});

behaviour("commands.respond", async ({ api }) => {
  const thread = new Thread(api);
  await thread.ran("hitl", { question: "Sure?" });
  const [{ id }] = await thread.questions();
  await thread.result("input.respond", { namespace: [], interrupt_id: id, response: "yes" });
  await eventually(async () => (await api.state(thread.id)).values.answers?.person === "yes");
});

behaviour("commands.respond.batch", async ({ api }) => {
  const thread = new Thread(api);
  await thread.ran("hitl2", {});
  const responses = (await thread.questions()).map(({ id, value }) => ({
    namespace: [],
    interrupt_id: id,
    response: value.ask,
  }));
  expect(responses).toHaveLength(2);
  await thread.result("input.respond", { responses });
  await eventually(async () => (await api.state(thread.id)).values.done === "left+right");
});

behaviour("commands.respond.update", async ({ api }) => {
  const thread = new Thread(api);
  await thread.ran("hitl", {});
  const [{ id }] = await thread.questions();
  const update = { answers: { other: "update" } };
  await thread.result("input.respond", { namespace: [], interrupt_id: id, response: "yes", update });
  await eventually(async () => (await api.state(thread.id)).values.answers?.person === "yes");
  expect((await api.state(thread.id)).values.answers).toEqual({ other: "update", person: "yes" });
});

behaviour("commands.respond.unknown", async ({ api }) => {
  const thread = new Thread(api);
  await thread.ran("hitl", {});
  const answer = { namespace: [], interrupt_id: "0".repeat(32), response: "yes" };
  expect(await thread.code("input.respond", answer)).toBe("no_such_interrupt");
});

behaviour("commands.respond.none", async ({ api }) => {
  const answer = { namespace: [], interrupt_id: "0".repeat(32), response: "yes" };
  const thread = new Thread(api);
  expect(await thread.code("input.respond", answer)).toBe("no_such_run");
  await thread.ran("plain", {});
  expect(await thread.code("input.respond", answer)).toBe("invalid_argument");
});

behaviour("commands.tree", async ({ api }) => {
  const thread = new Thread(api);
  expect(await thread.code("agent.getTree")).toBe("no_such_run");
  await thread.ran("plain", {});
  const { tree } = await thread.result("agent.getTree");
  expect(tree).toMatchObject({ namespace: [], status: "completed", graph_name: "plain" });
});

behaviour("commands.state", async ({ api }) => {
  const thread = new Thread(api);
  await thread.ran("plain", { value: 1 });
  const [newest] = await api.history(thread.id);
  const { values, checkpoint } = await thread.result("state.get", { namespace: [] });
  expect([values, checkpoint.id]).toEqual([newest.values, newest.checkpoint.checkpoint_id]);
  const { checkpoints } = await thread.result("state.listCheckpoints", { limit: 1 });
  expect(checkpoints).toMatchObject([{ id: checkpoint.id, timestamp: newest.created_at, step: newest.metadata.step }]);
  expect(await thread.code("state.get", { namespace: ["nowhere:1"] })).toBe("no_such_namespace");
});

behaviour("commands.fork", async ({ api }) => {
  const thread = new Thread(api);
  await thread.ran("plain", { value: 1 });
  const [, second] = await api.history(thread.id);
  const { run_id, thread_id } = await thread.result("state.fork", {
    checkpoint_id: second.checkpoint.checkpoint_id,
  });
  expect(thread_id).toBe(thread.id);
  expect(await thread.output(run_id)).toMatchObject({ value: 4 });
});

behaviour("commands.subscribe", async ({ api }) => {
  expect(await new Thread(api).code("subscription.subscribe", { channels: ["values"] })).toBe("not_supported");
});

behaviour("events.envelope", async ({ api }) => {
  const thread = new Thread(api);
  const events = await thread.events({ channels: ["values"] }, 1, () => thread.start("plain", { value: 1 }));
  for (const event of events) {
    expect(event).toEqual({
      type: "event",
      event_id: expect.any(String),
      seq: expect.any(Number),
      method: expect.any(String),
      params: expect.objectContaining({ namespace: expect.any(Array), timestamp: expect.any(Number) }),
    });
  }
  expect(new Set(events.map(({ event_id }) => event_id)).size).toBe(events.length);
});

behaviour("events.lifecycle", async ({ api }) => {
  const thread = new Thread(api);
  await thread.start("plain", {});
  expect(data(await thread.events({}), "lifecycle")).toMatchObject([
    { event: "running", graph_name: "plain" },
    { event: "completed", graph_name: "plain" },
  ]);
});

behaviour("events.values", async ({ api }) => {
  const thread = new Thread(api);
  await thread.start("plain", { value: 1 });
  const events = await thread.events({ channels: ["values", "checkpoints"] });
  expect(data(events, "values").map(({ value }) => value)).toEqual([1, 2, 4]);
  for (const [index, event] of events.entries()) {
    if (event.method === "values") expect(events[index - 1]?.method).toBe("checkpoints");
  }
  const history = await api.history(thread.id);
  expect(data(events, "checkpoints").map(({ id }) => id)).toContain(history[0].checkpoint.checkpoint_id);
});

behaviour("events.messages", async ({ api }) => {
  const thread = new Thread(api);
  await thread.start("chat", HELLO);
  const said = data(await thread.events({ channels: ["messages"] }), "messages");
  expect(said[0]).toMatchObject({ event: "message-start", role: "ai" });
  expect(said.at(-1)).toMatchObject({ event: "message-finish" });
  const deltas = said.filter(({ event }) => event === "content-block-delta");
  expect(deltas.length).toBeGreaterThan(1);
  expect(deltas.map(({ delta }) => delta.text).join("")).toBe("You said: hello world");
  const block = said
    .map(({ event }) => event)
    .filter((event) => event.startsWith("content-block-") && !/delta/.test(event));
  expect(block).toEqual(["content-block-start", "content-block-finish"]);
});

behaviour("events.tools", async ({ api }) => {
  const thread = new Thread(api);
  await thread.start("agent", HELLO);
  const tools = data(await thread.events({ channels: ["tools"] }), "tools");
  const [started] = tools;
  expect(started).toMatchObject({
    event: "tool-started",
    tool_call_id: expect.any(String),
    tool_name: expect.any(String),
  });
  expect(tools.find(({ event }) => event === "tool-finished")?.tool_call_id).toBe(started.tool_call_id);
});

behaviour("events.input", async ({ api }) => {
  const thread = new Thread(api);
  await thread.start("hitl", { question: "Sure?" });
  const events = await thread.events({ channels: ["input"] });
  const [asked] = on(events, "input.requested");
  expect(data(events, "lifecycle").at(-1)).toMatchObject({ event: "interrupted" });
  await eventually(async () => (await thread.questions()).length > 0);
  const [{ id, value }] = await thread.questions();
  expect(asked.params.data).toMatchObject({ interrupt_id: id, payload: value });
});

behaviour("events.error", async ({ api }) => {
  const thread = new Thread(api);
  await thread.start("error", {});
  const end = data(await thread.events({}), "lifecycle").at(-1);
  expect(end).toMatchObject({ event: "failed", error: expect.stringMatching(/\S/) });
});

behaviour("events.channels", async ({ api }) => {
  const thread = new Thread(api);
  await thread.start("plain", {});
  const events = await thread.events({ channels: ["updates"] });
  expect(new Set(events.map(({ method }) => method))).toEqual(new Set(["lifecycle", "updates"]));
});

behaviour("events.custom", async ({ api }) => {
  const thread = new Thread(api);
  await thread.start("plain", {});
  const custom = data(await thread.events({ channels: ["custom"] }), "custom");
  expect(custom).toEqual([{ payload: { progress: 1 } }, { payload: { progress: 2 } }]);
});

behaviour("events.depth", async ({ api }) => {
  const thread = new Thread(api);
  await thread.start("nested", {});
  const deepest = (events: readonly Any[]): number => Math.max(...events.map(({ params }) => params.namespace.length));
  const channels = ["values"];
  const all = await thread.events({ channels });
  expect(deepest(all)).toBe(2);
  expect(deepest(await thread.events({ channels, namespaces: [[]], depth: 1 }))).toBe(1);
  const [segment] = all.flatMap(({ params }) => params.namespace);
  const below = await api.open(`/threads/${thread.id}/stream/events`, {
    body: { channels, namespaces: [[segment.split(":")[0]]] },
  });
  await using _ = below;
  for await (const frame of below) {
    if (frame.data === undefined) continue;
    expect(json(frame).params.namespace[0]).toBe(segment);
    break;
  }
});

behaviour("events.replay", async ({ api }) => {
  const thread = new Thread(api);
  const body = { channels: ["values", "updates", "tasks", "checkpoints"] };
  const live = await thread.events(body, 1, () => thread.start("plain", {}));
  expect(await thread.events(body)).toEqual(live);
});

behaviour("events.since", async ({ api }) => {
  const thread = new Thread(api);
  await thread.start("plain", {});
  const all = await thread.events({ channels: ["values"] });
  const since = all[2].seq;
  expect(await thread.events({ channels: ["values"], since })).toEqual(all.filter(({ seq }) => seq > since));
});

behaviour("events.rest-run", async ({ api }) => {
  const thread = new Thread(api);
  await api.post("/threads", { thread_id: thread.id });
  const body = { assistant_id: "chat", input: HELLO };
  const events = await thread.events({ channels: ["messages", "values"] }, 1, () =>
    api.post(`/threads/${thread.id}/runs`, body),
  );
  expect(data(events, "lifecycle").map(({ event }) => event)).toEqual(["running", "completed"]);
  const text = data(events, "messages").flatMap(({ delta }) => delta?.text ?? []);
  expect(text.join("")).toBe("You said: hello world");
  expect(data(events, "values").length).toBeGreaterThan(0);
});

behaviour("events.two-runs", async ({ api }) => {
  const thread = new Thread(api);
  await thread.ran("plain", {});
  await thread.start("plain", {});
  const seqs = (await thread.events({ channels: ["values"] }, 2)).map(({ seq }) => seq);
  expect(seqs).toEqual([...seqs].sort((a, b) => a - b));
  expect(new Set(seqs).size).toBe(seqs.length);
});

behaviour("events.bad-body", async ({ api }) => {
  for (const body of ["{bad", "{}", '{"channels":[]}', '{"channels":["nope"]}', '{"channels":["values"],"since":-1}']) {
    const response = await api.raw(`/threads/${NOBODY}/stream/events`, { method: "POST", body });
    expect([body, response.status]).toEqual([body, 400]);
    expect(await response.json()).toEqual({ detail: expect.stringMatching(/\S/) });
  }
});
