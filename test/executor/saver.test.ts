/** LangGraph's own suite for checkpointers, on our saver over the real SQLite tables. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { deltaChannelHistoryTests, validate } from "@langchain/langgraph-checkpoint-validation";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { langGraphOf } from "../../src/executor/langgraph.ts";
import type { StoragePort } from "../../src/executor/port.ts";
import type { StorageCall } from "../../src/executor/protocol.ts";
import { makeSaver } from "../../src/executor/saver.ts";
import { openSqlite } from "../../src/storage/sqlite.ts";
import type { Storage } from "../../src/storage/storage.ts";
import * as checkpoints from "../../src/storage/tables/checkpoints.ts";
import { GRAPHS } from "./support.ts";

let dir: string;
let storage: Storage;
let langgraph: Awaited<ReturnType<typeof langGraphOf>>;

beforeAll(async () => {
  langgraph = await langGraphOf(`${GRAPHS}basic.mjs`);
  dir = await mkdtemp(join(tmpdir(), "skein-saver-"));
  storage = await openSqlite({ dir });
});
afterAll(async () => {
  await storage.close();
  await rm(dir, { recursive: true, force: true });
});

const port: StoragePort = {
  call: (async (call: StorageCall) => {
    switch (call.op) {
      case "put_checkpoint":
        await storage.write((tx) => checkpoints.put(tx, null, call.row, call.blobs));
        return null;
      case "put_writes":
        await storage.write((tx) => checkpoints.putWrites(tx, null, call.key, call.writes, call.keep_existing));
        return null;
      case "get_checkpoint":
        return storage.read((db) => checkpoints.get(db, call.query));
      case "list_checkpoints":
        return storage.read((db) => checkpoints.list(db, call.query));
      case "delete_thread_checkpoints":
        await storage.write((tx) => checkpoints.removeThread(tx, call.thread_id));
        return null;
      default:
        throw new Error(`not part of this suite: ${call.op}`);
    }
  }) as StoragePort["call"],
};

const suite = {
  checkpointerName: "SkeinSaver",
  createCheckpointer: () => makeSaver(langgraph, port, null),
  destroyCheckpointer: async () => {
    const threads = new Set<string>();
    for (const { thread_id } of await storage.read((db) => checkpoints.list(db, {}))) threads.add(thread_id);
    for (const thread_id of threads) await storage.write((tx) => checkpoints.removeThread(tx, thread_id));
  },
};
// The suite expects its runner's functions as globals.
Object.assign(globalThis, { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, test: it });
validate(suite);
deltaChannelHistoryTests(suite);
