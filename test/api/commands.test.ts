/** Commands of streaming v2 over HTTP: each method, each error code. What the runs stream is tested elsewhere. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type Any, type Body, useServer, useTempDir } from "../runs/support.ts";
import { eventually } from "../support/server.ts";

const api = useServer();
const temp = useTempDir();
const NOBODY = "01a20228-0000-7000-8000-000000000000";
let last = 0;

/** A thread and commands on it. */
class Thread {
  readonly id: string;
  readonly url: string;

  constructor(id: string = crypto.randomUUID(), url: string = api.url) {
    this.id = id;
    this.url = url;
  }

  async send(body: unknown, headers: Record<string, string> = {}): Promise<{ status: number; body: Any }> {
    const response = await fetch(`${this.url}/threads/${this.id}/commands`, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: typeof body === "string" ? body : JSON.stringify(body),
    });
    return { status: response.status, body: await response.json() };
  }

  async command(method: string, params?: unknown, headers?: Record<string, string>): Promise<Any> {
    last += 1;
    const id = last;
    const { status, body } = await this.send({ id, method, params }, headers);
    expect([status, body.id]).toEqual([200, id]);
    expect(body.meta).toEqual({ thread_id: this.id, applied_through_seq: expect.any(Number) });
    return body;
  }

  async result(method: string, params?: unknown, headers?: Record<string, string>): Promise<Any> {
    const answer = await this.command(method, params, headers);
    expect(answer).toMatchObject({ type: "success" });
    return answer.result;
  }

  async refused(method: string, params?: unknown, headers?: Record<string, string>): Promise<[string, string]> {
    const answer = await this.command(method, params, headers);
    expect(Object.keys(answer).sort()).toEqual(["error", "id", "message", "meta", "type"]);
    expect(answer.type).toBe("error");
    return [answer.error, answer.message];
  }

  start(assistant_id: string, input: unknown, more: Body = {}): Promise<Any> {
    return this.result("run.start", { assistant_id, input, ...more });
  }

  /** Starts a run and waits for its output. */
  async ran(assistant_id: string, input: unknown, more: Body = {}): Promise<Any> {
    return this.output((await this.start(assistant_id, input, more)).run_id);
  }

  async output(run_id: string): Promise<Any> {
    return (await fetch(`${this.url}/threads/${this.id}/runs/${run_id}/join`)).json();
  }

  async respond(params: Body): Promise<Any> {
    return this.output((await this.result("input.respond", params)).run_id);
  }

  async get(path = ""): Promise<Any> {
    return (await fetch(`${this.url}/threads/${this.id}${path}`)).json();
  }

  runs(): Promise<Any> {
    return this.get("/runs?limit=100");
  }
}

const questionsOf = (output: Any): Any[] => output.__interrupt__ ?? [];
const unknown = (method: string, params: Body = {}): Promise<[string, string]> => new Thread().refused(method, params);

describe("the envelope", () => {
  test.each([
    ["no JSON", "{bad", null],
    ["no object", "[]", null],
    ["nothing", "", null],
    ["no id", '{"method":"run.start"}', null],
    ["a negative id", '{"id":-1,"method":"run.start"}', null],
    ["a fraction", '{"id":1.5,"method":"run.start"}', null],
    ["no method", '{"id":7}', 7],
    ["params that are no object", '{"id":7,"method":"run.start","params":[]}', 7],
  ])("%s: 400, with what is wrong", async (_, text, id) => {
    const { status, body } = await new Thread().send(text);
    expect([status, body]).toEqual([
      400,
      { type: "error", id, error: "invalid_argument", message: expect.any(String), detail: body.message },
    ]);
  });

  test("a thread that is no UUID: 422", async () => {
    const { status, body } = await new Thread("nope").send({ id: 1, method: "run.start" });
    expect([status, Object.keys(body), body.detail]).toEqual([422, ["detail"], expect.stringContaining("thread_id")]);
  });

  test("unknown methods need no thread; subscriptions need a connection", async () => {
    for (const method of ["nope", "run.input", "constructor", "__proto__"]) {
      expect(await unknown(method)).toEqual(["unknown_command", expect.stringContaining(method)]);
    }
    for (const method of ["subscribe", "unsubscribe", "reconnect"]) {
      expect((await unknown(`subscription.${method}`, { channels: ["values"] }))[0]).toBe("not_supported");
    }
  });
});

describe("run.start", () => {
  test("makes the thread, and a run that REST knows", async () => {
    const thread = new Thread();
    const { run_id } = await thread.start("plain", { value: 1 }, { metadata: { a: 1 }, config: { tags: ["t"] } });
    expect(await thread.output(run_id)).toEqual({ value: 4, steps: ["first", "second"] });
    const [run] = await thread.runs();
    expect(run).toMatchObject({ run_id, status: "success", multitask_strategy: "enqueue", metadata: { a: 1 } });
    expect(run.kwargs).toMatchObject({ protocol: "native", resumable: true, subgraphs: true, config: { tags: ["t"] } });
    expect((await thread.get()).status).toBe("idle");
  });

  test("refuses what is not there or does not fit, and makes nothing", async () => {
    for (const [params, says] of [
      [{ input: {} }, "assistant_id"],
      [{ assistant_id: "nobody" }, "nobody"],
      [{ assistant_id: "plain", multitask_strategy: "never" }, "multitask_strategy"],
      [{ assistant_id: "plain", multitaskStrategy: 1 }, "multitaskStrategy"],
      [{ assistant_id: "plain", config: [] }, "config"],
    ] as const) {
      const thread = new Thread();
      expect(await thread.refused("run.start", params)).toEqual(["invalid_argument", expect.stringContaining(says)]);
      expect((await thread.get()).detail).toContain("not found");
    }
    const thread = new Thread();
    const config = { configurable: { checkpoint_id: NOBODY } };
    expect((await thread.refused("run.start", { assistant_id: "plain", input: {}, config }))[0]).toBe(
      "no_such_checkpoint",
    );
  });

  test("a checkpoint in the config is where it begins", async () => {
    const thread = new Thread();
    await thread.ran("plain", { value: 1 });
    const history = await thread.get("/history?limit=10");
    const { checkpoint_id } = history[1].checkpoint;
    expect(history[1].next).toEqual(["second"]);
    expect(await thread.ran("plain", null, { config: { configurable: { checkpoint_id } } })).toEqual({
      value: 4,
      steps: ["first", "second"],
    });
    expect((await thread.get("/history?limit=10")).length).toBeGreaterThan(history.length);
  });

  test.each(["multitask_strategy", "multitaskStrategy"])("%s: reject, and the others", async (field) => {
    const thread = new Thread();
    const { run_id } = await thread.start("slow", { delay_ms: 60_000 });
    const busy = await thread.refused("run.start", { assistant_id: "plain", input: {}, [field]: "reject" });
    expect(busy).toEqual(["invalid_argument", expect.stringContaining(run_id)]);
    expect(await thread.ran("plain", { value: 1 }, { [field]: "interrupt" })).toMatchObject({ value: 4 });
    expect((await thread.get(`/runs/${run_id}`)).status).toBe("interrupted");
    const gone = await thread.start("slow", { delay_ms: 60_000 });
    const next = { value: 1, steps: [] };
    expect(await thread.ran("plain", next, { [field]: "rollback" })).toMatchObject({ value: 4 });
    expect((await thread.get(`/runs/${gone.run_id}`)).detail).toContain("not found");
  });

  test("the snake_case spelling wins", async () => {
    const thread = new Thread();
    await thread.start("plain", {}, { multitask_strategy: "interrupt", multitaskStrategy: "reject" });
    expect((await thread.runs())[0].multitask_strategy).toBe("interrupt");
  });

  test("where the thread waits, the input is the answer; with a run under way, it is another input", async () => {
    const thread = new Thread();
    await thread.ran("hitl", {});
    expect(await thread.ran("hitl", { said: "yes" })).toMatchObject({ answers: { person: { said: "yes" } } });

    const busy = new Thread();
    const gate = join(temp.dir, "input");
    await busy.ran("questions", { gate });
    await busy.start("questions", "a");
    const third = await busy.start("questions", { answers: ["input"] });
    writeFileSync(gate, "");
    expect((await busy.output(third.run_id)).answers).toEqual(["1: a", "input"]);
  });

  test("a command is taken as REST takes it, or as the input that RemoteGraph makes of it", async () => {
    const thread = new Thread();
    for (const make of [
      (resume: string) => ({ input: null, command: { resume } }),
      (resume: string) => ({ input: { lg_name: "Command", resume, goto: [] } }),
    ]) {
      await thread.ran("hitl", {});
      const { run_id } = await thread.result("run.start", { assistant_id: "hitl", ...make("yes") });
      expect(await thread.output(run_id)).toMatchObject({ answers: { person: "yes" } });
    }
    const params = { assistant_id: "hitl", input: { lg_name: "Command", goto: 1 } };
    expect(await thread.refused("run.start", params)).toEqual(["invalid_argument", expect.stringMatching(/^input: /)]);
  });

  test("static breakpoints take no answer", async () => {
    const thread = new Thread();
    await thread.ran("plain", { value: 1 }, { interrupt_before: ["second"] });
    expect((await thread.get()).status).toBe("interrupted");
    expect(await thread.ran("plain", null)).toEqual({ value: 4, steps: ["first", "second"] });
  });

  test("a key makes it once; the same key for another request is refused", async () => {
    const thread = new Thread();
    const headers = { "idempotency-key": `start-${thread.id}` };
    const params = { assistant_id: "plain", input: { value: 1 } };
    const answers = await Promise.all([1, 2, 3].map(() => thread.result("run.start", params, headers)));
    expect(new Set(answers.map(({ run_id }) => run_id)).size).toBe(1);
    expect(await thread.runs()).toHaveLength(1);
    expect(await thread.refused("run.start", { ...params, input: { value: 2 } }, headers)).toEqual([
      "invalid_argument",
      expect.stringContaining("Idempotency-Key"),
    ]);
    expect((await thread.send({ id: 1, method: "run.start", params }, { "idempotency-key": "" })).status).toBe(422);
  });
});

describe("input.respond", () => {
  test("needs a thread on which something ran", async () => {
    expect((await unknown("input.respond", { interrupt_id: "a", response: 1 }))[0]).toBe("no_such_run");
    const empty = new Thread(await api.thread());
    expect((await empty.refused("input.respond", { interrupt_id: "a", response: 1 }))[0]).toBe("no_such_run");
  });

  test("needs an interrupt that waits", async () => {
    const thread = new Thread();
    await thread.ran("plain", { value: 1 });
    const answer = { namespace: [], interrupt_id: "0".repeat(32), response: 1 };
    expect((await thread.refused("input.respond", answer))[0]).toBe("invalid_argument");
    const asked = new Thread();
    await asked.ran("hitl", {});
    expect(await asked.refused("input.respond", answer)).toEqual([
      "no_such_interrupt",
      expect.stringContaining(answer.interrupt_id),
    ]);
    for (const [params, says] of [
      [{}, "interrupt_id"],
      [{ responses: [] }, "responses"],
      [{ responses: [{ response: 1 }] }, "responses.0.interrupt_id"],
      [{ responses: [answer, answer] }, "responses.1.interrupt_id"],
      [{ ...answer, responses: [answer] }, "interrupt_id"],
      [{ ...answer, goto: 1 }, "goto"],
    ] as const) {
      expect(await asked.refused("input.respond", params)).toEqual(["invalid_argument", expect.stringContaining(says)]);
    }
    expect(await asked.runs()).toHaveLength(1);
  });

  test.each([["yes"], [false], [null], [{ any: "thing" }]])("one, %j", async (response) => {
    const thread = new Thread();
    const [{ id }] = questionsOf(await thread.ran("hitl", {}));
    const output = await thread.respond({ namespace: [], interrupt_id: id, response });
    expect(output).toMatchObject({ answers: { person: response }, done: "person" });
    expect((await thread.runs())[0].kwargs.answers).toEqual([id]);
  });

  test("several at once, or some of them", async () => {
    const thread = new Thread();
    const answers = (asked: Any[]) =>
      asked.map(({ id, value }) => ({ namespace: [], interrupt_id: id, response: value.ask }));
    const all = answers(questionsOf(await thread.ran("hitl2", {})));
    expect(await thread.respond({ responses: all })).toMatchObject({ answers: { left: "left", right: "right" } });

    const other = new Thread();
    const [one, two] = answers(questionsOf(await other.ran("hitl2", {})));
    expect(questionsOf(await other.respond({ responses: [one] })).map(({ id }) => id)).toEqual([two?.interrupt_id]);
    expect((await other.refused("input.respond", { responses: [one, two] }))[0]).toBe("no_such_interrupt");
    expect(await other.respond(two as Body)).toMatchObject({ done: "left+right" });
  });

  test("in a subgraph of a subgraph, without saying where, or at any graph that it waits in", async () => {
    const ask = async (): Promise<{ thread: Thread; id: string; namespace: string[] }> => {
      const thread = new Thread();
      const [{ id }] = questionsOf(await thread.ran("nested", { ask: true }));
      await using events = await api.open(`/threads/${thread.id}/stream/events`, { body: { channels: ["input"] } });
      const { params } = JSON.parse((await events.next())?.data ?? "");
      expect([params.namespace.length, params.data.interrupt_id]).toEqual([2, id]);
      return { thread, id, namespace: params.namespace };
    };
    const { thread, id: interrupt_id, namespace } = await ask();
    const refused = (at: string[], id = interrupt_id) =>
      thread.refused("input.respond", { responses: [{ namespace: at, interrupt_id: id, response: 1 }] });
    expect(await refused(["elsewhere"])).toEqual(["no_such_namespace", expect.stringContaining("elsewhere")]);
    expect((await refused([...namespace, "deeper:1"]))[0]).toBe("no_such_namespace");
    expect((await refused(namespace, "0".repeat(32)))[0]).toBe("no_such_interrupt");
    expect((await thread.respond({ interrupt_id, response: "sure" })).trail).toContain("answer: sure");
    for (const levels of [0, 1, 2]) {
      const again = await ask();
      const answer = { namespace: again.namespace.slice(0, levels), interrupt_id: again.id, response: "yes" };
      expect((await again.thread.respond(answer)).trail).toContain("answer: yes");
    }
  });

  test("an update and a goto are one step with the answer", async () => {
    const thread = new Thread();
    const [{ id }] = questionsOf(await thread.ran("questions", {}));
    const output = await thread.respond({
      interrupt_id: id,
      response: "a",
      update: { answers: ["update"] },
      goto: ["second"],
    });
    expect(output.answers).toEqual(["update", "1: a"]);
    const sources = (await thread.get("/history?limit=100")).map(({ metadata }: Any) => metadata.source);
    expect(sources.filter((source: string) => source === "update")).toEqual([]);
    const [run] = await thread.runs();
    expect(run.kwargs.command).toEqual({ resume: { [id]: "a" }, update: { answers: ["update"] }, goto: ["second"] });
  });

  test("before the run that asks has ended", async () => {
    const thread = new Thread();
    const [first] = questionsOf(await thread.ran("questions", {}));
    await thread.start("questions", "a");
    // The second question's id is known to none but who sees it asked; an id nobody asks is told after the run's end.
    expect((await thread.refused("input.respond", { interrupt_id: "f".repeat(32), response: 1 }))[0]).toBe(
      "no_such_interrupt",
    );
    const { interrupts } = await thread.get();
    const [second] = Object.values<Any>(interrupts).flat();
    expect(second.id).not.toBe(first.id);
  });

  test("once, though the run that has the answer is still under way", async () => {
    const thread = new Thread();
    const gate = join(temp.dir, "once");
    const [question] = questionsOf(await thread.ran("questions", { gate }));
    const params = { interrupt_id: question.id, response: "yes" };
    const { run_id } = await thread.result("input.respond", params);
    expect(await thread.refused("input.respond", { ...params, response: "no" })).toEqual([
      "invalid_argument",
      expect.stringContaining(run_id),
    ]);
    writeFileSync(gate, "");
    await thread.output(run_id);
    expect((await thread.get("/state")).values.answers).toEqual(["1: yes"]);
    expect(await thread.runs()).toHaveLength(2);
  });

  test("a key answers once", async () => {
    const thread = new Thread();
    const [{ id }] = questionsOf(await thread.ran("hitl", {}));
    const headers = { "idempotency-key": `respond-${thread.id}` };
    const params = { interrupt_id: id, response: "yes" };
    const first = await thread.result("input.respond", params, headers);
    await thread.output(first.run_id);
    expect(await thread.result("input.respond", params, headers)).toEqual(first);
    expect(await thread.runs()).toHaveLength(2);
  });

  test("after a restart", async () => {
    const thread = new Thread();
    const [{ id }] = questionsOf(await thread.ran("hitl", {}));
    await api.server.restart("SIGKILL");
    expect(await thread.respond({ interrupt_id: id, response: "yes" })).toMatchObject({ answers: { person: "yes" } });
  });
});

describe("input.inject", () => {
  test("the message is the next run's input", async () => {
    const thread = new Thread();
    const message = { role: "user", content: "more" };
    expect((await thread.refused("input.inject", { namespace: [], message }))[0]).toBe("no_such_run");
    await thread.ran("chat", { messages: [{ type: "human", content: "hi" }] });
    const { run_id } = await thread.result("input.inject", { namespace: [], message });
    const { messages } = await thread.output(run_id);
    expect(messages.map(({ content }: Any) => content)).toContain("more");
    expect((await thread.refused("input.inject", { namespace: ["a:1"], message }))[0]).toBe("not_supported");
    const bad = await thread.refused("input.inject", { namespace: [], message: { role: "ai", content: "x" } });
    expect(bad).toEqual(["invalid_argument", expect.stringContaining("message.role")]);
  });
});

describe("state", () => {
  test("get: the values, or some, of the root or a subgraph", async () => {
    expect((await unknown("state.get", { namespace: [] }))[0]).toBe("no_such_run");
    const empty = new Thread(await api.thread());
    expect(await empty.result("state.get", { namespace: [] })).toEqual({ values: {} });
    const thread = new Thread();
    await thread.ran("plain", { value: 1 });
    const { checkpoint } = await thread.get("/state");
    expect(await thread.result("state.get", { namespace: [] })).toEqual({
      values: { value: 4, steps: ["first", "second"] },
      checkpoint: { id: checkpoint.checkpoint_id, ns: "" },
    });
    expect((await thread.result("state.get", { keys: ["value", "other"] })).values).toEqual({ value: 4 });
    expect((await thread.refused("state.get", { namespace: ["nowhere:1"] }))[0]).toBe("no_such_namespace");

    const nested = new Thread();
    await nested.ran("nested", { ask: true });
    const { tasks } = await nested.get("/state?subgraphs=true");
    const ns = tasks[0].state.checkpoint.checkpoint_ns;
    const inner = await nested.result("state.get", { namespace: ns.split("|") });
    expect(inner.checkpoint).toEqual({ id: tasks[0].state.checkpoint.checkpoint_id, ns });
    expect(inner.values).toEqual(tasks[0].state.values);
  });

  test("listCheckpoints: newest first, by page", async () => {
    expect((await unknown("state.listCheckpoints"))[0]).toBe("no_such_run");
    const thread = new Thread();
    await thread.ran("plain", { value: 1 });
    const { checkpoints } = await thread.result("state.listCheckpoints");
    const history = await thread.get("/history?limit=10");
    expect(checkpoints).toEqual(
      history.map(({ checkpoint, created_at, metadata }: Any) => ({
        id: checkpoint.checkpoint_id,
        timestamp: created_at,
        step: metadata.step,
        metadata,
      })),
    );
    const page = await thread.result("state.listCheckpoints", { limit: 2, before: checkpoints[0].id });
    expect(page.checkpoints).toEqual(checkpoints.slice(1, 3));
    expect((await thread.refused("state.listCheckpoints", { before: NOBODY }))[0]).toBe("no_such_checkpoint");
    expect((await thread.refused("state.listCheckpoints", { namespace: ["x:1"] }))[0]).toBe("no_such_namespace");
    expect((await thread.refused("state.listCheckpoints", { limit: 0 }))[0]).toBe("invalid_argument");
  });

  test("fork: a run from there, with or without another input", async () => {
    expect((await unknown("state.fork", { checkpoint_id: NOBODY }))[0]).toBe("no_such_run");
    const thread = new Thread();
    await thread.ran("plain", { value: 1 });
    expect((await thread.refused("state.fork", { checkpoint_id: NOBODY }))[0]).toBe("no_such_checkpoint");
    expect((await thread.refused("state.fork", {}))[0]).toBe("invalid_argument");
    const { checkpoints } = await thread.result("state.listCheckpoints");
    const forked = await thread.result("state.fork", { checkpoint_id: checkpoints[1].id });
    expect(forked).toEqual({ run_id: expect.any(String), thread_id: thread.id });
    expect(await thread.output(forked.run_id)).toMatchObject({ value: 4 });
    const other = await thread.result("state.fork", { checkpoint_id: checkpoints.at(-1).id, input: { value: 10 } });
    expect((await thread.output(other.run_id)).value).toBeGreaterThan(10);
  });
});

describe("agent.getTree", () => {
  test("the newest run, or one by id", async () => {
    expect((await unknown("agent.getTree"))[0]).toBe("no_such_run");
    const thread = new Thread();
    const { run_id } = await thread.start("plain", { value: 1 });
    await thread.output(run_id);
    const root = { namespace: [], status: "completed", graph_name: "plain" };
    expect((await thread.result("agent.getTree")).tree).toMatchObject(root);
    await thread.start("slow", { delay_ms: 60_000 });
    await eventually(async () => (await thread.result("agent.getTree")).tree.status === "running");
    expect((await thread.result("agent.getTree", { run_id })).tree).toMatchObject(root);
    expect((await thread.refused("agent.getTree", { run_id: NOBODY }))[0]).toBe("no_such_run");
    expect((await thread.refused("agent.getTree", { run_id: "nope" }))[0]).toBe("invalid_argument");
  });
});
