/** The JavaScript SDK in the generations that are in use: each streams, waits, joins, reconnects, batches and cancels. */
import { Client } from "@langchain/langgraph-sdk";
import { Client as Client19 } from "sdk-1.9";
import { Client as Client20 } from "sdk-2.0";
import { describe, expect, test } from "vitest";
import { type Any, Gate, numbers, useServer, useTempDir } from "../runs/support.ts";
import { eventually } from "../support/server.ts";
import { Network } from "./network.ts";

const api = useServer();
const temp = useTempDir();

// biome-ignore lint/suspicious/noExplicitAny: three generations of one class; what they share is tested, not their types.
type AnyClient = any;
const SDKS: [string, new (options: { apiUrl: string }) => AnyClient][] = [
  ["1.15", Client],
  ["1.9.31", Client19],
  ["2.0.0", Client20],
];
const input = { value: 1 };
const final = { value: 4, steps: ["first", "second"] };

async function all<T = Any>(stream: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = [];
  for await (const item of stream) items.push(item);
  return items;
}

describe.each(SDKS)("SDK %s", (version, Sdk) => {
  const client = (): AnyClient => new Sdk({ apiUrl: api.url });
  const gateFor = (name: string): Gate => new Gate(temp.dir, `${version}-${name}`);

  test("streams on a thread and without one; learns the run's id; the last event is the last value", async () => {
    const sdk = client();
    const { thread_id } = await sdk.threads.create();
    for (const thread of [thread_id, null]) {
      let created: Any;
      const onRunCreated = (run: Any): void => {
        created = run;
      };
      const events = await all(
        sdk.runs.stream(thread, "plain", { input, streamMode: ["values", "custom"], onRunCreated }),
      );
      expect(events[0]).toMatchObject({ event: "metadata", data: { run_id: expect.any(String), attempt: 1 } });
      expect(events.at(-1)).toMatchObject({ event: "values", data: final });
      expect(events.map(({ id }) => id)).toEqual(numbers(events.length).map(String));
      expect(created.run_id).toBe(events[0].data.run_id);
      expect(created.thread_id ?? undefined).toBe(thread ?? undefined);
    }
  });

  test("streams an agent's tokens", async () => {
    const messages = [{ role: "user", content: "hi you" }];
    const events = await all(client().runs.stream(null, "chat", { input: { messages }, streamMode: "messages-tuple" }));
    const tokens = events.filter(({ event }) => event === "messages").map(({ data }) => data[0].content);
    expect(tokens.join("")).toBe("You said: hi you");
  });

  test("a quiet stream's heartbeats make no events", async () => {
    const gate = gateFor("quiet");
    const stream = client().runs.stream(null, "slow", { input: gate.input, streamMode: "updates", afterSeconds: 1.3 });
    gate.openAll();
    const events = await all(stream);
    expect(events.map(({ event }) => event)).toEqual(["metadata", "updates", "updates", "updates"]);
  });

  test("waits; an error is thrown with its name and message", async () => {
    const sdk = client();
    const { thread_id } = await sdk.threads.create();
    expect(await sdk.runs.wait(null, "plain", { input })).toEqual(final);
    expect(await sdk.runs.wait(thread_id, "plain", { input })).toEqual(final);
    await expect(sdk.runs.wait(null, "error", { input: {} })).rejects.toThrow("TypeError: kaboom");
    const raw = await sdk.runs.wait(null, "error", { input: {}, raiseError: false });
    expect(raw.__error__).toEqual({ error: "TypeError", message: "kaboom" });
  });

  test("an error in a stream is an event with name and message", async () => {
    const events = await all(client().runs.stream(null, "error", { input: {}, streamMode: "updates" }));
    expect(events.at(-1)).toMatchObject({ event: "error", data: { error: "TypeError", message: "kaboom" } });
  });

  test("creates, gets, lists, joins; joins the stream with its modes", async () => {
    const sdk = client();
    const { thread_id } = await sdk.threads.create({ graphId: "plain", metadata: { who: "me" } });
    const streamMode = ["values", "updates"];
    const { run_id } = await sdk.runs.create(thread_id, "plain", { input, streamMode, metadata: { a: 1 } });
    expect(await sdk.runs.join(thread_id, run_id)).toEqual(final);
    expect(await sdk.runs.get(thread_id, run_id)).toMatchObject({ run_id, status: "success", metadata: { a: 1 } });
    expect((await sdk.runs.list(thread_id)).map((run: Any) => run.run_id)).toEqual([run_id]);
    const events = await all(sdk.runs.joinStream(thread_id, run_id, { streamMode: ["updates"] }));
    expect(events.map(({ event }) => event)).toEqual(["metadata", "updates", "updates"]);
    expect((await sdk.threads.get(thread_id)).values).toEqual(final);
    expect((await sdk.threads.getState(thread_id)).values).toEqual(final);
  });

  test("joins again where it left off", async () => {
    const sdk = client();
    const { thread_id } = await sdk.threads.create();
    const { run_id } = await sdk.runs.create(thread_id, "plain", {
      input,
      streamMode: "values",
      streamResumable: true,
    });
    const whole = await all(sdk.runs.joinStream(thread_id, run_id, { lastEventId: "-1" }));
    expect(whole).toHaveLength(4);
    for (const [index] of whole.entries()) {
      const rest = await all(sdk.runs.joinStream(thread_id, run_id, { lastEventId: String(index) }));
      expect(rest).toEqual(whole.slice(index + 1));
    }
  });

  test("a lost connection is mended without a gap or a repeat", async () => {
    await using network = await Network.to(api.url);
    const sdk = new Sdk({ apiUrl: network.url });
    const { thread_id } = await sdk.threads.create();
    for (const thread of [thread_id, null]) {
      const gate = gateFor(`reconnect-${thread === null}`);
      const options = { input: gate.input, streamMode: ["values", "updates"], streamResumable: true };
      const events: Any[] = [];
      let connections = Number.POSITIVE_INFINITY;
      for await (const event of sdk.runs.stream(thread, "slow", options)) {
        events.push(event);
        if (events.length !== 2) continue;
        connections = network.connections;
        network.cut();
        // The rest happens while it is away.
        gate.openAll();
      }
      expect(network.connections).toBeGreaterThan(connections);
      expect(events.map(({ id }) => id)).toEqual(numbers(events.length).map(String));
      expect(events.at(-1)).toMatchObject({ event: "values", data: { steps: [1, 2, 3] } });
    }
  });

  test("batches: the options arrive whatever case they are written in", async () => {
    const sdk = client();
    const made = await sdk.runs.createBatch([
      { assistantId: "echo", input: { input: 1 }, onCompletion: "keep", config: { configurable: { camelCase: 1 } } },
      { assistantId: "plain", input, onCompletion: "keep", streamMode: ["updates"], interruptBefore: ["second"] },
      { assistantId: "plain", input, onCompletion: "keep", metadata: { keepMe: true } },
    ]);
    expect(made).toHaveLength(3);
    const outputs = await Promise.all(made.map(({ run_id }: Any) => api.get(`/runs/${run_id}/join`)));
    expect(outputs[0].seen.configurable.camelCase).toBe(1);
    expect(outputs[1]).toMatchObject({ steps: ["first"] });
    expect(outputs[2]).toEqual(final);
    const stopped = await api.get(`/threads/${made[1].thread_id}`);
    expect(stopped.status).toBe("interrupted");
    const kept = await api.get(`/threads/${made[2].thread_id}/runs/${made[2].run_id}`);
    expect(kept.metadata).toMatchObject({ keepMe: true });
  });

  test("cancels, waiting or not, interrupting or rolling back", async () => {
    const sdk = client();
    for (const [wait, action] of [
      [true, undefined],
      [false, "interrupt"],
      [true, "rollback"],
    ] as const) {
      const gate = gateFor(`cancel-${wait}-${action}`);
      const { thread_id } = await sdk.threads.create();
      const { run_id } = await sdk.runs.create(thread_id, "slow", { input: gate.input });
      await eventually(() => gate.log.includes("start 1"));
      await sdk.runs.cancel(thread_id, run_id, wait, action);
      await eventually(() => gate.log.includes("aborted 1"));
      if (action === "rollback") await expect(sdk.runs.get(thread_id, run_id)).rejects.toThrow("404");
      else if (wait) expect((await sdk.runs.get(thread_id, run_id)).status).toBe("interrupted");
      else await eventually(async () => (await sdk.runs.get(thread_id, run_id)).status === "interrupted");
    }
  });

  test("onDisconnect cancel: breaking out of the loop stops the run", async () => {
    const gate = gateFor("break");
    const sdk = client();
    const { thread_id } = await sdk.threads.create();
    const abort = new AbortController();
    const options = { input: gate.input, onDisconnect: "cancel", signal: abort.signal };
    const stream = sdk.runs.stream(thread_id, "slow", options);
    const iterator = stream[Symbol.asyncIterator]();
    await iterator.next();
    await eventually(() => gate.log.includes("start 1"));
    abort.abort();
    await Promise.resolve(iterator.return?.()).catch(() => undefined);
    await eventually(() => gate.log.includes("aborted 1"));
  });

  test("human in the loop: interrupt, resume", async () => {
    const sdk = client();
    const { thread_id } = await sdk.threads.create();
    const asked = await sdk.runs.wait(thread_id, "hitl", { input: { question: "Sure?" } });
    expect(asked.__interrupt__[0].value).toEqual({ ask: "person", question: "Sure?" });
    const [task] = (await sdk.threads.getState(thread_id)).tasks;
    expect(task.interrupts).toEqual(asked.__interrupt__);
    expect(await sdk.runs.wait(thread_id, "hitl", { command: { resume: "yes" } })).toMatchObject({ done: "person" });
  });

  test("assistants: get, search, graph, schemas", async () => {
    const sdk = client();
    const { assistant_id } = await sdk.assistants.get("plain");
    const found = await sdk.assistants.search({ graphId: "plain" });
    expect(found.map((assistant: Any) => assistant.assistant_id)).toEqual([assistant_id]);
    const { nodes } = await sdk.assistants.getGraph("plain");
    expect(nodes.map(({ id }: Any) => id)).toEqual(expect.arrayContaining(["first", "second"]));
    expect(await sdk.assistants.getSchemas("plain")).toMatchObject({ graph_id: "plain" });
    expect(Object.keys(await sdk.assistants.getSubgraphs("nested", { recurse: true }))).toEqual([
      "middle",
      "middle|inner",
    ]);
    const one = { namespace: "middle|inner", recurse: true };
    expect(Object.keys(await sdk.assistants.getSubgraphs("nested", one))).toEqual(["middle|inner"]);
  });

  test("what is not there: the status and the sentence", async () => {
    const sdk = client();
    await expect(sdk.runs.wait(null, "nobody", { input })).rejects.toThrow(/404.*nobody/);
    await expect(sdk.threads.get("01a20228-0000-7000-8000-000000000000")).rejects.toThrow(/404.*detail/);
  });
});
