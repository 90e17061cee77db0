/** Runs from an earlier checkpoint: replay, forks, and what must not leak from one into the next. */
import { describe, expect, test } from "vitest";
import { type Any, type Body, useServer } from "../runs/support.ts";

const api = useServer();
const plain = { assistant_id: "plain", input: { value: 1 } };
const done = { value: 4, steps: ["first", "second"] };

const state = (id: string, rest = ""): Promise<Any> => api.get(`/threads/${id}/state${rest}`);
const wait = (id: string, body: Body): Promise<Any> => api.wait(body, `/threads/${id}/runs/wait`);

/** States of the thread from the latest back to the first. */
async function past(id: string): Promise<Any[]> {
  const states = [await state(id)];
  for (let parent = states[0].parent_checkpoint; parent !== null; parent = states.at(-1).parent_checkpoint) {
    states.push(await state(id, `/${parent.checkpoint_id}`));
  }
  return states;
}

const ids = (states: readonly Any[]): string[] => states.map(({ checkpoint }) => checkpoint.checkpoint_id);

async function finished(): Promise<{ id: string; states: Any[] }> {
  const id = await api.thread();
  await wait(id, plain);
  return { id, states: await past(id) };
}

describe("from each checkpoint of a thread", () => {
  test.each(["checkpoint", "checkpoint_id"])("by %s: it comes to the same end, and history stays", async (how) => {
    const { id, states } = await finished();
    expect(states.length).toBe(4);
    for (const { checkpoint } of states) {
      const where = how === "checkpoint" ? { checkpoint } : { checkpoint_id: checkpoint.checkpoint_id };
      expect(await wait(id, { assistant_id: "plain", input: null, ...where })).toEqual(done);
      const { status, values } = await api.get(`/threads/${id}`);
      expect([status, values]).toEqual(["idle", done]);
    }
    for (const before of states) expect(await state(id, `/${before.checkpoint.checkpoint_id}`)).toEqual(before);
  });

  test("replay at the final checkpoint changes nothing", async () => {
    const { id, states } = await finished();
    const { checkpoint } = states[0];
    expect(await wait(id, { assistant_id: "plain", input: null, checkpoint })).toEqual(done);
    expect((await state(id)).values).toEqual(done);
    expect((await state(id)).next).toEqual([]);
  });

  test("a fork: the new end is the thread's, the old one is still there", async () => {
    const { id, states } = await finished();
    const [end, middle] = states;
    const output = await wait(id, { assistant_id: "plain", input: { value: 10 }, checkpoint: middle.checkpoint });
    expect(output).toEqual({ value: 22, steps: ["first", "first", "second"] });
    const forked = await past(id);
    expect(ids(forked)).toContain(middle.checkpoint.checkpoint_id);
    expect(ids(forked)).not.toContain(end.checkpoint.checkpoint_id);
    expect(await state(id, `/${end.checkpoint.checkpoint_id}`)).toEqual(end);
    // And from the old end again, which is no longer the latest.
    const back = await wait(id, { ...plain, checkpoint: end.checkpoint });
    expect(back.steps).toEqual(["first", "second", "first", "second"]);
  });

  test("null members, as clients send checkpoints back", async () => {
    const { id, states } = await finished();
    const checkpoint = { ...states[1].checkpoint, checkpoint_ns: null, checkpoint_map: null };
    expect(await wait(id, { assistant_id: "plain", input: null, checkpoint })).toEqual(done);
    const latest = { checkpoint: { checkpoint_id: null }, checkpoint_id: null };
    expect((await wait(id, { ...plain, ...latest })).steps).toHaveLength(4);
  });

  test("the run that made it is deleted before another begins there: it is kept", async () => {
    const { id, states } = await finished();
    const [{ run_id: first }] = await api.get(`/threads/${id}/runs`);
    await wait(id, plain);
    const { checkpoint } = states[0];
    const later = { ...plain, checkpoint, after_seconds: 600 };
    const { run_id } = await api.post(`/threads/${id}/runs`, later);
    expect((await api.http.delete(`/threads/${id}/runs/${first}`)).status).toBe(200);
    expect(await state(id, `/${checkpoint.checkpoint_id}`)).toEqual(states[0]);
    expect((await api.http.delete(`/threads/${id}/runs/${run_id}`)).status).toBe(200);
  });

  test("one that is not there: 404, no run, the thread as it was", async () => {
    const [{ id }, other] = [await finished(), await finished()];
    const missing = "1f0c7000-0000-6000-8000-000000000000";
    const before = await api.get(`/threads/${id}`);
    for (const checkpoint_id of [missing, other.states[0].checkpoint.checkpoint_id]) {
      for (const where of [{ checkpoint_id }, { checkpoint: { checkpoint_id } }]) {
        for (const how of ["", "/wait", "/stream"]) {
          const { status, body } = await api.http.post(`/threads/${id}/runs${how}`, { ...plain, ...where });
          expect([status, body.detail]).toEqual([404, `Checkpoint ${checkpoint_id} of thread ${id} not found`]);
        }
      }
      expect((await api.http.get(`/threads/${id}/state/${checkpoint_id}`)).status).toBe(404);
    }
    expect(await api.get(`/threads/${id}`)).toEqual(before);
    expect(await api.get(`/threads/${id}/runs`)).toHaveLength(1);
  });
});

describe("questions asked before", () => {
  test("an earlier question is asked again, and another answer makes a fork", async () => {
    const id = await api.thread();
    await wait(id, { assistant_id: "hitl", input: {} });
    const { checkpoint } = await state(id);
    expect((await wait(id, { assistant_id: "hitl", command: { resume: "yes" } })).answers).toEqual({ person: "yes" });
    const end = await state(id);
    expect((await wait(id, { assistant_id: "hitl", input: null, checkpoint })).__interrupt__).toHaveLength(1);
    expect((await api.get(`/threads/${id}`)).status).toBe("interrupted");
    const fork = await wait(id, { assistant_id: "hitl", command: { resume: "no" } });
    expect(fork).toMatchObject({ answers: { person: "no" }, done: "person" });
    expect((await state(id)).values.answers).toEqual({ person: "no" });
    expect((await state(id, `/${end.checkpoint.checkpoint_id}`)).values).toEqual(end.values);
  });

  test("a fork that asks: the next answer goes to the fork", async () => {
    const id = await api.thread();
    await wait(id, { assistant_id: "questions", input: {} });
    await wait(id, { assistant_id: "questions", command: { resume: "a" } });
    const second = await state(id);
    await wait(id, { assistant_id: "questions", command: { resume: "b" } });
    const { parent_checkpoint: first } = second;
    const asked = await wait(id, { assistant_id: "questions", input: null, checkpoint: first });
    expect(asked.__interrupt__.map(({ value }: Any) => value)).toEqual(["question 1"]);
    const next = await wait(id, { assistant_id: "questions", command: { resume: "c" } });
    expect(next).toMatchObject({ answers: ["1: c"], __interrupt__: [{ value: "question 2" }] });
  });
});

describe("subgraphs", () => {
  /** A thread whose subgraph waits; the subgraph's checkpoint, and the same without the question. */
  async function asking(): Promise<{ id: string; inner: Any }> {
    const id = await api.thread();
    await wait(id, { assistant_id: "nested", input: { ask: true } });
    const deep = await state(id, "?subgraphs=true");
    return { id, inner: deep.tasks[0].state };
  }

  test("from a checkpoint inside one, by its map", async () => {
    const { id, inner } = await asking();
    expect(inner.checkpoint.checkpoint_ns).toMatch(/^middle:/);
    await wait(id, { assistant_id: "nested", command: { resume: "one" } });
    expect((await state(id)).values.trail).toContain("answer: one");
    const again = await wait(id, { assistant_id: "nested", input: null, checkpoint: inner.checkpoint });
    expect(again.__interrupt__).toHaveLength(1);
    const answered = await wait(id, { assistant_id: "nested", command: { resume: "two" } });
    expect(answered.trail).toEqual(["outer", "before", "deep", "answer: two", "last"]);
  });

  test("the map of one run is nothing to the next", async () => {
    const { id, inner } = await asking();
    const { checkpoint } = inner;
    await wait(id, { assistant_id: "nested", command: { resume: "one" } });
    await wait(id, { assistant_id: "nested", input: null, checkpoint });
    await wait(id, { assistant_id: "nested", command: { resume: "two" } });
    // A new turn on the thread, with the stale map still in what the client sends: there is no checkpoint it belongs to.
    const stale = { configurable: { checkpoint_map: checkpoint.checkpoint_map } };
    const asked = await wait(id, { assistant_id: "nested", input: { ask: true }, config: stale });
    expect(asked.__interrupt__).toHaveLength(1);
    const output = await wait(id, { assistant_id: "nested", command: { resume: "three" }, config: stale });
    expect(output.trail).toContain("answer: three");
    const [newest] = await api.get(`/threads/${id}/runs?limit=1`);
    expect(newest.kwargs.config.configurable).not.toHaveProperty("checkpoint_map");
    expect((await api.get(`/threads/${id}`)).config).not.toHaveProperty("configurable.checkpoint_map");
  });
});
