/** State updates as the executor works them out. */
import { expect, it } from "vitest";
import type { StateChange, UpdateQuestion } from "../../src/executor/protocol.ts";
import { harness, job, type MapStorage, spec } from "./support.ts";

const h = harness([spec("plain"), spec("big"), spec("hitl2"), spec("configured")]);
const LONG = "y".repeat(1000);

const ask = (graph_id: string, thread_id: string, question: Partial<UpdateQuestion> = {}): Promise<StateChange> =>
  h.ask({
    ask: "update",
    graph_id,
    thread_id,
    config: { configurable: {} },
    checkpoint: {},
    supersteps: [[{ values: { foo: "new" }, command: null, as_node: "one" }]],
    metadata: { graph_id },
    ...question,
  }) as Promise<StateChange>;

const step = (values: unknown, as_node: string) => [{ values, command: null, as_node }];

/** As the main thread stores a change. */
function store(storage: MapStorage, { writes }: StateChange): void {
  for (const write of writes) {
    if (write.op === "put_checkpoint") storage.answer({ ...write, run_id: "", fence: 0, durability: "sync" });
    else storage.answer({ ...write, run_id: "", fence: 0 });
  }
}

const state = (graph_id: string, thread_id: string) =>
  h.ask({ ask: "state", graph_id, thread_id, config: { configurable: {} }, checkpoint: {}, subgraphs: false });

it("writes nothing itself, and says what it saw and what the state would be", async () => {
  const { thread_id } = job("plain");
  h.storage.calls.length = 0;
  const change = await ask("plain", thread_id);
  expect(h.storage.calls.map(({ op }) => op)).toEqual(expect.not.arrayContaining(["put_checkpoint", "put_writes"]));
  expect(change.seen).toEqual([{ checkpoint_ns: "", checkpoint_id: null }]);
  expect(JSON.parse(change.snapshot.values ?? "")).toEqual({ foo: "new", log: [] });
  expect(change.snapshot).toMatchObject({ interrupted: true, checkpoint_id: change.checkpoint.checkpoint_id });
  expect(await state("plain", thread_id)).toMatchObject({ checkpoint: null });
  store(h.storage, change);
  expect(await state("plain", thread_id)).toMatchObject({
    values: { foo: "new", log: [] },
    next: ["two"],
    metadata: { graph_id: "plain", source: "update" },
    checkpoint: { checkpoint_id: change.checkpoint.checkpoint_id },
  });
});

it("builds each superstep on the one before, with values too large to stay inside a checkpoint", async () => {
  const { thread_id } = job("big");
  await h.run("big", { thread_id, kwargs: { input: { foo: LONG } } });
  const supersteps = [step({ log: [LONG] }, "one"), step({ log: ["small"] }, "two"), step({ log: ["last"] }, "two")];
  const change = await ask("big", thread_id, { supersteps });
  const rows = change.writes.flatMap((write) => (write.op === "put_checkpoint" ? [write.row] : []));
  expect(rows.map(({ parent_checkpoint_id }) => parent_checkpoint_id)).toEqual([
    change.seen[0]?.checkpoint_id,
    rows[0]?.checkpoint_id,
    rows[1]?.checkpoint_id,
  ]);
  store(h.storage, change);
  const { values } = (await state("big", thread_id)) as { values: { foo: string; log: string[] } };
  expect(values).toEqual({ foo: "x".repeat(1000), log: ["one", "two", LONG, "small", "last"] });
  expect(JSON.parse(change.snapshot.values ?? "")).toEqual(values);
});

it("keeps what a sibling of the updated node has already given", async () => {
  const { thread_id } = job("hitl2");
  const waiting = await h.run("hitl2", { thread_id });
  const { __interrupt__ } = JSON.parse(waiting.outcome.kind === "interrupted" ? waiting.outcome.output : "{}");
  const answer = { resume: { [__interrupt__[0].id]: "A" } };
  await h.run("hitl2", { thread_id, kwargs: { input: null, command: answer } });
  const change = await ask("hitl2", thread_id, { supersteps: [step({ log: ["by hand"] }, "b")] });
  expect(JSON.parse(change.snapshot.values ?? "")).toMatchObject({ log: ['a:"A"', "by hand"] });
  expect(change.snapshot.interrupts).toBe("{}");
});

it("refuses what the graph does not take, and fails when storage does", async () => {
  const { thread_id } = job("plain");
  const answers = () => h.messages.flatMap((m) => (m.type === "answer" && !m.ok ? [m.why] : []));
  await expect(ask("plain", thread_id, { supersteps: [step({}, "nobody")] })).rejects.toThrow(
    'Node "nobody" does not exist',
  );
  await expect(ask("nowhere", thread_id)).rejects.toThrow("not loaded");
  h.storage.failWith = "DiskFull";
  await expect(ask("plain", thread_id)).rejects.toMatchObject({ name: "DiskFull" });
  h.storage.failWith = undefined;
  expect(answers().slice(-3)).toEqual(["refused", "unknown_graph", "failed"]);
});
