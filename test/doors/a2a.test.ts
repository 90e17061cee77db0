/** A2A, driven by the SDK's own clients of both versions; what raw requests may do is in `a2a-wire.test.ts`. */
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { TaskState } from "@a2a-js/sdk";
import type { Client } from "@a2a-js/sdk/client";
import { TaskNotCancelableError, TaskNotFoundError, UnsupportedOperationError } from "@a2a-js/sdk/errors";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { linesOf, openGate } from "../faults/support.ts";
import { http, ok } from "../support/http.ts";
import {
  eventually,
  FIXTURES,
  project,
  startServer,
  type TempDir,
  type TestServer,
  tempDir,
} from "../support/server.ts";
import {
  agent,
  all,
  artifactText,
  Inbox,
  lastStatus,
  legacyAgent,
  message,
  rpc,
  send,
  streamOf,
  texts,
} from "./support.ts";

let own: TempDir;
let server: TestServer;
let temp: TempDir;
const names = ["agent", "chat", "plain", "echo", "hitl", "slow", "error", "remember"];
beforeAll(async () => {
  temp = await tempDir();
  const graphs = Object.fromEntries(names.map((name) => [name, join(FIXTURES, `${name}.mjs:graph`)]));
  const more = { hitl2: join(FIXTURES, "hitl.mjs:parallel"), secretive: "./secretive.mjs:graph" };
  own = await project(
    { "secretive.mjs": SECRETIVE },
    { graphs: { ...graphs, ...more }, webhooks: { url: { disable_loopback: false } } },
  );
  server = await startServer({ project: own });
});
afterAll(async () => {
  await server?.[Symbol.asyncDispose]();
  await own?.[Symbol.asyncDispose]();
  await temp?.[Symbol.asyncDispose]();
});

const SECRETIVE = `
import { Annotation, START, StateGraph } from "@langchain/langgraph";
const fail = () => {
  throw new Error("cannot reach postgres://root:hunter2@db.internal:5432/x: connect ECONNREFUSED 10.1.2.3:5432");
};
export const graph = new StateGraph(Annotation.Root({ value: Annotation() }))
  .addNode("fail", fail).addEdge(START, "fail").compile();
`;

// biome-ignore lint/suspicious/noExplicitAny: events of several kinds; `expect` is the check.
type Any = any;
const gate = () => join(temp.dir, randomUUID());
const tasks = (id: string) => ({ tenant: "", id });

describe("the client of 1.0", () => {
  test("sends a message and gets the finished task, with history and answer", async () => {
    const client = await agent(server, "agent");
    const task = await send(client, { text: "hello" });
    expect(task.status?.state).toBe(TaskState.TASK_STATE_COMPLETED);
    expect(task.artifacts.map(({ name, parts }) => [name, texts(parts)])).toEqual([
      ["Assistant Response", ["Results: 5, HELLO"]],
    ]);
    expect(task.history.map(({ parts }) => texts(parts).join())).toEqual([
      "hello",
      "Let me see.",
      "5",
      "HELLO",
      "Results: 5, HELLO",
    ]);
    expect(task.history[2]?.metadata).toMatchObject({ type: "tool", name: "add", toolCallId: "call_1_0" });
    expect(task.history[1]?.parts[1]).toMatchObject({ metadata: { type: "tool_call", toolCallId: "call_1_0" } });
    // The task is the run, and the context the thread.
    const run = await ok(http(server.url).get(`/threads/${task.contextId}/runs/${task.id}`));
    expect(run).toMatchObject({ status: "success" });
    expect(JSON.stringify(run)).not.toContain("message_id");
    const { values } = await ok(http(server.url).get(`/threads/${task.contextId}/state`));
    expect(values.messages[0].id).toBe(task.history[0]?.messageId);
  });

  test("goes on in a context, and reads the task again", async () => {
    const client = await agent(server, "chat");
    const first = await send(client, { text: "one" });
    const second = await send(client, { text: "two", contextId: first.contextId });
    expect(second.contextId).toBe(first.contextId);
    expect(second.id).not.toBe(first.id);
    expect(second.history.map(({ parts }) => texts(parts)[0])).toEqual([
      "one",
      "You said: one",
      "two",
      "You said: two",
    ]);
    expect(await client.getTask({ ...tasks(second.id), historyLength: undefined })).toEqual(second);
    const short = await client.getTask({ ...tasks(second.id), historyLength: 1 });
    expect(short.history.map(({ parts }) => texts(parts)[0])).toEqual(["You said: two"]);
    const none = await client.getTask({ ...tasks(second.id), historyLength: 0 });
    expect(none.history).toEqual([]);
    // What the first gave is still there.
    const again = await client.getTask({ ...tasks(first.id), historyLength: undefined });
    expect(again.artifacts).toEqual(first.artifacts);
    await expect(client.getTask({ ...tasks(randomUUID()), historyLength: undefined })).rejects.toBeInstanceOf(
      TaskNotFoundError,
    );
  });

  test("data parts are the input, and what is no conversation comes back as data", async () => {
    const client = await agent(server, "plain");
    const task = await send(client, { data: { value: 3 } });
    expect(task.artifacts[0]?.parts[0]?.content).toEqual({
      $case: "data",
      value: { value: 8, steps: ["first", "second"] },
    });
    expect(task.history[0]?.parts[0]?.content).toEqual({ $case: "data", value: { value: 3 } });
    await expect(send(client, { text: "hi" })).rejects.toThrow(/takes no text/);
  });

  test("streams the answer as it is spoken", async () => {
    const client = await agent(server, "agent");
    const events = await all(streamOf(client, { text: "hello" }));
    expect(events[0]?.payload?.$case).toBe("task");
    expect(events[1]?.payload).toMatchObject({
      $case: "statusUpdate",
      value: { status: { state: TaskState.TASK_STATE_WORKING } },
    });
    const pieces = events.filter(({ payload }) => payload?.$case === "artifactUpdate");
    expect(pieces.length).toBeGreaterThan(3);
    expect(artifactText(events)).toBe("Results: 5, HELLO");
    expect(lastStatus(events)).toBe(TaskState.TASK_STATE_COMPLETED);
  });

  test("does not wait where it need not, follows again, and cancels", async () => {
    const client = await agent(server, "slow");
    const [way, log] = [gate(), gate()];
    const task = await send(client, { data: { gate: way, log } }, { returnImmediately: true });
    expect([TaskState.TASK_STATE_SUBMITTED, TaskState.TASK_STATE_WORKING]).toContain(task.status?.state);
    const events = client.resubscribeTask(tasks(task.id));
    const first = await events.next();
    expect(first.value?.payload).toMatchObject({ $case: "task", value: { id: task.id } });
    await eventually(() => linesOf(log).includes("start 1"));
    const canceled = await client.cancelTask({ ...tasks(task.id), metadata: undefined });
    expect(canceled.status?.state).toBe(TaskState.TASK_STATE_CANCELED);
    expect(lastStatus(await all(events))).toBe(TaskState.TASK_STATE_CANCELED);
    expect(linesOf(log)).toEqual(["start 1", "aborted 1"]);
    const cancel = client.cancelTask({ ...tasks(task.id), metadata: undefined });
    await expect(cancel).rejects.toBeInstanceOf(TaskNotCancelableError);
    await expect(all(client.resubscribeTask(tasks(task.id)))).rejects.toBeInstanceOf(UnsupportedOperationError);
    await expect(send(client, { data: {}, taskId: task.id })).rejects.toBeInstanceOf(UnsupportedOperationError);
  });

  test("resubscribing replays the answer, not a part of it", async () => {
    const client = await agent(server, "chat");
    const slowly = { configurable: { tokens: 40, delay_ms: 25 } };
    const { assistant_id } = await ok(http(server.url).post("/assistants", { graph_id: "chat", config: slowly }));
    const talker = await agent(server, assistant_id);
    const stream = streamOf(talker, { text: "go on" });
    const { value: first } = await stream.next();
    const id = first?.payload?.$case === "task" ? first.payload.value.id : "";
    let seen = 0;
    for await (const event of stream) {
      if (event.payload?.$case === "artifactUpdate") seen += 1;
      if (seen === 5) break;
    }
    const events = await all(talker.resubscribeTask(tasks(id)));
    expect(artifactText(events)).toBe(Array.from({ length: 40 }, (_, n) => `word${n}`).join(" "));
    expect(lastStatus(events)).toBe(TaskState.TASK_STATE_COMPLETED);
    // Tasks belong to the agent they were sent to.
    await expect(client.getTask({ ...tasks(id), historyLength: 0 })).rejects.toBeInstanceOf(TaskNotFoundError);
  });

  test("a question, its answer as data, and the task goes on under its id", async () => {
    const client = await agent(server, "hitl");
    const events = await all(streamOf(client, { data: { question: "Sure?" } }));
    expect(lastStatus(events)).toBe(TaskState.TASK_STATE_INPUT_REQUIRED);
    const asked = events.find(({ payload }) => payload?.$case === "artifactUpdate")?.payload;
    const artifact = asked?.$case === "artifactUpdate" ? asked.value.artifact : undefined;
    expect(artifact?.name).toBe("Interrupt");
    const question = artifact?.parts[0]?.content?.value as { id: string; value: unknown };
    expect(question.value).toEqual({ ask: "person", question: "Sure?" });
    const first = events[0]?.payload;
    const id = first?.$case === "task" ? first.value.id : "";
    const waiting = await client.getTask({ ...tasks(id), historyLength: undefined });
    expect(waiting.status?.state).toBe(TaskState.TASK_STATE_INPUT_REQUIRED);
    expect(waiting.status?.message?.parts[0]?.metadata).toEqual({ interruptId: question.id });
    // Whoever comes late hears the question too.
    expect(lastStatus(await all(client.resubscribeTask(tasks(id))))).toBe(TaskState.TASK_STATE_INPUT_REQUIRED);

    await expect(send(client, { data: { resume: [{ id: "0".repeat(32), value: 1 }] }, taskId: id })).rejects.toThrow(
      /no answer/,
    );
    const done = await send(client, { data: { resume: [{ id: question.id, value: { ok: true } }] }, taskId: id });
    expect([done.id, done.status?.state]).toEqual([id, TaskState.TASK_STATE_COMPLETED]);
    expect(done.artifacts[0]?.parts[0]?.content?.value).toMatchObject({
      answers: { person: { ok: true } },
      done: "person",
    });
    expect(await client.getTask({ ...tasks(id), historyLength: undefined })).toEqual(done);
    // Two runs, one task.
    expect(await ok(http(server.url).get(`/threads/${done.contextId}/runs`))).toHaveLength(2);
    const listed = await client.listTasks({ ...LIST, contextId: done.contextId });
    expect(listed.tasks.map((task) => task.id)).toEqual([id]);
  });

  test("a text answers one question; two need names", async () => {
    const client = await agent(server, "hitl");
    const asked = await send(client, { data: { question: "Name?" } });
    const told = await send(client, {
      text: "Ada",
      taskId: `${asked.contextId}:${asked.id}`,
      contextId: asked.contextId,
    });
    expect(told.artifacts[0]?.parts[0]?.content?.value).toMatchObject({ answers: { person: "Ada" } });

    const both = await agent(server, "hitl2");
    const two = await send(both, { data: { question: "?" } });
    expect(two.artifacts.map(({ name }) => name)).toEqual(["Interrupt", "Interrupt"]);
    await expect(send(both, { text: "yes", taskId: two.id })).rejects.toThrow(/waits for 2 answers/);
    const ids = two.artifacts.map(({ metadata }) => String(metadata?.interruptId));
    const resume = ids.map((id, n) => ({ id, value: n }));
    const done = await send(both, { data: { resume }, taskId: two.id });
    expect(done.artifacts[0]?.parts[0]?.content?.value).toMatchObject({ done: "left+right" });
  });

  test("a task that waits can be given up", async () => {
    const client = await agent(server, "hitl");
    const asked = await send(client, { data: {} });
    const canceled = await client.cancelTask({ ...tasks(asked.id), metadata: undefined });
    expect(canceled.status?.state).toBe(TaskState.TASK_STATE_CANCELED);
    expect((await client.getTask({ ...tasks(asked.id), historyLength: 0 })).status?.state).toBe(
      TaskState.TASK_STATE_CANCELED,
    );
    await expect(send(client, { text: "late", taskId: asked.id })).rejects.toBeInstanceOf(UnsupportedOperationError);
  });

  test("a failed task says why, and not where our parts live", async () => {
    const failed = await send(await agent(server, "error"), { data: {} });
    expect(failed.status?.state).toBe(TaskState.TASK_STATE_FAILED);
    expect(texts(failed.status?.message?.parts)).toEqual(["TypeError: kaboom"]);
    const secretive = await send(await agent(server, "secretive"), { data: { value: 1 } });
    const [text = ""] = texts(secretive.status?.message?.parts);
    expect(text).toContain("cannot reach [address]");
    expect(text).not.toMatch(/hunter2|internal|10\.1\.2\.3/);
  });

  test("tasks are listed by page, state and context", async () => {
    const { assistant_id } = await ok(http(server.url).post("/assistants", { graph_id: "plain" }));
    const client = await agent(server, assistant_id);
    const sent = [];
    for (const value of [1, 2, 3]) sent.push(await send(client, { data: { value } }));
    const ids = sent.map(({ id }) => id).reverse();
    const first = await client.listTasks({ ...LIST, pageSize: 2, includeArtifacts: true });
    expect(first.tasks.map(({ id }) => id)).toEqual(ids.slice(0, 2));
    expect([first.totalSize, first.pageSize, first.tasks[0]?.artifacts.length, first.tasks[0]?.history]).toEqual([
      3,
      2,
      1,
      [],
    ]);
    const second = await client.listTasks({ ...LIST, pageSize: 2, pageToken: first.nextPageToken });
    expect([second.tasks.map(({ id }) => id), second.nextPageToken]).toEqual([ids.slice(2), ""]);
    const context = await client.listTasks({ ...LIST, contextId: sent[1]?.contextId ?? "" });
    expect(context.tasks.map(({ id }) => id)).toEqual([sent[1]?.id]);
    const failed = await client.listTasks({ ...LIST, status: TaskState.TASK_STATE_FAILED });
    expect(failed.tasks).toEqual([]);
    expect(await pages(client, 2)).toEqual([ids, 3]);
    const later = await client.listTasks({
      ...LIST,
      statusTimestampAfter: new Date(Date.now() + 60_000).toISOString(),
    });
    expect(later.tasks).toEqual([]);
  });
});

test("what changed last is listed first, and counted as one task however many runs it has", async () => {
  const { assistant_id } = await ok(http(server.url).post("/assistants", { graph_id: "hitl" }));
  const client = await agent(server, assistant_id);
  const [answered, withdrawn, waiting] = [
    await send(client, { data: {} }),
    await send(client, { data: {} }),
    await send(client, { data: {} }),
  ].map(({ id }) => id);
  expect(await pages(client, 2)).toEqual([[waiting, withdrawn, answered], 3]);
  const { status: gone } = await client.cancelTask({ ...tasks(withdrawn ?? ""), metadata: undefined });
  const before = new Date(Date.parse(gone?.timestamp ?? "") + 1).toISOString();
  await send(client, { text: "yes", taskId: answered ?? "" });
  expect(await pages(client, 2)).toEqual([[answered, withdrawn, waiting], 3]);
  expect(await pages(client, 1, { statusTimestampAfter: before })).toEqual([[answered], 1]);
  const states = [
    [TaskState.TASK_STATE_INPUT_REQUIRED, waiting],
    [TaskState.TASK_STATE_CANCELED, withdrawn],
    [TaskState.TASK_STATE_COMPLETED, answered],
  ] as const;
  for (const [status, id] of states) expect(await pages(client, 1, { status })).toEqual([[id], 1]);
});

/** Ids of all tasks that are listed, page by page, and how many there are said to be. */
async function pages(client: Client, pageSize: number, more: object = {}): Promise<[ids: string[], total: number]> {
  const ids: string[] = [];
  let pageToken = "";
  for (;;) {
    const page = await client.listTasks({ ...LIST, ...more, pageSize, pageToken });
    ids.push(...page.tasks.map(({ id }) => id));
    if (page.nextPageToken === "") return [ids, page.totalSize];
    pageToken = page.nextPageToken;
  }
}

const LIST = {
  tenant: "",
  contextId: "",
  status: TaskState.TASK_STATE_UNSPECIFIED,
  pageSize: undefined,
  pageToken: "",
  historyLength: undefined,
  statusTimestampAfter: undefined,
  includeArtifacts: undefined,
};

describe("the client of 0.3", () => {
  const legacy = (text: string, more: object = {}) => ({
    message: {
      kind: "message" as const,
      messageId: randomUUID(),
      role: "user" as const,
      parts: [{ kind: "text" as const, text }],
      ...more,
    },
  });

  test("sends, streams, reads and cancels", async () => {
    const client = await legacyAgent(server, "chat");
    const answer = await client.sendMessage(legacy("hello"));
    if (!("result" in answer) || answer.result.kind !== "task") throw new Error(JSON.stringify(answer));
    expect(answer.result).toMatchObject({
      kind: "task",
      status: { state: "completed" },
      artifacts: [{ name: "Assistant Response", parts: [{ kind: "text", text: "You said: hello" }] }],
    });
    const got = await client.getTask({ id: answer.result.id, historyLength: 1 });
    expect(got).toMatchObject({ result: { status: { state: "completed" }, history: [{ role: "agent" }] } });
    const kinds: string[] = [];
    let final: unknown;
    for await (const event of client.sendMessageStream(legacy("again", { contextId: answer.result.contextId }))) {
      kinds.push(event.kind);
      if (event.kind === "status-update") final = [event.status.state, event.final];
    }
    expect(kinds.slice(0, 2)).toEqual(["task", "status-update"]);
    expect(kinds).toContain("artifact-update");
    expect(final).toEqual(["completed", true]);
    const late = await client.cancelTask({ id: answer.result.id });
    expect(late).toMatchObject({ error: { code: -32002 } });
  });

  test("a stream that ends with a question says that it ends; who comes late hears the question only", async () => {
    const client = await legacyAgent(server, "hitl");
    const parts = [{ kind: "data" as const, data: { question: "?" } }];
    const events: Any[] = await all(client.sendMessageStream(legacy("", { parts })));
    expect(events.at(-1)).toMatchObject({ kind: "status-update", final: true, status: { state: "input-required" } });
    const late: Any[] = await all(client.resubscribeTask({ id: events[0].id }));
    expect(late.map(({ kind, status }) => [kind, status?.state])).toEqual([
      ["task", "input-required"],
      ["artifact-update", undefined],
      ["status-update", "input-required"],
    ]);
  });

  test("resumes with text, and with a command", async () => {
    const client = await legacyAgent(server, "hitl");
    const data = [{ kind: "data" as const, data: { question: "?" } }];
    const ask = async () => {
      const answer = await client.sendMessage(legacy("", { parts: data }));
      if (!("result" in answer) || answer.result.kind !== "task") throw new Error(JSON.stringify(answer));
      expect(answer.result.status.state).toBe("input-required");
      return answer.result;
    };
    const { id, contextId } = await ask();
    expect(await client.sendMessage(legacy("yes", { taskId: id, contextId }))).toMatchObject({
      result: {
        id,
        status: { state: "completed" },
        artifacts: [{ parts: [{ data: { answers: { person: "yes" } } }] }],
      },
    });
    const other = await ask();
    const command = { resume: "by command" };
    const params = { ...legacy("yes", { taskId: other.id }), command };
    expect((await rpc(server, "hitl", "message/send", params)).body).toMatchObject({
      result: { id: other.id, artifacts: [{ parts: [{ data: { answers: { person: "by command" } } }] }] },
    });
  });

  test("`context` is the run's, and `blocking: false` does not wait", async () => {
    const params = {
      message: { role: "user", messageId: "m", parts: [{ kind: "data", data: { input: 1 } }] },
      context: { tone: "dry" },
    };
    expect(
      (await rpc(server, "echo", "message/send", params)).body.result.artifacts[0].parts[0].data.seen,
    ).toMatchObject({
      input: 1,
      context: { tone: "dry" },
    });
    const way = gate();
    const slow = {
      message: { ...params.message, parts: [{ kind: "data", data: { gate: way } }] },
      configuration: { blocking: false },
    };
    const { result } = (await rpc(server, "slow", "message/send", slow)).body;
    expect(["submitted", "working"]).toContain(result.status.state);
    openGate(way, 1, 2, 3);
  });

  test("names of 1.0 without its header are answered as 0.3", async () => {
    const params = { message: { role: "ROLE_USER", messageId: "m", parts: [{ text: "hi" }] } };
    const { result } = (await rpc(server, "chat", "SendMessage", params)).body;
    expect(result).toMatchObject({
      kind: "task",
      status: { state: "completed" },
      artifacts: [{ parts: [{ kind: "text" }] }],
    });
    const listed = (await rpc(server, "chat", "ListTasks", { contextId: result.contextId })).body.result;
    expect(listed.tasks).toMatchObject([{ kind: "task", id: result.id, status: { state: "completed" } }]);
  });
});

describe("push notifications", () => {
  test("tell how a task is left, at each stop, with the client's proofs", async () => {
    await using inbox = await Inbox.open();
    const client = await agent(server, "hitl");
    const task = await send(client, { data: { question: "?" } }, { push: { url: inbox.url, token: "secret" } });
    const [first] = await inbox.wait(1);
    expect(first?.headers).toMatchObject({
      "x-a2a-notification-token": "secret",
      "content-type": "application/a2a+json",
    });
    expect(first?.body).toMatchObject({ task: { id: task.id, status: { state: "TASK_STATE_INPUT_REQUIRED" } } });
    await send(client, { text: "yes", taskId: task.id });
    const [, second] = await inbox.wait(2);
    expect(second?.body).toMatchObject({
      task: {
        id: task.id,
        status: { state: "TASK_STATE_COMPLETED" },
        artifacts: [{ parts: [{ data: { done: "person" } }] }],
      },
    });
  });

  test("are set, read, listed and deleted, and come to a task that runs", async () => {
    await using inbox = await Inbox.open();
    const client = await legacyAgent(server, "slow");
    const way = gate();
    const sent = await client.sendMessage({
      message: { kind: "message", role: "user", messageId: "m", parts: [{ kind: "data", data: { gate: way } }] },
      configuration: { blocking: false },
    });
    if (!("result" in sent) || sent.result.kind !== "task") throw new Error(JSON.stringify(sent));
    const { id: taskId } = sent.result;
    const config = (id: string) => ({
      id,
      url: inbox.url,
      token: id,
      authentication: { schemes: ["Bearer"], credentials: `key-${id}` },
    });
    for (const id of ["a", "b"])
      await client.setTaskPushNotificationConfig({ taskId, pushNotificationConfig: config(id) });
    const named = { id: taskId, pushNotificationConfigId: "a" };
    expect(await client.getTaskPushNotificationConfig(named)).toMatchObject({
      result: { taskId, pushNotificationConfig: config("a") },
    });
    await client.deleteTaskPushNotificationConfig({ id: taskId, pushNotificationConfigId: "a" });
    const listed = await client.listTaskPushNotificationConfig({ id: taskId });
    expect(listed).toMatchObject({ result: [{ taskId, pushNotificationConfig: config("b") }] });
    // Nobody else sees them.
    const { contextId } = sent.result;
    expect((await http(server.url).get(`/threads/${contextId}/runs/${taskId}`)).text).not.toContain("key-b");
    openGate(way, 1, 2, 3);
    const [call] = await inbox.wait();
    expect(call?.body).toMatchObject({ kind: "task", id: taskId, status: { state: "completed" } });
    expect(call?.headers).toMatchObject({ authorization: "Bearer key-b", "content-type": "application/json" });
    expect(inbox.calls).toHaveLength(1);
  });

  test("tell of a task that is cancelled before it began", async () => {
    await using inbox = await Inbox.open();
    const client = await agent(server, "slow");
    const way = gate();
    const first = await send(client, { data: { gate: way } }, { returnImmediately: true });
    const behind = await send(
      client,
      { data: {}, contextId: first.contextId },
      { returnImmediately: true, push: { url: inbox.url } },
    );
    expect(behind.status?.state).toBe(TaskState.TASK_STATE_SUBMITTED);
    const canceled = await client.cancelTask({ ...tasks(behind.id), metadata: undefined });
    expect(canceled.status?.state).toBe(TaskState.TASK_STATE_CANCELED);
    expect((await inbox.wait())[0]?.body).toMatchObject({
      task: { id: behind.id, status: { state: "TASK_STATE_CANCELED" } },
    });
    openGate(way, 1, 2, 3);
  });

  test("tell of a task that is given up while it waits", async () => {
    await using inbox = await Inbox.open();
    const client = await agent(server, "hitl");
    const task = await send(client, { data: {} }, { push: { url: inbox.url } });
    await inbox.wait(1);
    const canceled = await client.cancelTask({ ...tasks(task.id), metadata: undefined });
    const [, second] = await inbox.wait(2);
    expect(second?.body).toMatchObject({
      task: { id: task.id, status: { state: "TASK_STATE_CANCELED", timestamp: canceled.status?.timestamp } },
    });
  });

  test("follow the rules for webhooks", async () => {
    const push = { taskId: "", pushNotificationConfig: { url: "ftp://example.com/x" } };
    const params = {
      message: { role: "user", messageId: "m", parts: [{ kind: "data", data: {} }] },
      configuration: { pushNotificationConfig: push.pushNotificationConfig },
    };
    expect((await rpc(server, "plain", "message/send", params)).body.error).toMatchObject({ code: -32602 });
    const graphs = { plain: join(FIXTURES, "plain.mjs:graph") };
    await using closed = await project({}, { graphs, http: { disable_webhooks: true } });
    await using strict = await startServer({ project: closed });
    params.configuration.pushNotificationConfig.url = "https://example.com/x";
    expect((await rpc(strict, "plain", "message/send", params)).body.error).toMatchObject({ code: -32003 });
    const card = await ok(http(strict.url).get("/.well-known/agent-card.json?assistant_id=plain"));
    expect(card.capabilities).toMatchObject({ streaming: true, pushNotifications: false });
  });
});

const DELEGATES = `
import { ClientFactory } from "@a2a-js/sdk/client";
import { MessagesAnnotation, START, StateGraph } from "@langchain/langgraph";

async function delegate({ messages }) {
  const client = await new ClientFactory().createFromUrl(process.env.PEER + "/a2a/chat/");
  const part = { content: { $case: "text", value: messages.at(-1).text }, metadata: undefined, filename: "", mediaType: "" };
  const task = await client.sendMessage({
    tenant: "",
    message: { messageId: crypto.randomUUID(), contextId: "", taskId: "", role: 1, parts: [part], extensions: [], referenceTaskIds: [] },
    configuration: undefined,
  });
  return { messages: [{ type: "ai", content: "My peer: " + task.artifacts[0].parts[0].content.value }] };
}
export const graph = new StateGraph(MessagesAnnotation)
  .addNode("delegate", delegate).addEdge(START, "delegate").compile();
`;

test("two agents talk to each other", async () => {
  await using other = await project({ "delegates.mjs": DELEGATES });
  await using caller = await startServer({ project: other, env: { PEER: server.url } });
  const task = await send(await agent(caller, "delegates"), { text: "are you there" });
  expect(task.artifacts.flatMap(({ parts }) => texts(parts))).toEqual(["My peer: You said: are you there"]);
});

test("a message keeps its id", async () => {
  const client = await agent(server, "chat");
  const own = message({ text: "hi" });
  const task = await client.sendMessage({ tenant: "", message: own, configuration: undefined, metadata: undefined });
  if (!("history" in task)) throw new Error("no task");
  expect(task.history[0]?.messageId).toBe(own.messageId);
});
