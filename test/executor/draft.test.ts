/** LangGraph's own suite for checkpointers, on our saver over drafts: one that holds everything, one that holds half. */
import {
  deltaChannelHistoryTests,
  getTupleTests,
  listTests,
  putTests,
  putWritesTests,
} from "@langchain/langgraph-checkpoint-validation";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createDraft, type Draft } from "../../src/executor/draft.ts";
import { langGraphOf } from "../../src/executor/langgraph.ts";
import type { StoragePort } from "../../src/executor/port.ts";
import type { StorageCall } from "../../src/executor/protocol.ts";
import { makeSaver } from "../../src/executor/saver.ts";
import { GRAPHS, MapStorage } from "./support.ts";

let langgraph: Awaited<ReturnType<typeof langGraphOf>>;
beforeAll(async () => {
  langgraph = await langGraphOf(`${GRAPHS}basic.mjs`);
});

const portOf = (storage: MapStorage): StoragePort => ({
  call: (async (call: StorageCall) => storage.answer(call)) as StoragePort["call"],
});

const isWrite = ({ op }: StorageCall): boolean => op === "put_checkpoint" || op === "put_writes";

/** What came first is stored already when the draft is asked. */
function halfStored(): StoragePort {
  const stored = portOf(new MapStorage());
  const draft = createDraft(stored);
  let writes = 0;
  const target = (call: StorageCall): StoragePort => (isWrite(call) && writes++ < 2 ? stored : draft);
  return { call: ((call: StorageCall) => target(call).call(call)) as StoragePort["call"] };
}

// The suite expects its runner's functions as globals.
Object.assign(globalThis, { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, test: it });
for (const [name, port] of [
  ["a draft of everything", () => createDraft(portOf(new MapStorage()))],
  ["a draft on top of what is stored", halfStored],
] as const) {
  describe(name, () => {
    const suite = { checkpointerName: name, createCheckpointer: () => makeSaver(langgraph, port(), null) };
    for (const tests of [putTests, putWritesTests, getTupleTests, listTests, deltaChannelHistoryTests]) tests(suite);
  });
}

const key = (checkpoint_id: string) => ({ thread_id: "t", checkpoint_ns: "", checkpoint_id });
const put = (checkpoint_id: string): Extract<StorageCall, { op: "put_checkpoint" }> => ({
  op: "put_checkpoint",
  run_id: "",
  fence: 0,
  row: {
    ...key(checkpoint_id),
    parent_checkpoint_id: null,
    checkpoint: ["json", "{}"],
    metadata: "{}",
    blob_versions: {},
  },
  blobs: [],
  durability: "sync",
});

it("remembers what was the latest when it first looked, and stores nothing", async () => {
  const storage = new MapStorage();
  storage.answer(put("1"));
  storage.calls.length = 0;
  const draft: Draft = createDraft(portOf(storage));
  const query = { thread_id: "t", checkpoint_ns: "" };
  expect(await draft.call({ op: "get_checkpoint", query })).toMatchObject({ checkpoint_id: "1" });
  await draft.call(put("2"));
  storage.answer(put("3"));
  expect(await draft.call({ op: "get_checkpoint", query })).toMatchObject({ checkpoint_id: "2" });
  expect(await draft.call({ op: "get_checkpoint", query: { ...query, checkpoint_ns: "sub" } })).toBeNull();
  expect(draft.seen).toEqual([
    { checkpoint_ns: "", checkpoint_id: "1" },
    { checkpoint_ns: "sub", checkpoint_id: null },
  ]);
  expect(draft.writes).toMatchObject([{ op: "put_checkpoint", row: { checkpoint_id: "2" } }]);
  expect([...storage.rows.keys()]).toHaveLength(2);
});
