import { expect } from "vitest";
import { type Any, numbers } from "../../runs/support.ts";
import { asking, type Cases, ended, final, input, NOBODY, pick, type World } from "./support.ts";

const history = async ({ sdk }: World, thread: string, options = {}): Promise<Any[]> =>
  sdk.threads.getHistory(thread, options);

export const threads: Cases = {
  async get(world) {
    const { sdk, mine, newest } = world;
    const thread_id = await ended(world);
    const thread = await sdk.threads.get(thread_id);
    expect(thread).toMatchObject({ thread_id, status: "idle", values: final, interrupts: {} });
    expect(thread.metadata).toMatchObject({ ...mine, graph_id: "plain" });
    if (newest) expect(await sdk.threads.get(thread_id, { include: ["ttl"] })).toMatchObject({ ttl: null });
    await expect(sdk.threads.get(NOBODY)).rejects.toThrow("404");
  },

  async create({ sdk, mine, api }) {
    const threadId = crypto.randomUUID();
    const thread = await sdk.threads.create({ threadId, metadata: mine, graphId: "plain", ttl: 60 });
    expect(thread).toMatchObject({ thread_id: threadId, status: "idle", metadata: { ...mine, graph_id: "plain" } });
    const { ttl } = await api.get(`/threads/${threadId}?include=ttl`);
    expect(ttl).toMatchObject({ strategy: "delete", ttl_minutes: 60 });
    expect(await sdk.threads.create({ threadId, ifExists: "do_nothing" })).toMatchObject({ metadata: mine });
    await expect(sdk.threads.create({ threadId, ifExists: "raise" })).rejects.toThrow("409");

    const updates = [
      // As a history has it: the input, and the step that spreads it over the channels.
      { values: { value: 5, steps: ["before"] }, asNode: "__input__" },
      { values: { value: 5, steps: ["before"] }, asNode: "__start__" },
      { values: { value: 6, steps: ["told"] }, asNode: "first" },
    ];
    const supersteps = updates.map((update) => ({ updates: [update] }));
    const { thread_id } = await sdk.threads.create({ graphId: "plain", supersteps });
    const state = await sdk.threads.getState(thread_id);
    expect(state).toMatchObject({ values: { value: 6, steps: ["before", "told"] }, next: ["second"] });
    expect(await sdk.runs.wait(thread_id, "plain", { input: null })).toMatchObject({ value: 12 });
  },

  async copy(world) {
    const { sdk, mine } = world;
    const thread_id = await asking(world);
    const copy = await sdk.threads.copy(thread_id);
    expect(copy.thread_id).not.toBe(thread_id);
    expect(copy).toMatchObject({ status: "interrupted", metadata: mine });
    const [before, after] = [await history(world, thread_id), await history(world, copy.thread_id)];
    expect(pick(after, "values")).toEqual(pick(before, "values"));
    const done = await sdk.runs.wait(copy.thread_id, "hitl", { command: { resume: "yes" } });
    expect(done).toMatchObject({ done: "person" });
    expect((await sdk.threads.get(thread_id)).status).toBe("interrupted");
  },

  async update({ sdk, mine, newest, api }) {
    const { thread_id } = await sdk.threads.create({ metadata: mine });
    const changed = await sdk.threads.update(thread_id, { metadata: { more: 1 }, ttl: 60 });
    expect(changed).toMatchObject({ thread_id, metadata: { ...mine, more: 1 } });
    expect((await api.get(`/threads/${thread_id}?include=ttl`)).ttl).toMatchObject({ ttl_minutes: 60 });
    if (!newest) return;
    const nothing = await sdk.threads.update(thread_id, { metadata: { more: 2 }, returnMinimal: true });
    expect(nothing).toBeUndefined();
    expect((await sdk.threads.get(thread_id)).metadata).toMatchObject({ more: 2 });
  },

  async delete(world) {
    const { sdk } = world;
    const thread_id = await ended(world);
    await sdk.threads.delete(thread_id);
    await expect(sdk.threads.get(thread_id)).rejects.toThrow("404");
    await expect(sdk.threads.delete(thread_id)).rejects.toThrow("404");
  },

  async prune(world) {
    const { sdk } = world;
    const [kept, gone] = [await ended(world), await ended(world)];
    expect(await sdk.threads.prune([kept], { strategy: "keep_latest" })).toEqual({ pruned_count: 1 });
    expect(pick(await history(world, kept), "values")).toEqual([final]);
    expect(await sdk.threads.prune([gone])).toEqual({ pruned_count: 1 });
    await expect(sdk.threads.get(gone)).rejects.toThrow("404");
  },

  async search(world) {
    const { sdk, mine, newest } = world;
    const [first, second, third] = [await ended(world), await asking(world), await ended(world)];
    const search = (query: object) => sdk.threads.search({ metadata: mine, ...query });
    const ids = async (query: object) => pick(await search(query), "thread_id");
    expect(await ids({})).toEqual([third, second, first]);
    expect(await ids({ sortBy: "created_at", sortOrder: "asc" })).toEqual([first, second, third]);
    expect(await ids({ status: "interrupted" })).toEqual([second]);
    expect(await ids({ ids: [first, second] })).toEqual([second, first]);
    expect(await ids({ values: { value: 4 } })).toEqual([third, first]);
    expect(await ids({ limit: 1, offset: 1 })).toEqual([second]);
    const selected = await search({ ids: [first], select: ["thread_id", "status"] });
    expect(selected).toEqual([{ thread_id: first, status: "idle" }]);
    if (!newest) return;
    const [read] = await search({ ids: [first], extract: { last: "values.steps[-1]" } });
    expect(read.extracted).toEqual({ last: "second" });
    expect(await ids({ sortBy: "state_updated_at" })).toEqual([third, second, first]);
  },

  async count(world) {
    const { sdk, mine } = world;
    await Promise.all([ended(world), asking(world)]);
    expect(await sdk.threads.count({ metadata: mine })).toBe(2);
    expect(await sdk.threads.count({ metadata: mine, status: "interrupted" })).toBe(1);
    expect(await sdk.threads.count({ metadata: mine, values: { value: 4 } })).toBe(1);
  },

  async getState(world) {
    const { sdk, newest } = world;
    const thread_id = await asking(world);
    const state = await sdk.threads.getState(thread_id);
    expect(state).toMatchObject({ next: ["ask"], values: { question: "Sure?" }, checkpoint: { thread_id } });
    expect(state.tasks[0]).toMatchObject({ name: "ask", interrupts: [{ value: { question: "Sure?" } }] });
    const { checkpoint, parent_checkpoint: parent } = state;
    const before = await sdk.threads.getState(thread_id, parent.checkpoint_id);
    expect(before).toMatchObject({ next: ["prepare"], checkpoint: parent });
    expect(await sdk.threads.getState(thread_id, checkpoint)).toEqual(state);
    expect(await sdk.threads.getState(thread_id, parent)).toEqual(before);

    const { thread_id: nested } = await sdk.threads.create();
    await sdk.runs.wait(nested, "nested", { input: { ask: true } });
    const outer = await sdk.threads.getState(nested, undefined, { subgraphs: true });
    expect(outer.tasks[0].state).toMatchObject({ next: ["inner"] });
    const same = await sdk.threads.getState(nested, outer.checkpoint, { subgraphs: true });
    expect(same).toEqual(outer);
    const inner = await sdk.threads.getState(nested, outer.tasks[0].state.checkpoint);
    expect(inner.next).toEqual(["inner"]);

    if (!newest) return;
    const select = ["next", "values.question"];
    const selected = { next: ["ask"], values: { question: "Sure?" } };
    expect(await sdk.threads.getState(thread_id, undefined, { select })).toEqual(selected);
    expect(await sdk.threads.getState(thread_id, checkpoint, { select })).toEqual(selected);
    expect(await sdk.threads.getState(thread_id, checkpoint.checkpoint_id, { select })).toEqual(selected);
  },

  async updateState(world) {
    const { sdk } = world;
    const thread_id = await ended(world);
    const [, middle] = await history(world, thread_id);
    const { checkpoint, configurable } = await sdk.threads.updateState(thread_id, {
      values: { value: 50, steps: ["told"] },
      asNode: "first",
      checkpoint: middle.checkpoint,
    });
    expect(configurable).toMatchObject({ thread_id, checkpoint_id: checkpoint.checkpoint_id });
    const state = await sdk.threads.getState(thread_id);
    expect(state).toMatchObject({ next: ["second"], values: { value: 50, steps: ["first", "told"] } });
    expect(state.checkpoint.checkpoint_id).toBe(checkpoint.checkpoint_id);
    expect(await sdk.runs.wait(thread_id, "plain", { input: null })).toMatchObject({ value: 100 });
    const checkpointId = checkpoint.checkpoint_id;
    await sdk.threads.updateState(thread_id, { values: { value: 7 }, asNode: "second", checkpointId });
    expect(await sdk.threads.getState(thread_id)).toMatchObject({ next: [], values: { value: 7 } });
  },

  async getHistory(world) {
    const { sdk, newest } = world;
    const thread_id = await ended(world);
    const states = await history(world, thread_id);
    expect(pick(states, "next")).toEqual([[], ["second"], ["first"], ["__start__"]]);
    expect(states[0]).toEqual(await sdk.threads.getState(thread_id));
    for (const index of numbers(3)) expect(states[index].parent_checkpoint).toEqual(states[index + 1].checkpoint);
    expect(await history(world, thread_id, { limit: 2 })).toEqual(states.slice(0, 2));
    const { checkpoint } = states[1];
    for (const before of [checkpoint, { configurable: checkpoint }]) {
      expect(await history(world, thread_id, { before })).toEqual(states.slice(2));
    }
    expect(await history(world, thread_id, { metadata: { source: "input" } })).toEqual(states.slice(3));
    const { thread_id: nested } = await sdk.threads.create();
    await sdk.runs.wait(nested, "nested", { input: { ask: true } });
    const outer = await sdk.threads.getState(nested);
    const { checkpoint_ns } = outer.tasks[0].checkpoint;
    expect((await history(world, nested, { checkpoint: { checkpoint_ns } }))[0].next).toEqual(["inner"]);
    if (!newest) return;
    const select = ["next", "values.value"];
    const short = await history(world, thread_id, { limit: 1, select });
    expect(short).toEqual([{ next: [], values: { value: 4 } }]);
  },

  async stream({ sdk, mine }) {
    const { thread_id } = await sdk.threads.create({ metadata: mine });
    const stream = sdk.threads.stream(thread_id, { assistantId: "plain" });
    const output = stream.output;
    await stream.run.start({ input });
    expect(await output).toMatchObject(final);
    await stream.close();
  },

  async joinStream({ sdk, gate }) {
    const { thread_id } = await sdk.threads.create();
    const abort = new AbortController();
    const names: string[] = [];
    const first = gate("join-stream");
    const runs = [await sdk.runs.create(thread_id, "slow", { input: first.input, streamMode: "updates" })];
    runs.push(await sdk.runs.create(thread_id, "plain", { input, streamMode: "values", multitaskStrategy: "enqueue" }));
    first.openAll();
    const done: string[] = [];
    // `-`: from the beginning of what is kept.
    for await (const { event, data, id } of sdk.threads.joinStream(thread_id, {
      lastEventId: "-",
      signal: abort.signal,
    })) {
      expect(id).toEqual(expect.any(String));
      if (event !== "metadata") names.push(event);
      else if (data.status === "run_done") done.push(data.run_id);
      if (done.length === runs.length) break;
    }
    abort.abort();
    expect(done).toEqual(pick(runs, "run_id"));
    expect(names).toEqual(["updates", "updates", "updates", "values", "values", "values"]);
  },
};
