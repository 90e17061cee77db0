/** How the Python SDK and its users write requests, by raw HTTP. */
import { describe, expect, test } from "vitest";
import { type Any, names, useServer } from "../runs/support.ts";

const api = useServer();
const plain = { assistant_id: "plain", input: { value: 1 } };
const MODES = ["values", "updates", "custom"];

describe("stream_mode in the query of a joiner", () => {
  const joined = async (query: string): Promise<(string | undefined)[]> => {
    const { path } = await api.background({ ...plain, stream_mode: MODES });
    return names(await api.frames(`${path}/stream${query}`));
  };
  const everything = ["metadata", "custom", "custom", "updates", "updates", "values", "values", "values"];
  const updates = ["metadata", "updates", "updates"];
  const both = ["metadata", "custom", "custom", "updates", "updates"];
  const sorted = (events: readonly (string | undefined)[]) => [events[0], ...events.slice(1).sort()];

  test.each([
    ["nothing", "", everything],
    ["empty", "?stream_mode=", everything],
    ["empty list", "?stream_mode=[]", everything],
    ["one", "?stream_mode=updates", updates],
    ["repeated", "?stream_mode=updates&stream_mode=custom", both],
    ["a JSON string", `?stream_mode=${encodeURIComponent('["updates","custom"]')}`, both],
    ["a comma list", "?stream_mode=updates,custom", both],
    ["with what it always adds", "?cancel_on_disconnect=False&stream_mode=updates", updates],
    ["with booleans as words", "?cancel_on_disconnect=false&stream_mode=updates", updates],
    ["with booleans as numbers", "?cancel_on_disconnect=0&stream_mode=updates", updates],
    ["with unknown names", "?stream_mode=updates&namespace=&checkpoint_id=x", updates],
  ])("%s", async (_, query, expected) => expect(sorted(await joined(query))).toEqual(expected));

  test("an unknown one is named", async () => {
    const { path } = await api.background(plain);
    for (const query of ["?stream_mode=nope", "?stream_mode=updates&stream_mode=nope"]) {
      const { status, body } = await api.http.get(`${path}/stream${query}`);
      expect(status).toBe(422);
      expect(body.detail).toMatch(/stream_mode.*nope/);
    }
    expect((await api.http.get(`${path}/stream?cancel_on_disconnect=maybe`)).body.detail).toContain(
      "cancel_on_disconnect",
    );
  });
});

test("bodies with every key, most of them null, as it sends them", async () => {
  const body = {
    input: { value: 1 },
    command: null,
    config: null,
    context: null,
    metadata: null,
    stream_mode: "values",
    stream_subgraphs: false,
    stream_resumable: false,
    assistant_id: "plain",
    interrupt_before: null,
    interrupt_after: null,
    feedback_keys: null,
    webhook: null,
    checkpoint: null,
    checkpoint_id: null,
    checkpoint_during: null,
    multitask_strategy: null,
    if_not_exists: null,
    on_disconnect: null,
    on_completion: null,
    after_seconds: null,
    durability: null,
  };
  expect(names(await api.stream(body))).toEqual(["metadata", "values", "values", "values"]);
  const thread_id = await api.thread();
  expect(await api.wait(body, `/threads/${thread_id}/runs/wait`)).toMatchObject({ value: 4 });
});

test("RemoteGraph's command with every key: a null resume beside others is none", async () => {
  const thread_id = await api.thread();
  await api.wait(plain, `/threads/${thread_id}/runs/wait`);
  const command = { lg_name: "Command", graph: null, update: { value: 50 }, resume: null, goto: ["second"] };
  const send = { node: "second", input: { value: 7 } };
  const path = `/threads/${thread_id}/runs/wait`;
  expect(await api.wait({ assistant_id: "plain", input: null, command }, path)).toMatchObject({ value: 100 });
  const sent = await api.wait({ assistant_id: "plain", command: { ...command, update: null, goto: send } }, path);
  expect(sent).toMatchObject({ value: 14 });
});

test("cancel without a body or a content type, booleans in any case", async () => {
  for (const wait of ["0", "1", "False", "True"]) {
    const { path } = await api.background({ ...plain, after_seconds: 600 });
    const response = await fetch(`${api.url}${path}/cancel?wait=${wait}&action=interrupt`, { method: "POST" });
    expect([wait, response.status, await response.json()]).toEqual([wait, 200, {}]);
    expect((await api.get(path)).status).toBe("interrupted");
  }
});

test("a batch in snake_case", async () => {
  const made = await api.post("/runs/batch", [{ ...plain, on_completion: "keep", stream_mode: ["updates"] }, plain]);
  for (const { run_id } of made) expect(await api.get(`/runs/${run_id}/join`)).toMatchObject({ value: 4 });
  expect((await api.get(`/threads/${made[0].thread_id}`)).status).toBe("idle");
});

test("a thread with an id of its own, twice", async () => {
  const thread_id = "b3e1f8c2-1234-4abc-8def-0123456789ab";
  const body = { thread_id, metadata: { who: "me" }, if_exists: "raise", supersteps: null, ttl: null };
  expect((await api.post("/threads", body)).thread_id).toBe(thread_id);
  expect((await api.http.post("/threads", body)).status).toBe(409);
  expect((await api.post("/threads", { ...body, if_exists: "do_nothing" })).metadata).toMatchObject({ who: "me" });
});

test("graph and subgraphs with its query habits", async () => {
  for (const xray of ["True", "true", "1", "2", "False"]) {
    const { nodes, edges } = await api.get(`/assistants/nested/graph?xray=${xray}`);
    expect(nodes.length).toBeGreaterThan(3);
    const keys = new Set(edges.flatMap((edge: Any) => Object.keys(edge)));
    for (const key of keys) expect(["source", "target", "data", "conditional"]).toContain(key);
  }
  expect(Object.keys(await api.get("/assistants/nested/subgraphs?recurse=True"))).toEqual(["middle", "middle|inner"]);
});
