/** One attempt: config, resuming, cancelling, draining, failing, state questions. */
import { afterEach, beforeAll, expect, it } from "vitest";
import { PendingWrite } from "../../src/engine/pending-write.ts";
import { type Harness, harness, job, MapStorage, spec } from "./support.ts";

const GRAPHS = [
  ["plain", "builder", "hitl", "err", "stubborn", "slow", "crashy", "loop", "circular", "configured", "remembers"],
  ["throwsText", "fan", "big", "later", "factory", "sub", "hitlsub", "chat", "toolAgent"],
].flat();
let h: Harness;

interface TestGlobals {
  __gate?: (() => Promise<void>) | undefined;
}
const globals = globalThis as TestGlobals;

/** A gate a node waits at: `reached` tells it is there, `open` lets it go on. */
function gate(): { reached: Promise<void>; open: () => void } {
  let reach: () => void = () => undefined;
  let open: () => void = () => undefined;
  const reached = new Promise<void>((resolve) => {
    reach = resolve;
  });
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  globals.__gate = () => {
    reach();
    return opened;
  };
  return { reached, open };
}

beforeAll(async () => {
  h = harness(GRAPHS.map((id) => spec(id)));
  await h.loaded;
});
afterEach(() => {
  globals.__gate = undefined;
});

it("shows settings to nodes as configurable and as context", async () => {
  const fromContext = await h.run("configured", {
    kwargs: { context: { tone: "kind" }, config: { configurable: {}, tags: ["t"] } },
  });
  expect(fromContext.outcome).toMatchObject({ kind: "success" });
  const [, after] = fromContext.data("values") as { foo: unknown }[];
  expect(after?.foo).toMatchObject({ configurable: "kind", context: "kind" });
  const fromConfig = await h.run("configured", { kwargs: { config: { configurable: { tone: "dry" } } } });
  expect((fromConfig.data("values") as { foo: unknown }[])[1]?.foo).toMatchObject({ configurable: "dry" });
});

it("gives nodes the long-term store", async () => {
  const ran = await h.run("remembers");
  expect(ran.data("values").at(-1)).toMatchObject({ foo: { item: { v: 1 }, found: 1 } });
});

it("calls a factory with the run's config", async () => {
  const plain = await h.run("factory");
  expect(plain.outcome.kind).toBe("success");
  const asks = await h.run("factory", { kwargs: { config: { configurable: { which: "hitl" } } } });
  expect(asks.outcome.kind).toBe("interrupted");
});

it.each([
  ["GraphRecursionError", "loop"],
  ["SerializationError", "circular"],
  ["TypeError", "err"],
  ["GraphNotFound", "nowhere"],
])("reports %s", async (name, graph_id) => {
  const ran = await h.run(graph_id);
  expect(ran.outcome).toMatchObject({ kind: "error", error: { error: name } });
  expect(ran.names).not.toContain("error");
});

it("keeps the failed task in the snapshot", async () => {
  const { outcome } = await h.run("err");
  if (outcome.kind !== "error") throw new Error(outcome.kind);
  expect(outcome.snapshot?.values).toBe(`{"foo":"x","log":["ok"]}`);
  expect(Object.values(JSON.parse(outcome.snapshot?.interrupts ?? "{}") as object)).toEqual([[]]);
});

it("cancels a node that ignores its signal, and its late rejection harms nobody", async () => {
  const run = job("stubborn");
  const ran = h.run("stubborn", { ...run, kwargs: { stream_mode: ["updates"] } });
  await h.seen(run.run_id, "updates");
  h.send({ type: "cancel", run_id: run.run_id, action: "interrupt" });
  const { outcome } = await ran;
  expect(outcome).toMatchObject({ kind: "cancelled", snapshot: { values: `{"foo":"x","log":["first"]}` } });
  // Past the time the node rejects.
  await new Promise((resolve) => setTimeout(resolve, 1700));
});

it("a rollback is told no state: the thread still shows the one before", async () => {
  const { reached, open } = gate();
  const run = job("slow");
  const ran = h.run("slow", { ...run, kwargs: {} });
  await reached;
  h.send({ type: "cancel", run_id: run.run_id, action: "rollback" });
  expect((await ran).outcome).toEqual({ kind: "cancelled", snapshot: null });
  open();
});

it("drains at the next step, and the next attempt finishes without running finished nodes again", async () => {
  const own = harness([spec("crashy")]);
  const { calls } = (await import("./graphs/basic.mjs" as string)) as { calls: Record<string, number> };
  await own.loaded;
  const run = job("crashy", { kwargs: { input: { foo: "x" } } });
  const before = { ...calls };
  const { reached, open } = gate();
  const { kwargs, ...fields } = run;
  const first = own.run("crashy", { ...fields, kwargs });
  await reached;
  own.send({ type: "drain" });
  open();
  const outcome = (await first).outcome;
  // `two` was the last step, so the run ends by itself; draining stops only what still has steps to go.
  expect(outcome.kind).toBe("success");
  expect((calls["one"] ?? 0) - (before["one"] ?? 0)).toBe(1);
});

it("reports drained between steps, then resumes from the checkpoint", async () => {
  const own = harness([spec("slow")]);
  await own.loaded;
  const { kwargs, ...fields } = job("slow");
  const { reached, open } = gate();
  const first = own.run("slow", { ...fields, kwargs });
  await reached;
  own.send({ type: "drain" });
  open();
  expect((await first).outcome).toEqual({ kind: "drained" });
  globals.__gate = () => Promise.reject(new Error("`one` ran again"));
  const again = harness([spec("slow")], own.storage);
  const second = await again.run("slow", { ...fields, attempt: 2, resume: true, kwargs });
  expect(second.events[0]?.data).toContain(`"attempt":2`);
  expect(second.outcome).toMatchObject({ kind: "success", output: `{"foo":"done","log":["one","two"]}` });
});

it("resumes after a crash in the middle, with what was finished", async () => {
  const own = harness([spec("crashy")]);
  const { calls } = (await import("./graphs/basic.mjs" as string)) as { calls: Record<string, number> };
  const { kwargs, ...fields } = job("crashy", { kwargs: { durability: "sync" } });
  const { reached } = gate();
  void own.run("crashy", { ...fields, kwargs });
  await reached;
  const ones = calls["one"];
  globals.__gate = undefined;
  const next = harness([spec("crashy")], own.storage);
  const ran = await next.run("crashy", { ...fields, attempt: 2, resume: true, kwargs });
  expect(ran.outcome).toMatchObject({ kind: "success", output: `{"foo":"x","log":["one","two"]}` });
  expect(calls["one"]).toBe(ones);
});

it("applies the input when the crashed attempt left no checkpoint", async () => {
  const ran = await h.run("plain", { attempt: 2, resume: true });
  expect(ran.outcome).toMatchObject({ kind: "success", output: `{"foo":"done","log":["one","two"]}` });
});

it("applies a resume again when the crashed attempt had not got past it", async () => {
  const { thread_id } = job("hitl");
  await h.run("hitl", { thread_id });
  const ran = await h.run("hitl", {
    thread_id,
    attempt: 2,
    resume: true,
    kwargs: { input: null, command: { resume: "yes" } },
  });
  expect(ran.outcome).toMatchObject({ kind: "success", output: `{"foo":"\\"yes\\"","log":["ask","finish"]}` });
});

it("reports cancelled without a snapshot when it is fenced", async () => {
  const storage = new MapStorage();
  const own = harness([spec("plain")], storage);
  await own.loaded;
  storage.failWith = "FencedError";
  expect((await own.run("plain")).outcome).toEqual({ kind: "cancelled", snapshot: null });
});

it("forks keep their own values under the same channel versions", async () => {
  const { thread_id } = job("big");
  await h.run("big", { thread_id, kwargs: { input: { foo: "start" } } });
  const history = [...h.storage.rows.values()].filter((row) => row.thread_id === thread_id);
  const [first] = history.sort((a, b) => (a.checkpoint_id < b.checkpoint_id ? -1 : 1));
  const long = "y".repeat(500);
  const fork = await h.run("big", {
    thread_id,
    kwargs: {
      input: { foo: long },
      interrupt_before: ["one"],
      config: { configurable: { checkpoint_id: first?.checkpoint_id } },
    },
  });
  expect(JSON.parse(fork.outcome.kind === "interrupted" ? fork.outcome.output : "{}")).toMatchObject({ foo: long });
  const ask = (checkpoint_id: string | undefined) =>
    h.ask({
      ask: "output",
      graph_id: "big",
      thread_id,
      config: { configurable: {} },
      checkpoint: checkpoint_id === undefined ? {} : { checkpoint_id },
    });
  expect(await ask(undefined)).toMatchObject({ foo: long });
  expect(await ask(history.at(-1)?.checkpoint_id)).toMatchObject({ foo: "x".repeat(1000) });
});

it("answers state like the dev server", async () => {
  const { thread_id } = job("hitlsub");
  await h.run("hitlsub", { thread_id });
  const state = (subgraphs: boolean) =>
    h.ask({ ask: "state", graph_id: "hitlsub", thread_id, config: { configurable: {} }, checkpoint: {}, subgraphs });
  const flat = (await state(false)) as { tasks: Record<string, unknown>[]; metadata: object };
  expect(Object.keys(flat)).toEqual([
    "values",
    "next",
    "tasks",
    "metadata",
    "created_at",
    "checkpoint",
    "parent_checkpoint",
    "interrupts",
    "checkpoint_id",
    "parent_checkpoint_id",
  ]);
  expect(Object.keys(flat.metadata)).toEqual([
    "graph_id",
    "assistant_id",
    "ls_integration",
    "created_by",
    "run_attempt",
    "langgraph_version",
    "langgraph_plan",
    "langgraph_host",
    "run_id",
    "source",
    "step",
    "parents",
    "thread_id",
  ]);
  const child = `child:${String(flat.tasks[0]?.["id"])}`;
  expect(flat.tasks[0]).toMatchObject({ checkpoint: { thread_id, checkpoint_ns: child }, state: null, error: null });
  const deep = (await state(true)) as { tasks: Record<string, unknown>[] };
  expect(deep.tasks[0]).toMatchObject({
    checkpoint: null,
    state: { next: ["ask"], checkpoint: { checkpoint_ns: child } },
  });
});

it("shows the same state however often it is asked, whatever reducers do to the values they get", async () => {
  const mutating = harness([spec("mutates")]);
  const { thread_id } = job("mutates");
  await mutating.run("mutates", { thread_id, kwargs: { input: {} } });
  const where = { graph_id: "mutates", thread_id, config: { configurable: {} }, checkpoint: {} };
  const history = (): Promise<unknown> => mutating.ask({ ask: "history", ...where, limit: 10 });
  const before = (await history()) as { values: { log: string[] } }[];
  expect(before.map(({ values }) => values.log.length)).toEqual([1, 0, 0]);
  for (let i = 0; i < 3; i += 1) {
    const state = (await mutating.ask({ ask: "state", ...where, subgraphs: false })) as { values: { log: string[] } };
    expect(state.values.log).toEqual(["x".repeat(500), "write"]);
  }
  expect(await history()).toEqual(before);
});

it("answers an empty state when there is no checkpoint", async () => {
  const { thread_id } = job("plain");
  expect(
    await h.ask({
      ask: "state",
      graph_id: "plain",
      thread_id,
      config: { configurable: {} },
      checkpoint: {},
      subgraphs: false,
    }),
  ).toMatchObject({
    values: {},
    next: [],
    tasks: [],
    metadata: {},
    checkpoint: null,
    created_at: null,
    interrupts: [],
  });
});

it("answers graph, schemas and subgraphs", async () => {
  const config = { configurable: {} };
  const graph = (await h.ask({ ask: "graph", graph_id: "toolAgent", config, xray: false })) as {
    nodes: { id: string }[];
    edges: object[];
  };
  expect(graph.nodes.map(({ id }) => id)).toEqual(["__start__", "agent", "tools", "__end__"]);
  expect(graph.edges).toContainEqual({ source: "agent", target: "tools", conditional: true });
  const schemas = (await h.ask({ ask: "schemas", graph_id: "toolAgent", config, types: null })) as Record<
    string,
    { properties: object }
  >;
  expect(schemas["input_schema"]?.properties).toHaveProperty("messages.items.properties.content");
  const subgraphs = { ask: "subgraphs", graph_id: "sub", config, namespace: null, types: null } as const;
  expect(Object.keys((await h.ask({ ...subgraphs, recurse: false })) as object)).toEqual(["middle"]);
  expect(Object.keys((await h.ask({ ...subgraphs, recurse: true })) as object)).toEqual(["middle", "middle|inner"]);
  await expect(h.ask({ ask: "schemas", graph_id: "nowhere", config, types: null })).rejects.toThrow("not loaded");
});

it("stores a large value once and never changes the loaded graph", async () => {
  const { thread_id } = job("big");
  const { big } = (await import("./graphs/basic.mjs" as string)) as {
    big: { checkpointer?: unknown; store?: unknown };
  };
  await h.run("big", { thread_id });
  const blobs = [...h.storage.blobs.keys()].filter((key) => (JSON.parse(key) as string[])[0] === thread_id);
  expect(blobs).toHaveLength(1);
  expect([big.checkpointer, big.store]).toEqual([undefined, undefined]);
});

/** The outcome of a run that was sent by hand. */
async function finished(run_id: string): Promise<unknown> {
  for (;;) {
    const end = h.messages.find((m) => m.type === "finished" && m.run_id === run_id);
    if (end?.type === "finished") return end.outcome;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

it("keeps a run that is still being written from running anything", async () => {
  for (const graph_id of ["plain", "factory"]) {
    const write = new PendingWrite();
    const waiting = job(graph_id, { written: write.flag, kwargs: { config: { configurable: { which: "plain" } } } });
    h.send({ type: "run", job: waiting });
    // Another run, sent later, comes to its end meanwhile.
    await h.run("plain");
    expect(h.messages.filter((m) => "run_id" in m && m.run_id === waiting.run_id)).toEqual([]);
    write.settle(true);
    expect(await finished(waiting.run_id)).toMatchObject({ kind: "success" });
  }
});

it("runs nothing of a run that is not written after all", async () => {
  let reached = false;
  globals.__gate = async () => {
    reached = true;
  };
  const write = new PendingWrite();
  const waiting = job("slow", { written: write.flag });
  h.send({ type: "run", job: waiting });
  await h.run("plain");
  write.settle(false);
  // What came too late is not heard.
  write.settle(true);
  expect(await finished(waiting.run_id)).toEqual({ kind: "cancelled", snapshot: null });
  expect(reached).toBe(false);
});
