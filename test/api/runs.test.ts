/** Runs on a thread: deleting, cancelling several, listing, and what their config says. */
import { describe, expect, test } from "vitest";
import { type Any, Api, type Body, Gate, numbers, type Place, useServer, useTempDir } from "../runs/support.ts";
import { project } from "../support/project.ts";
import { eventually, startServer } from "../support/server.ts";

const api = useServer();
const temp = useTempDir();
const plain = { assistant_id: "plain", input: { value: 1 } };
const UNKNOWN = "01a20228-0000-7000-8000-000000000000";
let count = 0;

async function running(thread_id?: string, input: Body = {}): Promise<Place & { gate: Gate }> {
  count += 1;
  const gate = new Gate(temp.dir, `api-${count}`, input);
  const thread = thread_id ?? (await api.thread());
  const { run_id } = await api.post(`/threads/${thread}/runs`, { assistant_id: "slow", input: gate.input });
  await eventually(() => gate.log.includes("start 1"));
  return { gate, thread_id: thread, run_id, path: `/threads/${thread}/runs/${run_id}` };
}

/** Runs it to its end on the thread; its id. */
async function finished(thread_id: string, body: Body = plain): Promise<string> {
  await api.wait(body, `/threads/${thread_id}/runs/wait`);
  return (await api.get(`/threads/${thread_id}/runs?limit=1`))[0].run_id;
}

const state = (thread_id: string): Promise<Any> => api.get(`/threads/${thread_id}/state`);
const shown = async (thread_id: string): Promise<Any> => {
  const { status, values, interrupts } = await api.get(`/threads/${thread_id}`);
  return { status, values, interrupts };
};

describe("DELETE a run", () => {
  test("the newest: its checkpoints go, and the thread shows what was before", async () => {
    const thread_id = await api.thread();
    await finished(thread_id);
    const before = [await state(thread_id), await shown(thread_id)];
    const run_id = await finished(thread_id);
    expect((await state(thread_id)).values).not.toEqual(before[0].values);
    const answer = await api.http.delete(`/threads/${thread_id}/runs/${run_id}`);
    expect([answer.status, answer.body]).toEqual([200, {}]);
    expect((await api.http.get(`/threads/${thread_id}/runs/${run_id}`)).status).toBe(404);
    expect((await api.http.get(`/threads/${thread_id}/runs/${run_id}/stream`)).status).toBe(404);
    expect((await api.http.get(`/threads/${thread_id}/runs/${run_id}/join`)).status).toBe(404);
    expect([await state(thread_id), await shown(thread_id)]).toEqual(before);
    expect((await api.http.delete(`/threads/${thread_id}/runs/${run_id}`)).status).toBe(404);
  });

  test("an answer to a question: the question waits again", async () => {
    const thread_id = await api.thread();
    await finished(thread_id, { assistant_id: "hitl", input: { question: "Well?" } });
    const before = [await state(thread_id), await shown(thread_id)];
    expect(before[1].status).toBe("interrupted");
    const run_id = await finished(thread_id, { assistant_id: "hitl", command: { resume: "yes" } });
    expect((await shown(thread_id)).status).toBe("idle");
    await api.http.delete(`/threads/${thread_id}/runs/${run_id}`);
    expect([await state(thread_id), await shown(thread_id)]).toEqual(before);
    const again = await api.wait(
      { assistant_id: "hitl", command: { resume: "no" } },
      `/threads/${thread_id}/runs/wait`,
    );
    expect(again.answers).toEqual({ person: "no" });
  });

  test("an older one: the thread keeps the state of the newest", async () => {
    const thread_id = await api.thread();
    const older = await finished(thread_id);
    await finished(thread_id);
    const before = [(await state(thread_id)).values, await shown(thread_id)];
    expect((await api.http.delete(`/threads/${thread_id}/runs/${older}`)).status).toBe(200);
    expect([(await state(thread_id)).values, await shown(thread_id)]).toEqual(before);
  });

  test("the only one: the thread is as new", async () => {
    const thread_id = await api.thread();
    const run_id = await finished(thread_id);
    await api.http.delete(`/threads/${thread_id}/runs/${run_id}`);
    expect(await shown(thread_id)).toEqual({ status: "idle", values: null, interrupts: {} });
    expect(await state(thread_id)).toMatchObject({ values: {}, next: [] });
  });

  test("of a graph with delta channels: the run goes, the checkpoints that later ones are read with stay", async () => {
    const graph = `
      import { Annotation, DeltaChannel, END, START, StateGraph } from "@langchain/langgraph";
      const add = (all, more) => [...(all ?? []), ...more.flat()];
      const State = Annotation.Root({ word: Annotation(), words: () => new DeltaChannel(add) });
      export const graph = new StateGraph(State).addNode("say", ({ word }) => ({ words: [word] }))
        .addEdge(START, "say").addEdge("say", END).compile();`;
    await using delta = await project({ "delta.mjs": graph });
    await using server = await startServer({ project: delta });
    const own = new Api(server);
    const thread_id = await own.thread();
    const say = (word: string) =>
      own.wait({ assistant_id: "delta", input: { word } }, `/threads/${thread_id}/runs/wait`);
    for (const word of ["a", "b", "c"]) await say(word);
    const [, { run_id }] = await own.get(`/threads/${thread_id}/runs`);
    expect((await own.http.delete(`/threads/${thread_id}/runs/${run_id}`)).status).toBe(200);
    expect(await own.get(`/threads/${thread_id}/runs`)).toHaveLength(2);
    expect((await own.get(`/threads/${thread_id}/state`)).values.words).toEqual(["a", "b", "c"]);
    expect((await say("d")).words).toEqual(["a", "b", "c", "d"]);
  });

  test.each(["running", "pending", "delayed"])(
    "a %s one is stopped first: when the answer comes it is gone",
    async (kind) => {
      const thread_id = await api.thread();
      await finished(thread_id);
      const before = [await state(thread_id), await shown(thread_id)];
      const first = kind === "delayed" ? undefined : await running(thread_id);
      const delay = kind === "delayed" ? { after_seconds: 600 } : {};
      const { run_id } =
        kind === "running" ? (first as Place) : await api.post(`/threads/${thread_id}/runs`, { ...plain, ...delay });
      first?.gate.open(1);
      expect((await api.http.delete(`/threads/${thread_id}/runs/${run_id}`)).status).toBe(200);
      expect((await api.http.get(`/threads/${thread_id}/runs/${run_id}`)).status).toBe(404);
      if (kind === "pending" && first !== undefined) await api.http.delete(first.path);
      expect([await state(thread_id), await shown(thread_id)]).toEqual(before);
    },
  );

  test("unknown, of another thread, malformed", async () => {
    const [mine, other] = [await api.thread(), await api.thread()];
    const run_id = await finished(mine);
    const cases: [string, number][] = [
      [`/threads/${mine}/runs/${UNKNOWN}`, 404],
      [`/threads/${other}/runs/${run_id}`, 404],
      [`/threads/${mine}/runs/nonsense`, 422],
    ];
    for (const [path, expected] of cases) {
      const { status, body } = await api.http.delete(path);
      expect([path, status, typeof body.detail]).toEqual([path, expected, "string"]);
    }
    expect((await api.http.get(`/threads/${mine}/runs/${run_id}`)).status).toBe(200);
  });
});

describe("POST /runs/cancel", () => {
  test.each([
    ["", "interrupted"],
    ["?action=interrupt", "interrupted"],
    ["?action=rollback", undefined],
  ])("named runs (%s): running and pending stop, ended ones stay", async (query, expected) => {
    const first = await running();
    const { thread_id } = first;
    const ended = await api.thread().then(async (other) => ({ other, run_id: await finished(other) }));
    const { run_id: second } = await api.post(`/threads/${thread_id}/runs`, plain);
    const answer = await api.http.post(`/runs/cancel${query}`, { thread_id, run_ids: [first.run_id, second] });
    expect([answer.status, answer.text]).toEqual([204, ""]);
    const status = async (run_id: string) => (await api.http.get(`/threads/${thread_id}/runs/${run_id}`)).body.status;
    await eventually(async () => !["pending", "running"].includes(await status(first.run_id)));
    expect([await status(first.run_id), await status(second)]).toEqual([expected, expected]);
    const { other, run_id } = ended;
    expect((await api.http.post("/runs/cancel", { thread_id: other, run_ids: [run_id] })).status).toBe(204);
    expect((await api.get(`/threads/${other}/runs/${run_id}`)).status).toBe("success");
  });

  test("one that is unknown or of another thread: 404, and none is cancelled", async () => {
    const first = await running();
    const elsewhere = await finished(await api.thread());
    for (const stranger of [UNKNOWN, elsewhere]) {
      const body = { thread_id: first.thread_id, run_ids: [first.run_id, stranger] };
      expect((await api.http.post("/runs/cancel", body)).status).toBe(404);
    }
    expect((await api.get(first.path)).status).toBe("running");
    first.gate.openAll();
    expect((await api.get(`${first.path}/join`)).steps).toEqual([1, 2, 3]);
  });

  test("by status, over all threads", async () => {
    const first = await running();
    const waiting = await Promise.all(numbers(3).map(() => api.post(`/threads/${first.thread_id}/runs`, plain)));
    const delayed = await api.background({ ...plain, after_seconds: 600 });
    const statuses = () =>
      Promise.all(
        [first.path, ...waiting.map(({ run_id }) => `/threads/${first.thread_id}/runs/${run_id}`), delayed.path].map(
          async (path) => (await api.get(path)).status,
        ),
      );
    expect((await api.http.post("/runs/cancel", { status: "pending" })).status).toBe(204);
    expect(await statuses()).toEqual(["running", "interrupted", "interrupted", "interrupted", "interrupted"]);
    expect((await api.get(`/threads/${first.thread_id}`)).status).toBe("busy");
    const behind = await api.post(`/threads/${first.thread_id}/runs`, plain);
    expect((await api.http.post("/runs/cancel", { status: "running" })).status).toBe(204);
    await api.get(`/threads/${first.thread_id}/runs/${behind.run_id}/join`);
    expect((await statuses())[0]).toBe("interrupted");
    expect((await api.get(`/threads/${first.thread_id}/runs/${behind.run_id}`)).status).toBe("success");
    const last = [await running(), await running(), await api.background({ ...plain, after_seconds: 600 })];
    expect((await api.http.post("/runs/cancel", { status: "all" })).status).toBe(204);
    for (const { path } of last) await eventually(async () => (await api.get(path)).status === "interrupted");
    expect((await api.http.post("/runs/cancel", { status: "all" })).status).toBe(204);
  });

  test.each([
    [{}, "status"],
    [{ status: "all", thread_id: UNKNOWN, run_ids: [UNKNOWN] }, "status"],
    [{ status: "done" }, "status"],
    [{ thread_id: UNKNOWN }, "run_ids"],
    [{ run_ids: [UNKNOWN] }, "thread_id"],
    [{ thread_id: UNKNOWN, run_ids: [] }, "run_ids"],
    [{ thread_id: UNKNOWN, run_ids: ["x"] }, "run_ids.0"],
    [{ thread_id: "x", run_ids: [UNKNOWN] }, "thread_id"],
  ])("%j: 422 that names %s", async (body, field) => {
    const answer = await api.http.post("/runs/cancel", body);
    expect([answer.status, answer.body.detail.split(":")[0]]).toEqual([422, field]);
  });

  test("a bad action: 422", async () => {
    expect((await api.http.post("/runs/cancel?action=stop", { status: "all" })).status).toBe(422);
  });
});

describe("what a cancel promises", () => {
  test("a rollback stays a rollback, whatever is asked for later", async () => {
    const { path, gate } = await running(undefined, { stubborn: true });
    await api.http.post(`${path}/cancel?action=rollback`);
    await api.http.post(`${path}/cancel?action=interrupt`);
    await eventually(async () => (await api.http.get(path)).status === 404);
    gate.openAll();
  });

  test("a run that waited behind a question: when it is cancelled the question still waits", async () => {
    const thread_id = await api.thread();
    await finished(thread_id, { assistant_id: "hitl", input: {} });
    const before = await shown(thread_id);
    for (const action of ["interrupt", "rollback"]) {
      const { run_id } = await api.post(`/threads/${thread_id}/runs`, { ...plain, after_seconds: 600 });
      expect((await shown(thread_id)).status).toBe("busy");
      await api.http.post(`/threads/${thread_id}/runs/${run_id}/cancel?action=${action}`);
      expect(await shown(thread_id)).toEqual(before);
    }
  });
});

describe("the list", () => {
  test("select: only these fields, in all spellings", async () => {
    const thread_id = await api.thread();
    const run_id = await finished(thread_id);
    const list = (query: string) => api.get(`/threads/${thread_id}/runs${query}`);
    const wanted = [{ run_id, status: "success" }];
    for (const query of ["?select=run_id&select=status", "?select=run_id,status", '?select=["run_id","status"]']) {
      expect(await list(query)).toEqual(wanted);
    }
    const fields = ["run_id", "thread_id", "assistant_id", "created_at", "updated_at", "status", "metadata", "kwargs"];
    fields.push("multitask_strategy", "langsmith_session_name");
    expect(Object.keys((await list(`?select=${fields.join()}`))[0])).toEqual(fields);
    expect(await list("?select=run_id&status=error")).toEqual([]);
    for (const query of ["?select=secret", "?limit=0", "?limit=-1", "?offset=-1", "?status=done"]) {
      const answer = await api.http.get(`/threads/${thread_id}/runs${query}`);
      expect([query, answer.status]).toEqual([query, 422]);
    }
    expect((await api.http.get(`/threads/${UNKNOWN}/runs`)).status).toBe(404);
  });
});

test("metadata of a run's config reaches its nodes, under the run's own", async () => {
  const thread_id = await api.thread();
  const body = {
    assistant_id: "echo",
    input: { input: 1 },
    metadata: { both: "run", own: 1 },
    config: { metadata: { both: "config", ls: "x", run_id: "forged" } },
  };
  const { seen } = await api.wait(body, `/threads/${thread_id}/runs/wait`);
  expect(seen.metadata).toMatchObject({ both: "run", own: 1, ls: "x" });
  expect(seen.metadata.run_id).not.toBe("forged");
  expect((await state(thread_id)).metadata).toMatchObject({ ls: "x" });
  expect((await api.get(`/threads/${thread_id}/runs`))[0].kwargs.config.metadata).toMatchObject({ ls: "x" });
  const bad = await api.http.post(`/threads/${thread_id}/runs`, { ...body, config: { metadata: "text" } });
  expect([bad.status, bad.body.detail.split(":")[0]]).toEqual([422, "config.metadata"]);
});
