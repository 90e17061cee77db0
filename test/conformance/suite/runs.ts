/** Creating, reading, waiting, cancelling and deleting runs, on threads and without. */
import { expect } from "vitest";
import { type Any, behaviour, eventually, ids, NOBODY, refused, UUID } from "../kit.ts";

/* ---------------------------------------------------------------------------------- create */

behaviour("runs.create", async ({ api }) => {
  const { run, thread_id } = await api.start("plain", { value: 1 });
  const { assistant_id } = await api.get("/assistants/plain");
  expect(run).toMatchObject({
    run_id: expect.stringMatching(UUID),
    thread_id,
    assistant_id,
    status: expect.stringMatching(/^(pending|running)$/),
    metadata: expect.any(Object),
    multitask_strategy: "enqueue",
  });
  for (const field of ["created_at", "updated_at"]) expect(new Date(run[field]).toISOString()).toBe(run[field]);
});

behaviour("runs.create.id-is-v7", async ({ api }) => {
  expect((await api.start("plain")).run_id[14]).toBe("7");
});

behaviour("runs.create.location", async ({ api }) => {
  const thread_id = await api.thread();
  const answer = await api.http.post(`/threads/${thread_id}/runs`, { assistant_id: "plain", input: {} });
  expect(answer.headers.get("content-location")).toBe(`/threads/${thread_id}/runs/${answer.body.run_id}`);
});

behaviour("runs.create.kwargs", async ({ api }) => {
  const more = { stream_mode: ["values", "updates"], config: { tags: ["x"], configurable: { a: 1 } } };
  const { run } = await api.start("plain", { value: 1 }, more);
  expect(run.kwargs).toMatchObject({
    input: { value: 1 },
    command: null,
    config: { tags: ["x"], configurable: { a: 1, graph_id: "plain", thread_id: run.thread_id, run_id: run.run_id } },
    stream_mode: ["values", "updates"],
    subgraphs: false,
    temporary: false,
  });
});

behaviour("runs.create.metadata", async ({ api }) => {
  const { path } = await api.start("plain", {}, { metadata: { mine: { a: 1 } } });
  expect((await api.get(path)).metadata).toMatchObject({ mine: { a: 1 } });
});

behaviour("runs.create.assistant-id", async ({ api }) => {
  const { assistant_id } = await api.assistant();
  expect((await api.start(assistant_id)).run).toMatchObject({ assistant_id });
});

behaviour("runs.create.unknown-thread", async ({ api }) => {
  await refused(api.http.post(`/threads/${NOBODY}/runs`, { assistant_id: "plain" }), 404, NOBODY);
});

behaviour("runs.create.unknown-assistant", async ({ api }) => {
  const thread_id = await api.thread();
  for (const assistant_id of [NOBODY, "no-such-graph"]) {
    await refused(api.http.post(`/threads/${thread_id}/runs`, { assistant_id }), 404, assistant_id);
  }
  expect(await api.get(`/threads/${thread_id}/runs`)).toEqual([]);
});

behaviour("runs.create.no-assistant", async ({ api }) => {
  await refused(api.http.post(`/threads/${await api.thread()}/runs`, { input: {} }), 422, "assistant_id");
});

behaviour("runs.create.if-not-exists", async ({ api }) => {
  const thread_id = api.mark();
  await api.start("plain", { value: 1 }, { if_not_exists: "create" }, thread_id);
  expect(await api.get(`/threads/${thread_id}`)).toMatchObject({ thread_id });
});

behaviour("runs.create.if-not-exists-race", async ({ api }) => {
  const thread_id = api.mark();
  const all = Array.from({ length: 6 }, () => api.start("plain", { value: 1 }, { if_not_exists: "create" }, thread_id));
  expect(new Set((await Promise.all(all)).map(({ run_id }) => run_id)).size).toBe(6);
});

behaviour("runs.create.after-seconds", async ({ api }) => {
  const place = await api.start("plain", { value: 1 }, { after_seconds: 600 });
  expect(await api.get(place.path)).toMatchObject({ status: "pending" });
  await api.post(`${place.path}/cancel`);
});

behaviour("runs.create.bad-enum", async ({ api }) => {
  const thread_id = await api.thread();
  const wrong = { stream_mode: "all", multitask_strategy: "fight", durability: "forever", if_not_exists: "maybe" };
  for (const [field, value] of Object.entries(wrong)) {
    await refused(api.http.post(`/threads/${thread_id}/runs`, { assistant_id: "plain", [field]: value }), 422, field);
  }
});

behaviour("runs.create.bad-webhook", async ({ api }) => {
  const thread_id = await api.thread();
  for (const webhook of ["", "x".repeat(65_537), 7]) {
    await refused(api.http.post(`/threads/${thread_id}/runs`, { assistant_id: "plain", webhook }), 422, "webhook");
  }
});

behaviour("runs.create.checkpoint-fields", async ({ api }) => {
  const thread_id = await api.thread();
  const body = { assistant_id: "plain", checkpoint: { checkpoint_id: NOBODY } };
  await refused(api.http.post(`/threads/${thread_id}/runs/wait`, body), 404, NOBODY);
});

behaviour("runs.create.feedback-keys", async ({ api }) => {
  expect(await api.run("plain", { value: 1 }, { feedback_keys: ["helpful"] })).toMatchObject({ value: 4 });
});

behaviour("runs.create.any-input", async ({ api }) => {
  for (const input of [null, 7, "text", [1, 2], { a: null }, true]) {
    if (input !== null) expect(await api.run("functional", input)).toEqual(input);
  }
});

behaviour("runs.create.context", async ({ api }) => {
  expect((await api.run("echo", {}, { context: { tone: "dry" } })).seen.context).toEqual({ tone: "dry" });
});

behaviour("runs.create.config-merged", async ({ api }) => {
  const { assistant_id } = await api.assistant({ graph_id: "echo", config: { configurable: { a: 1, b: 1 } } });
  const { seen } = await api.run(assistant_id, {}, { config: { configurable: { b: 2 } } });
  expect(seen.configurable).toMatchObject({ a: 1, b: 2 });
});

behaviour("runs.create.metadata-reaches-graph", async ({ api }) => {
  const { seen } = await api.run("echo", {}, { metadata: { mine: 1 }, config: { tags: ["t"] } });
  expect(seen.metadata).toMatchObject({ mine: 1 });
  expect(seen.tags).toEqual(expect.arrayContaining(["t"]));
});

behaviour("runs.create.request-id", async ({ api }) => {
  const thread_id = await api.thread();
  const headers = { "x-request-id": "my-request.2", "content-type": "application/json" };
  const body = JSON.stringify({ assistant_id: "plain", input: {} });
  const run = (await api.http.post(`/threads/${thread_id}/runs`, body, { headers })).body;
  expect(run.metadata).toMatchObject({ langgraph_request_id: "my-request.2" });
  expect(run.kwargs.config.configurable).toMatchObject({ langgraph_request_id: "my-request.2" });
});

behaviour("runs.create.headers-stay-out", async ({ api }) => {
  const answer = await api.http.post(
    "/runs/wait",
    { assistant_id: "echo", input: {} },
    {
      headers: { "x-api-key": "s3cret", "x-mine": "s3cret", authorization: "Bearer s3cret", cookie: "a=s3cret" },
    },
  );
  expect(answer.text).not.toContain("s3cret");
});

behaviour("runs.create.recursion-limit", async ({ api }) => {
  const output = await api.run("recursion", {}, { config: { recursion_limit: 3 } });
  expect(output.__error__).toMatchObject({ error: "GraphRecursionError" });
});

/* ------------------------------------------------------------------------------------ wait */

behaviour("runs.wait", async ({ api }) => {
  expect(await api.runOn(await api.thread(), "plain", { value: 1 })).toEqual({ value: 4, steps: ["first", "second"] });
});

behaviour("runs.wait.location", async ({ api }) => {
  const thread_id = await api.thread();
  const answer = await api.http.post(`/threads/${thread_id}/runs/wait`, { assistant_id: "plain", input: {} });
  expect(answer.headers.get("content-location")).toMatch(new RegExp(`^/threads/${thread_id}/runs/[0-9a-f-]{36}$`));
});

behaviour("runs.wait.error", async ({ api }) => {
  const output = await api.runOn(await api.thread(), "error");
  expect(output).toEqual({ __error__: { error: "TypeError", message: "kaboom" } });
});

behaviour("runs.wait.interrupt", async ({ api }) => {
  const output = await api.runOn(await api.thread(), "hitl", { question: "Sure?" });
  expect(output.__interrupt__).toMatchObject([{ id: expect.any(String), value: { ask: "person", question: "Sure?" } }]);
});

behaviour("runs.wait.unknown-thread", async ({ api }) => {
  await refused(api.http.post(`/threads/${NOBODY}/runs/wait`, { assistant_id: "plain" }), 404, NOBODY);
});

behaviour("runs.wait.disconnect-cancels", async ({ api }) => {
  const thread_id = await api.thread();
  const client = new AbortController();
  const body = { assistant_id: "slow", input: { delay_ms: 300_000 }, on_disconnect: "cancel" };
  const pending = api.http.post(`/threads/${thread_id}/runs/wait`, body, { signal: client.signal });
  await eventually(async () => (await api.get(`/threads/${thread_id}/runs`))[0]?.status === "running");
  client.abort();
  await expect(pending).rejects.toThrow();
  await eventually(async () => (await api.get(`/threads/${thread_id}/runs`))[0]?.status === "interrupted");
});

behaviour("runs.wait.bad-disconnect", async ({ api }) => {
  const body = { assistant_id: "plain", on_disconnect: "cry" };
  await refused(api.http.post(`/threads/${await api.thread()}/runs/wait`, body), 422, "on_disconnect");
});

/* ------------------------------------------------------------------------------ read a run */

behaviour("runs.get", async ({ api }) => {
  const { path, run } = await api.start("plain", { value: 1 });
  await api.get(`${path}/join`);
  expect(await api.get(path)).toMatchObject({ ...run, status: "success", updated_at: expect.any(String) });
});

behaviour("runs.get.error-status", async ({ api }) => {
  const { path } = await api.start("error");
  await api.get(`${path}/join`);
  expect(await api.get(path)).toMatchObject({ status: "error" });
});

behaviour("runs.get.interrupted-status", async ({ api }) => {
  const { path } = await api.start("hitl");
  await api.get(`${path}/join`);
  expect(await api.get(path)).toMatchObject({ status: "interrupted" });
});

behaviour("runs.get.unknown", async ({ api }) => {
  await refused(api.http.get(`/threads/${await api.thread()}/runs/${NOBODY}`), 404, NOBODY);
});

behaviour("runs.get.other-thread", async ({ api }) => {
  const { run_id } = await api.start("plain");
  await refused(api.http.get(`/threads/${await api.thread()}/runs/${run_id}`), 404, run_id);
});

behaviour("runs.list", async ({ api }) => {
  const thread_id = await api.thread();
  const made: string[] = [];
  for (const value of [1, 2, 3]) made.unshift((await api.start("plain", { value }, {}, thread_id)).run_id);
  expect(ids(await api.get(`/threads/${thread_id}/runs`), "run_id")).toEqual(made);
});

behaviour("runs.list.page", async ({ api }) => {
  const thread_id = await api.thread();
  const made: string[] = [];
  for (const value of [1, 2, 3]) made.unshift((await api.start("plain", { value }, {}, thread_id)).run_id);
  expect(ids(await api.get(`/threads/${thread_id}/runs?limit=1&offset=1`), "run_id")).toEqual([made[1]]);
});

behaviour("runs.list.status", async ({ api }) => {
  const thread_id = await api.ranPlain();
  const { run_id, path } = await api.start("error", {}, {}, thread_id);
  await api.get(`${path}/join`);
  expect(ids(await api.get(`/threads/${thread_id}/runs?status=error`), "run_id")).toEqual([run_id]);
  expect(await api.get(`/threads/${thread_id}/runs?status=timeout`)).toEqual([]);
});

behaviour("runs.list.select", async ({ api }) => {
  const thread_id = await api.ranPlain();
  const [run] = await api.get(`/threads/${thread_id}/runs?select=run_id&select=status`);
  expect(run).toEqual({ run_id: expect.any(String), status: "success" });
});

behaviour("runs.list.select-forms", async ({ api }) => {
  const thread_id = await api.ranPlain();
  for (const select of ['["run_id","status"]', "run_id,status"]) {
    const [run] = await api.get(`/threads/${thread_id}/runs?select=${encodeURIComponent(select)}`);
    expect(Object.keys(run).sort()).toEqual(["run_id", "status"]);
  }
});

behaviour("runs.list.bad-select", async ({ api }) => {
  await refused(api.http.get(`/threads/${await api.thread()}/runs?select=secrets`), 422, "select");
});

behaviour("runs.list.bad-status", async ({ api }) => {
  await refused(api.http.get(`/threads/${await api.thread()}/runs?status=asleep`), 422, "status");
});

behaviour("runs.list.unknown-thread", async ({ api }) => {
  await refused(api.http.get(`/threads/${NOBODY}/runs`), 404, NOBODY);
});

/* ---------------------------------------------------------------------------------- delete */

behaviour("runs.delete", async ({ api }) => {
  const { path } = await api.start("plain", { value: 1 });
  await api.get(`${path}/join`);
  const answer = await api.http.delete(path);
  expect([answer.status, answer.body]).toEqual([200, expect.anything()]);
  await refused(api.http.get(path), 404);
});

behaviour("runs.delete.checkpoints", async ({ api }) => {
  const { path, thread_id, run_id } = await api.start("plain", { value: 1 });
  await api.get(`${path}/join`);
  await api.delete(path);
  expect((await api.history(thread_id)).filter(({ metadata }) => metadata.run_id === run_id)).toEqual([]);
});

behaviour("runs.delete.unknown", async ({ api }) => {
  await refused(api.http.delete(`/threads/${await api.thread()}/runs/${NOBODY}`), 404, NOBODY);
});

behaviour("runs.delete.twice", async ({ api }) => {
  const { path } = await api.start("plain", { value: 1 });
  await api.get(`${path}/join`);
  await api.delete(path);
  await refused(api.http.delete(path), 404);
});

/* ------------------------------------------------------------------------------------ join */

behaviour("runs.join", async ({ api }) => {
  const { path } = await api.start("plain", { value: 1 });
  expect(await api.get(`${path}/join`)).toEqual({ value: 4, steps: ["first", "second"] });
});

behaviour("runs.join.finished", async ({ api }) => {
  const { path } = await api.start("plain", { value: 1 });
  const output = await api.get(`${path}/join`);
  expect(await api.get(`${path}/join`)).toEqual(output);
});

behaviour("runs.join.own-output", async ({ api }) => {
  const thread_id = await api.thread();
  const first = await api.start("plain", { value: 1 }, {}, thread_id);
  await api.get(`${first.path}/join`);
  await api.runOn(thread_id, "plain", { value: 100 });
  expect(await api.get(`${first.path}/join`)).toMatchObject({ value: 4 });
});

behaviour("runs.join.interrupt", async ({ api }) => {
  const { path } = await api.start("hitl", { question: "Sure?" });
  expect((await api.get(`${path}/join`)).__interrupt__).toMatchObject([{ value: { ask: "person" } }]);
});

behaviour("runs.join.error", async ({ api }) => {
  const { path } = await api.start("error");
  expect(await api.get(`${path}/join`)).toEqual({ __error__: { error: "TypeError", message: "kaboom" } });
});

behaviour("runs.join.unknown", async ({ api }) => {
  await refused(api.http.get(`/threads/${await api.thread()}/runs/${NOBODY}/join`), 404, NOBODY);
});

behaviour("runs.join.many", async ({ api }) => {
  const { path } = await api.start("counter", { steps: 5, delay_ms: 10 });
  const all = await Promise.all(Array.from({ length: 5 }, () => api.get(`${path}/join`)));
  for (const output of all) expect(output).toMatchObject({ count: 5 });
});

/* ---------------------------------------------------------------------------------- cancel */

behaviour("runs.cancel.interrupt", async ({ api }) => {
  const place = await api.start("slow", { delay_ms: 300_000 });
  await api.running(place);
  const answer = await api.http.post(`${place.path}/cancel?wait=true`);
  expect([answer.status, answer.body]).toEqual([200, expect.anything()]);
  expect(await api.get(place.path)).toMatchObject({ status: "interrupted" });
});

behaviour("runs.cancel.keeps-checkpoints", async ({ api }) => {
  const place = await api.start("slow", { delay_ms: 300_000 });
  await api.running(place);
  await eventually(async () => (await api.history(place.thread_id)).length > 0);
  await api.post(`${place.path}/cancel?wait=true`);
  expect((await api.history(place.thread_id)).length).toBeGreaterThan(0);
});

behaviour("runs.cancel.rollback", async ({ api }) => {
  const thread_id = await api.ranPlain();
  const before = await api.history(thread_id);
  const place = await api.start("slow", { delay_ms: 300_000 }, {}, thread_id);
  await api.running(place);
  await api.post(`${place.path}/cancel?wait=1&action=rollback`);
  await refused(api.http.get(place.path), 404);
  expect(await api.history(thread_id)).toEqual(before);
  expect(await api.get(`/threads/${thread_id}`)).toMatchObject({ status: "idle", values: { value: 4 } });
});

behaviour("runs.cancel.pending", async ({ api }) => {
  await using busy = await api.busy();
  const waiting = await api.start("plain", { value: 1 }, {}, busy.thread_id);
  await api.post(`${waiting.path}/cancel?wait=true`);
  expect(await api.get(waiting.path)).toMatchObject({ status: "interrupted" });
});

behaviour("runs.cancel.wait-zero", async ({ api }) => {
  const place = await api.start("slow", { delay_ms: 300_000 });
  await api.running(place);
  expect((await api.http.post(`${place.path}/cancel?wait=0`)).status).toBe(200);
  await eventually(async () => (await api.get(place.path)).status === "interrupted");
});

behaviour("runs.cancel.finished", async ({ api }) => {
  const { path } = await api.start("plain", { value: 1 });
  await api.get(`${path}/join`);
  await refused(api.http.post(`${path}/cancel`), 409);
  expect(await api.get(path)).toMatchObject({ status: "success" });
});

behaviour("runs.cancel.bad-action", async ({ api }) => {
  const { path } = await api.start("plain");
  await refused(api.http.post(`${path}/cancel?action=explode`), 422, "action");
});

behaviour("runs.cancel.unknown", async ({ api }) => {
  await refused(api.http.post(`/threads/${await api.thread()}/runs/${NOBODY}/cancel`), 404, NOBODY);
});

behaviour("runs.cancel.ends-streams", async ({ api }) => {
  const place = await api.start("slow", { delay_ms: 300_000 });
  await using stream = await api.open(`${place.path}/stream`);
  await stream.next();
  await api.post(`${place.path}/cancel`);
  await stream.rest();
  expect(stream.complete).toBe(true);
});

/* --------------------------------------------------------------------------- cancel several */

behaviour("runs.cancel-many.ids", async ({ api }) => {
  const one = await api.busy();
  await using other = await api.busy({}, await api.thread());
  const answer = await api.http.post("/runs/cancel", { thread_id: one.thread_id, run_ids: [one.run_id] });
  expect([answer.status, answer.text]).toEqual([204, ""]);
  await eventually(async () => (await api.get(one.path)).status === "interrupted");
  expect(["pending", "running"]).toContain((await api.get(other.path)).status);
});

behaviour("runs.cancel-many.rollback", async ({ api }) => {
  const one = await api.busy();
  await api.post("/runs/cancel?action=rollback", { thread_id: one.thread_id, run_ids: [one.run_id] });
  await eventually(async () => (await api.http.get(one.path)).status === 404);
});

behaviour("runs.cancel-many.unknown", async ({ api }) => {
  const thread_id = await api.thread();
  await refused(api.http.post("/runs/cancel", { thread_id, run_ids: [NOBODY] }), 404);
});

behaviour("runs.cancel-many.one-of-two", async ({ api }) => {
  await refused(api.http.post("/runs/cancel", {}), 422);
  await refused(api.http.post("/runs/cancel", { status: "all", thread_id: NOBODY, run_ids: [NOBODY] }), 422);
  await refused(api.http.post("/runs/cancel", { thread_id: NOBODY }), 422);
});

behaviour("runs.cancel-many.bad-status", async ({ api }) => {
  await refused(api.http.post("/runs/cancel", { status: "success" }), 422, "status");
});

behaviour(
  "runs.cancel-many.all",
  async ({ api }) => {
    const all = [await api.busy(), await api.busy()];
    await api.running(all[0] as Any);
    expect((await api.http.post("/runs/cancel", { status: "all" })).status).toBe(204);
    for (const { path } of all) await eventually(async () => (await api.get(path)).status === "interrupted");
  },
  { alone: true },
);

behaviour(
  "runs.cancel-many.pending-only",
  async ({ api }) => {
    await using busy = await api.busy();
    await api.running(busy);
    const waiting = await api.start("plain", {}, {}, busy.thread_id);
    await api.post("/runs/cancel", { status: "pending" });
    await eventually(async () => (await api.get(waiting.path)).status === "interrupted");
    expect(await api.get(busy.path)).toMatchObject({ status: "running" });
  },
  { alone: true },
);

/* ------------------------------------------------------------------------------- stateless */

behaviour("stateless.create", async ({ api }) => {
  const run = await api.post("/runs", { assistant_id: "plain", input: { value: 1 } });
  expect(run).toMatchObject({ run_id: expect.stringMatching(UUID), thread_id: expect.stringMatching(UUID) });
});

behaviour("stateless.create.location", async ({ api }) => {
  const answer = await api.http.post("/runs", { assistant_id: "plain", input: {} });
  expect(answer.headers.get("content-location")).toBe(`/runs/${answer.body.run_id}`);
});

behaviour("stateless.create.unknown-assistant", async ({ api }) => {
  await refused(api.http.post("/runs", { assistant_id: "no-such-graph" }), 404, "no-such-graph");
});

behaviour("stateless.create.bad-completion", async ({ api }) => {
  await refused(api.http.post("/runs", { assistant_id: "plain", on_completion: "burn" }), 422, "on_completion");
});

behaviour("stateless.create.thread-goes", async ({ api }) => {
  const { thread_id, run_id } = await api.post("/runs", { assistant_id: "plain", input: { value: 1 } });
  await api.http.get(`/runs/${run_id}/join`);
  await eventually(async () => (await api.http.get(`/threads/${thread_id}`)).status === 404);
});

behaviour("stateless.create.thread-kept", async ({ api }) => {
  const body = { assistant_id: "plain", input: { value: 1 }, on_completion: "keep" };
  const { thread_id, run_id } = await api.post("/runs", body);
  await api.get(`/runs/${run_id}/join`);
  expect(await api.get(`/threads/${thread_id}`)).toMatchObject({ values: { value: 4 } });
});

behaviour("stateless.wait", async ({ api }) => {
  expect(await api.run("plain", { value: 1 })).toEqual({ value: 4, steps: ["first", "second"] });
});

behaviour("stateless.wait.location", async ({ api }) => {
  const answer = await api.http.post("/runs/wait", { assistant_id: "plain", input: {} });
  expect(answer.headers.get("content-location")).toMatch(/^\/runs\/[0-9a-f-]{36}$/);
});

behaviour("stateless.wait.error", async ({ api }) => {
  expect(await api.run("error")).toEqual({ __error__: { error: "TypeError", message: "kaboom" } });
});

behaviour("stateless.wait.interrupt", async ({ api }) => {
  expect((await api.run("hitl")).__interrupt__).toHaveLength(1);
});

behaviour("stateless.wait.no-memory", async ({ api }) => {
  const second = async () => api.run("plain", { value: 1 });
  await second();
  expect(await second()).toMatchObject({ steps: ["first", "second"] });
});

behaviour("stateless.stream.location", async ({ api }) => {
  await using stream = await api.open("/runs/stream", { body: { assistant_id: "plain", input: {} } });
  expect(stream.headers["content-location"]).toMatch(/^\/runs\/[0-9a-f-]{36}$/);
});

behaviour("stateless.stream.unknown-assistant", async ({ api }) => {
  await refused(api.http.post("/runs/stream", { assistant_id: "no-such-graph" }), 404);
});

behaviour("stateless.batch", async ({ api }) => {
  const body = [1, 2, 3].map((value) => ({ assistant_id: "plain", input: { value }, on_completion: "keep" }));
  const runs = await api.post("/runs/batch", body);
  const outputs = await Promise.all(runs.map(({ run_id }: Any) => api.get(`/runs/${run_id}/join`)));
  expect(outputs.map(({ value }: Any) => value)).toEqual([4, 6, 8]);
});

behaviour("stateless.batch.empty", async ({ api }) => {
  await refused(api.http.post("/runs/batch", []), 422);
});

behaviour("stateless.batch.no-list", async ({ api }) => {
  await refused(api.http.post("/runs/batch", { assistant_id: "plain" }), 422);
});

behaviour("stateless.batch.all-or-none", async ({ api }) => {
  const mark = api.mark();
  const good = { assistant_id: "plain", on_completion: "keep", metadata: { mark } };
  await refused(api.http.post("/runs/batch", [good, { assistant_id: "no-such-graph" }]), 404, "no-such-graph");
  expect(await api.post("/threads/count", { metadata: { mark } })).toBe(0);
});

behaviour("stateless.batch.field-path", async ({ api }) => {
  const body = [{ assistant_id: "plain" }, { assistant_id: "plain", durability: "x" }];
  await refused(api.http.post("/runs/batch", body), 422, "1.durability");
});

behaviour("stateless.batch.camel-case", async ({ api }) => {
  const [run] = await api.post("/runs/batch", [{ assistant_id: "plain", input: { value: 1 }, onCompletion: "keep" }]);
  await api.get(`/runs/${run.run_id}/join`);
  expect(await api.get(`/threads/${run.thread_id}`)).toMatchObject({ values: { value: 4 } });
});

behaviour("stateless.join", async ({ api }) => {
  const { run_id } = await api.post("/runs", { assistant_id: "plain", input: { value: 1 } });
  expect(await api.get(`/runs/${run_id}/join`)).toMatchObject({ value: 4 });
});

behaviour("stateless.join.unknown", async ({ api }) => {
  await refused(api.http.get(`/runs/${NOBODY}/join`), 404, NOBODY);
});

behaviour("stateless.join-stream", async ({ api }) => {
  const body = { assistant_id: "plain", input: { value: 1 }, stream_resumable: true };
  const { run_id } = await api.post("/runs", body);
  const frames = await api.frames(`/runs/${run_id}/stream`, { lastEventId: "-1" });
  expect(frames[0]?.event).toBe("metadata");
});

behaviour("stateless.join-stream.unknown", async ({ api }) => {
  await refused(api.http.get(`/runs/${NOBODY}/stream`), 404, NOBODY);
});
