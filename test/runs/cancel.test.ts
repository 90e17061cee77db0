/** Cancelling (wait, interrupt, rollback), busy threads, join and state of runs on a thread. */
import { describe, expect, test } from "vitest";
import { eventually } from "../support/server.ts";
import { type Body, Gate, ids, names, numbers, type Place, useServer, useTempDir } from "./support.ts";

const api = useServer();
const temp = useTempDir();
const plain = { assistant_id: "plain", input: { value: 1 } };
let count = 0;

async function running(input: Body = {}, thread_id?: string): Promise<Place & { gate: Gate }> {
  count += 1;
  const gate = new Gate(temp.dir, `run-${count}`, input);
  const thread = thread_id ?? (await api.thread());
  const body = { assistant_id: "slow", input: gate.input, stream_mode: "updates" };
  const { run_id } = await api.post(`/threads/${thread}/runs`, body);
  await eventually(() => gate.log.includes("start 1"));
  return { gate, thread_id: thread, run_id, path: `/threads/${thread}/runs/${run_id}` };
}

describe("cancel", () => {
  test.each(["?wait=1", "?wait=true", "?wait=1&action=interrupt"])(
    "%s: the run is over when the answer comes",
    async (query) => {
      const { path, gate, thread_id } = await running();
      const reader = await api.open(`${path}/stream`);
      gate.open(1);
      await eventually(() => gate.log.includes("start 2"));
      expect((await api.http.post(`${path}/cancel${query}`)).status).toBe(200);
      expect((await api.get(path)).status).toBe("interrupted");
      expect((await api.get(`/threads/${thread_id}`)).status).toBe("idle");
      expect(gate.log).toEqual(["start 1", "end 1", "start 2", "aborted 2"]);
      expect(names(await reader.rest())).toEqual(["metadata", "updates"]);
      const state = await api.get(`/threads/${thread_id}/state`);
      expect(state).toMatchObject({ values: { steps: [1] }, next: ["two"] });
    },
  );

  test.each(["", "?wait=0", "?wait=false"])("%j: the answer comes at once, the end follows", async (query) => {
    const { path, gate } = await running();
    const joined = api.get(`${path}/join`);
    expect((await api.http.post(`${path}/cancel${query}`)).body).toEqual({});
    await joined;
    expect((await api.get(path)).status).toBe("interrupted");
    expect(gate.log.at(-1)).toBe("aborted 1");
  });

  test("a node that does not listen cannot hold it up for long", async () => {
    const { path, gate } = await running({ stubborn: true });
    expect((await api.http.post(`${path}/cancel?wait=1`)).status).toBe(200);
    expect((await api.get(path)).status).toBe("interrupted");
    gate.openAll();
  });

  test("rollback: the run and its checkpoints are gone, the thread is as it was", async () => {
    const thread_id = await api.thread();
    await api.wait({ assistant_id: "slow", input: {} }, `/threads/${thread_id}/runs/wait`);
    const before = await api.get(`/threads/${thread_id}/state`);
    const { path, gate } = await running({}, thread_id);
    gate.open(1);
    await eventually(() => gate.log.includes("start 2"));
    expect((await api.http.post(`${path}/cancel?wait=1&action=rollback`)).status).toBe(200);
    expect((await api.http.get(path)).status).toBe(404);
    const after = await api.get(`/threads/${thread_id}/state`);
    expect([after.values, after.checkpoint]).toEqual([before.values, before.checkpoint]);
    const thread = await api.get(`/threads/${thread_id}`);
    expect([thread.status, thread.values]).toEqual(["idle", before.values]);
    expect(await api.get(`/threads/${thread_id}/runs`)).toHaveLength(1);
  });

  test("a run that has not started", async () => {
    for (const action of ["interrupt", "rollback"]) {
      const { path, thread_id } = await api.background({ ...plain, after_seconds: 600 });
      const reader = api.frames(`${path}/stream`);
      expect((await api.http.post(`${path}/cancel?wait=1&action=${action}`)).status).toBe(200);
      expect(names(await reader)).toEqual([]);
      const { status, body } = await api.http.get(path);
      expect(action === "rollback" ? status : body.status).toBe(action === "rollback" ? 404 : "interrupted");
      expect((await api.get(`/threads/${thread_id}`)).status).toBe("idle");
    }
  });

  test("unknown: 404; ended: 409; a bad action: 422; each with a sentence", async () => {
    const { path, thread_id } = await api.background(plain);
    await api.get(`${path}/join`);
    const unknown = `/threads/${thread_id}/runs/01a20228-0000-7000-8000-000000000000/cancel`;
    const cases: [string, number][] = [
      [unknown, 404],
      [`${path}/cancel`, 409],
      [`${path}/cancel?action=destroy`, 422],
      [`${path}/cancel?wait=perhaps`, 422],
      [`/threads/${thread_id}/runs/nonsense/cancel`, 422],
    ];
    for (const [target, expected] of cases) {
      const { status, body } = await api.http.post(target);
      expect([target, status, typeof body.detail]).toEqual([target, expected, "string"]);
    }
  });

  test("what a waiting client gets when somebody else cancels: the values that are left", async () => {
    const { path, gate } = await running();
    gate.open(1);
    const joined = api.get(`${path}/join`);
    await eventually(() => gate.log.includes("start 2"));
    await api.http.post(`${path}/cancel`);
    expect((await joined).steps).toEqual([1]);
  });

  test("after a cancel the thread goes on", async () => {
    const { path, thread_id, gate } = await running();
    await api.http.post(`${path}/cancel?wait=1`);
    gate.openAll();
    const go = await api.wait({ assistant_id: "slow", input: null }, `/threads/${thread_id}/runs/wait`);
    expect(go.steps).toEqual([1, 2, 3]);
  });
});

describe("a busy thread", () => {
  test("enqueue, the default: one after the other, in order", async () => {
    const first = await running();
    const others = await Promise.all(
      numbers(3).map(() => api.post(`/threads/${first.thread_id}/runs`, { assistant_id: "plain", input: null })),
    );
    for (const { run_id, status } of others) {
      expect(status).toBe("pending");
      expect((await api.get(`/threads/${first.thread_id}/runs/${run_id}`)).status).toBe("pending");
    }
    expect((await api.get(`/threads/${first.thread_id}`)).status).toBe("busy");
    first.gate.openAll();
    for (const { run_id } of others) await api.get(`/threads/${first.thread_id}/runs/${run_id}/join`);
    const runs = await api.get(`/threads/${first.thread_id}/runs`);
    expect(runs.at(-1)).toMatchObject({ run_id: first.run_id, status: "success" });
  });

  test("reject: 409, and nothing is created", async () => {
    const { thread_id, gate, path } = await running();
    for (const how of ["", "/wait", "/stream"]) {
      const body = { ...plain, multitask_strategy: "reject" };
      const answer = await api.http.post(`/threads/${thread_id}/runs${how}`, body);
      expect([answer.status, typeof answer.body.detail]).toEqual([409, "string"]);
    }
    expect(await api.get(`/threads/${thread_id}/runs`)).toHaveLength(1);
    gate.openAll();
    await api.get(`${path}/join`);
  });

  test("interrupt: the first ends interrupted, the second runs", async () => {
    const { thread_id, path, gate } = await running();
    const body = { ...plain, multitask_strategy: "interrupt" };
    expect((await api.wait(body, `/threads/${thread_id}/runs/wait`)).value).toBe(4);
    expect((await api.get(path)).status).toBe("interrupted");
    expect(gate.log).toEqual(["start 1", "aborted 1"]);
  });

  test("rollback: the first is gone, the second runs on what was before it", async () => {
    const thread_id = await api.thread();
    await api.wait(plain, `/threads/${thread_id}/runs/wait`);
    const { path, gate } = await running({}, thread_id);
    gate.open(1);
    await eventually(() => gate.log.includes("start 2"));
    const body = { ...plain, multitask_strategy: "rollback" };
    const { steps } = await api.wait(body, `/threads/${thread_id}/runs/wait`);
    expect(steps).toEqual(["first", "second", "first", "second"]);
    expect((await api.http.get(path)).status).toBe(404);
  });
});

describe("join, get, list, state", () => {
  test("joiners before, during and after all get the output", async () => {
    const { path, gate } = await running();
    const early = numbers(5).map(() => api.get(`${path}/join`));
    gate.openAll();
    for (const output of await Promise.all(early)) expect(output.steps).toEqual([1, 2, 3]);
    expect((await api.get(`${path}/join`)).steps).toEqual([1, 2, 3]);
    expect(ids(await api.frames(`${path}/stream`))).toEqual(numbers(4));
  });

  test("the list is newest first, by page and by status", async () => {
    const thread_id = await api.thread();
    const made: string[] = [];
    for (const _ of numbers(4)) {
      await api.wait(plain, `/threads/${thread_id}/runs/wait`);
      made.unshift((await api.get(`/threads/${thread_id}/runs?limit=1`))[0].run_id);
    }
    const list = async (query: string) =>
      (await api.get(`/threads/${thread_id}/runs${query}`)).map(({ run_id }: { run_id: string }) => run_id);
    expect(await list("")).toEqual(made);
    expect(await list("?limit=2&offset=1")).toEqual(made.slice(1, 3));
    expect(await list("?status=success")).toEqual(made);
    expect(await list("?status=error")).toEqual([]);
  });

  test("the state during a run, at a checkpoint, and of a new thread", async () => {
    const thread_id = await api.thread();
    const state = `/threads/${thread_id}/state`;
    expect(await api.get(state)).toMatchObject({ values: {}, next: [], tasks: [] });
    await api.wait(plain, `/threads/${thread_id}/runs/wait`);
    const last = await api.get(state);
    expect(last).toMatchObject({ values: { value: 4, steps: ["first", "second"] }, next: [], tasks: [] });
    expect(last.metadata).toMatchObject({ source: "loop", step: 2, graph_id: "plain", run_id: expect.any(String) });
    const { checkpoint_id } = last.parent_checkpoint;
    const before = await api.get(`${state}/${checkpoint_id}`);
    expect(before).toMatchObject({ values: { value: 2, steps: ["first"] }, next: ["second"] });
    const posted = await api.post(`${state}/checkpoint`, { checkpoint: last.parent_checkpoint, subgraphs: false });
    expect(posted).toEqual(before);
  });

  test("the state of subgraphs", async () => {
    const thread_id = await api.thread();
    await api.wait({ assistant_id: "nested", input: { ask: true } }, `/threads/${thread_id}/runs/wait`);
    const flat = await api.get(`/threads/${thread_id}/state`);
    expect(flat).toMatchObject({ next: ["middle"], tasks: [{ name: "middle", state: null }] });
    const deep = await api.get(`/threads/${thread_id}/state?subgraphs=true`);
    const inner = deep.tasks[0].state;
    expect(inner).toMatchObject({ next: ["inner"], values: { trail: ["outer", "before"] } });
    expect(inner.tasks[0].state).toMatchObject({ next: ["deep"] });
  });

  test("a run goes on from an earlier checkpoint", async () => {
    const thread_id = await api.thread();
    await api.wait(plain, `/threads/${thread_id}/runs/wait`);
    const { parent_checkpoint } = await api.get(`/threads/${thread_id}/state`);
    const body = { assistant_id: "plain", input: null, checkpoint: parent_checkpoint };
    expect(await api.wait(body, `/threads/${thread_id}/runs/wait`)).toEqual({ value: 4, steps: ["first", "second"] });
    const by_id = { assistant_id: "plain", input: null, checkpoint_id: parent_checkpoint.checkpoint_id };
    expect(await api.wait(by_id, `/threads/${thread_id}/runs/wait`)).toEqual({ value: 4, steps: ["first", "second"] });
  });
});
