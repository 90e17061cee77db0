import { expect, test } from "vitest";
import type { AssistantRecord, ThreadRecord } from "../../src/storage/storage.ts";
import * as assistants from "../../src/storage/tables/assistants.ts";
import * as checkpoints from "../../src/storage/tables/checkpoints.ts";
import * as events from "../../src/storage/tables/events.ts";
import * as runs from "../../src/storage/tables/runs.ts";
import * as threads from "../../src/storage/tables/threads.ts";
import * as webhooks from "../../src/storage/tables/webhooks.ts";
import { openingOf } from "../../src/streaming/protocol/snapshot.ts";
import { eachDialect, NOW, newRun, newThread } from "./support.ts";

const assistant = (assistant_id: string, change: Partial<AssistantRecord> = {}): AssistantRecord => ({
  assistant_id,
  graph_id: "agent",
  name: assistant_id,
  description: null,
  config: { configurable: { a: 1 } },
  context: {},
  metadata: { created_by: "system" },
  version: 1,
  created_at: NOW,
  updated_at: NOW,
  ...change,
});

eachDialect((openTemp) => {
  test("an assistant is inserted once, with its first version", async () => {
    const storage = await openTemp();
    const insert = (record: AssistantRecord) => storage.write((tx) => assistants.insert(tx, record));
    expect(await insert(assistant("a"))).toBe(true);
    expect(await insert(assistant("a", { name: "other" }))).toBe(false);
    expect(await storage.read((db) => assistants.find(db, "a"))).toEqual(assistant("a"));
    const { updated_at: _, ...version } = assistant("a");
    expect(await storage.read((db) => assistants.findVersion(db, "a", 1))).toEqual(version);
    expect(await storage.read((db) => assistants.lastVersion(db, "a"))).toBe(1);
  });

  test("versions are kept, listed newest first, and go with their assistant", async () => {
    const storage = await openTemp();
    const two = assistant("a", { version: 2, name: "two", metadata: { k: "v" }, updated_at: NOW + 5 });
    const list = (query: Partial<assistants.VersionQuery>) =>
      storage.read((db) => assistants.versions(db, "a", { metadata: {}, limit: 10, offset: 0, ...query }));
    await storage.write(async (tx) => {
      await assistants.insert(tx, assistant("a"));
      await assistants.insert(tx, assistant("b"));
      await assistants.addVersion(tx, two);
    });
    expect(await storage.read((db) => assistants.find(db, "a"))).toEqual(two);
    expect((await list({})).map(({ version, name, created_at }) => [version, name, created_at])).toEqual([
      [2, "two", NOW + 5],
      [1, "a", NOW],
    ]);
    expect((await list({ offset: 1 })).map(({ version }) => version)).toEqual([1]);
    expect((await list({ metadata: { k: "v" } })).map(({ version }) => version)).toEqual([2]);
    expect(await storage.read((db) => assistants.countVersions(db, "a", { metadata: {} }))).toBe(2);
    await storage.write((tx) => assistants.remove(tx, "a"));
    expect(await storage.read((db) => assistants.find(db, "a"))).toBeUndefined();
    expect(await list({})).toEqual([]);
    expect(await storage.read((db) => assistants.lastVersion(db, "b"))).toBe(1);
  });

  test("defaults are told from assistants of clients", async () => {
    const storage = await openTemp();
    await storage.write(async (tx) => {
      await assistants.insert(tx, assistant("default"));
      await assistants.insert(tx, assistant("client", { metadata: { created_by: "user" } }));
    });
    const found = await storage.read((db) => assistants.listDefaults(db));
    expect(found.map(({ assistant_id }) => assistant_id)).toEqual(["default"]);
  });

  test("what is large of an assistant is read when it is selected", async () => {
    const storage = await openTemp();
    const whole = assistant("a", { config: { prompt: "long" }, context: { tone: "dry" }, metadata: { who: "me" } });
    await storage.write((tx) => assistants.insert(tx, whole));
    const search = async (query: assistants.AssistantQuery) =>
      (await storage.read((db) => assistants.search(db, query)))[0];
    expect(await search({})).toEqual(whole);
    expect(await search({ select: ["name", "context"] })).toEqual({ ...whole, config: {}, metadata: {} });
  });

  test("assistants are searched by graph, name and metadata, sorted and paged", async () => {
    const storage = await openTemp();
    await storage.write(async (tx) => {
      await assistants.insert(tx, assistant("1", { name: "Alpha 100%", created_at: NOW + 1 }));
      await assistants.insert(tx, assistant("2", { name: "beta", graph_id: "other", created_at: NOW + 2 }));
      await assistants.insert(tx, assistant("3", { name: "ALPHA_x", metadata: { team: "x" }, created_at: NOW }));
    });
    const found = async (query: assistants.AssistantQuery) =>
      (await storage.read((db) => assistants.search(db, query))).map((each) => each.assistant_id);
    expect(await found({})).toEqual(["2", "1", "3"]);
    expect(await found({ name: "alpha" })).toEqual(["1", "3"]);
    expect(await found({ name: "0%" })).toEqual(["1"]);
    await storage.write((tx) => assistants.insert(tx, assistant("4", { name: "Übersetzer", metadata: {} })));
    expect(await found({ name: "üBER" })).toEqual(["4"]);
    expect(await found({ graph_id: "other" })).toEqual(["2"]);
    expect(await found({ metadata: { team: "x" } })).toEqual(["3"]);
    expect(await found({ sort_by: "assistant_id", sort_order: "asc", limit: 1, offset: 1 })).toEqual(["2"]);
    expect(await storage.read((db) => assistants.count(db, { name: "alpha" }))).toBe(2);
  });

  const thread = (thread_id: string): ThreadRecord => ({
    thread_id,
    status: "idle",
    temporary: false,
    protocol: false,
    ttl: null,
    metadata: { a: { b: null } },
    config: {},
    values: null,
    interrupts: "{}",
    created_at: NOW,
    updated_at: NOW,
    state_updated_at: NOW,
  });

  test("a thread's id is taken once; touch changes what it is given", async () => {
    const storage = await openTemp();
    const insert = (record: ThreadRecord) => storage.write((tx) => threads.insert(tx, record));
    expect(await insert(thread("t"))).toBe(true);
    expect(await insert({ ...thread("t"), metadata: {} })).toBe(false);
    expect(await storage.read((db) => threads.find(db, "t"))).toEqual(thread("t"));

    const touch = (change: threads.ThreadChange) => storage.write((tx) => threads.touch(tx, "t", change));
    await touch({ status: "busy", updated_at: NOW + 1 });
    await touch({
      values: '{"x":1}',
      interrupts: '{"i":[]}',
      metadata: {},
      updated_at: NOW + 2,
      state_updated_at: NOW + 2,
    });
    const changed = { ...thread("t"), status: "busy", values: '{"x":1}', interrupts: '{"i":[]}', metadata: {} };
    expect(await storage.read((db) => threads.find(db, "t"))).toEqual({
      ...changed,
      updated_at: NOW + 2,
      state_updated_at: NOW + 2,
    });
    await touch({ values: null, updated_at: NOW + 3 });
    expect((await storage.read((db) => threads.find(db, "t")))?.values).toBeNull();
  });

  test("removing a thread takes its runs and checkpoints and leaves event logs and its neighbours", async () => {
    const storage = await openTemp();
    const run = newRun({ thread_id: "t" });
    await storage.write(async (tx) => {
      for (const thread_id of ["t", "u"]) {
        await threads.insert(tx, thread(thread_id));
        const key = { thread_id, checkpoint_ns: "", checkpoint_id: "1", parent_checkpoint_id: null };
        await checkpoints.put(tx, null, { ...key, checkpoint: ["json", "{}"], metadata: "{}", blob_versions: {} }, []);
      }
      await runs.insert(tx, run);
      await events.open(tx, run.run_id, "t");
      await threads.remove(tx, "t");
    });
    await storage.read(async (db) => {
      expect(await threads.find(db, "t")).toBeUndefined();
      expect(await runs.find(db, run.run_id)).toBeUndefined();
      expect(await checkpoints.latestOf(db, "t")).toBeNull();
      expect(await events.log(db, run.run_id)).toBeDefined();
      expect(await threads.find(db, "u")).toBeDefined();
      expect(await checkpoints.latestOf(db, "u")).toBe("1");
    });
  });

  test("event chunks are read from any event on", async () => {
    const storage = await openTemp();
    const chunks = [0, 3, 4].map((first, index) => ({
      run_id: "r",
      first,
      last: [2, 3, 9][index] ?? 0,
      events: `[${index}]`,
    }));
    await storage.write(async (tx) => {
      await events.open(tx, "r", "t");
      await events.open(tx, "r", "t");
      await events.append(tx, chunks);
      await events.append(tx, [{ run_id: "s", first: 0, last: 100, events: "[]" }]);
    });
    const read = (after: number, max = 10) => storage.read((db) => events.read(db, "r", after, max));
    expect(await read(-1)).toEqual(chunks);
    expect(await read(0)).toEqual(chunks);
    expect(await read(2)).toEqual(chunks.slice(1));
    expect(await read(5)).toEqual(chunks.slice(2));
    expect(await read(9)).toEqual([]);
    expect(await read(-1, 1)).toEqual(chunks.slice(0, 1));
    expect(await storage.read((db) => events.last(db, "r"))).toBe(9);
    expect(await storage.read((db) => events.last(db, "none"))).toBe(-1);
  });

  test("logs that have ended are swept, open ones stay", async () => {
    const storage = await openTemp();
    await storage.write(async (tx) => {
      for (const run_id of ["old", "young", "open"]) {
        await events.open(tx, run_id, "t");
        await events.append(tx, [{ run_id, first: 0, last: 0, events: "[]" }]);
      }
      await events.end(tx, "old", NOW);
      await events.end(tx, "young", NOW + 10);
    });
    expect(await storage.write((tx) => events.sweep(tx, NOW + 1))).toBe(1);
    await storage.read(async (db) => {
      expect(await events.log(db, "old")).toBeUndefined();
      expect(await events.last(db, "old")).toBe(-1);
      expect(await events.log(db, "young")).toEqual({ run_id: "young", thread_id: "t", ended_at: NOW + 10, place: 0 });
      expect(await events.last(db, "young")).toBe(0);
      expect(await events.log(db, "open")).toMatchObject({ ended_at: null });
    });
    await storage.write((tx) => events.remove(tx, "open"));
    expect(await storage.read((db) => events.last(db, "open"))).toBe(-1);
  });

  test("of a run whose events were swept it is known how far they went: who has seen that misses nothing", async () => {
    const storage = await openTemp();
    const place = NOW * 1000;
    await storage.write(async (tx) => {
      await threads.insert(tx, newThread("t"));
      await runs.insert(
        tx,
        newRun({ run_id: "r", thread_id: "t", status: "success", started_at: NOW, ended_at: NOW + 500 }),
      );
      await events.open(tx, "r", "t", place);
      await events.append(tx, [{ run_id: "r", first: 0, last: 14, events: "[]" }]);
      await events.end(tx, "r", NOW + 500);
      await events.sweep(tx, NOW + 501);
    });
    const ended = await storage.read((db) => runs.endedOfThread(db, "t", { after: null, limit: 1 }));
    expect(ended).toEqual([{ run_id: "r", checkpoint_id: null, ended_at: NOW + 500, told_to: place + 15 }]);
    const opening = (since: number | null, rows: readonly runs.EndedRun[] = ended) =>
      openingOf(rows, new Set(), since, null);
    expect(opening(place + 15)).toBeNull();
    expect(opening(place + 14)).toEqual({ resumes_at: place + 17, isGap: true });
    // A snapshot has two numbers: who has seen it and comes again hears it no second time.
    for (const rows of [ended, ended.map((run) => ({ ...run, told_to: null }))]) {
      const { resumes_at = 0, isGap } = opening(null, rows) ?? {};
      expect(isGap).toBe(false);
      expect(opening(resumes_at + 1, rows)).toBeNull();
    }
  });

  test("a log that is erased keeps its number, until it is swept or its thread goes", async () => {
    const storage = await openTemp();
    await storage.write(async (tx) => {
      for (const run_id of ["told", "silent", "swept"]) await events.open(tx, run_id, "t");
      await events.append(tx, [{ run_id: "told", first: 0, last: 7, events: '["secret"]' }]);
      for (const run_id of ["told", "silent", "unknown"]) await events.erase(tx, run_id, { now: NOW });
      await events.erase(tx, "swept", { now: NOW - 10 });
    });
    expect(await storage.write((tx) => events.sweep(tx, NOW))).toBe(1);
    await storage.read(async (db) => {
      expect(await events.erased(db, "t")).toEqual(new Set(["told", "silent"]));
      expect(await events.read(db, "told", -1, 10)).toEqual([{ run_id: "told", first: 7, last: 7, events: "[]" }]);
      expect([await events.last(db, "told"), await events.last(db, "silent")]).toEqual([7, -1]);
      expect(await events.log(db, "unknown")).toBeUndefined();
    });
    await storage.write((tx) => events.removeOfThread(tx, "t"));
    expect(await storage.read((db) => events.log(db, "told"))).toBeUndefined();
    expect(await storage.read((db) => events.last(db, "told"))).toBe(-1);
  });

  test("webhooks wait, are put off, and go", async () => {
    const storage = await openTemp();
    const call = (webhook_id: string, next_attempt_at: number) => {
      return {
        webhook_id,
        run_id: "r",
        url: "http://x",
        payload: "{}",
        attempts: 0,
        next_attempt_at,
        created_at: NOW,
        trace: null,
      };
    };
    await storage.write(async (tx) => {
      await webhooks.insert(tx, call("late", NOW + 100));
      await webhooks.insert(tx, call("b", NOW));
      await webhooks.insert(tx, call("a", NOW - 1));
    });
    const due = async (now: number, limit = 10) =>
      (await storage.read((db) => webhooks.due(db, now, limit))).map((each) => each.webhook_id);
    expect(await due(NOW)).toEqual(["a", "b"]);
    expect(await due(NOW, 1)).toEqual(["a"]);
    expect(await storage.read((db) => webhooks.nextDue(db, NOW))).toBe(NOW + 100);
    expect(await storage.read((db) => webhooks.nextDue(db, NOW + 100))).toBeUndefined();
    await storage.write((tx) => webhooks.reschedule(tx, "a", 1, NOW + 50));
    await storage.write((tx) => webhooks.remove(tx, "b"));
    expect(await due(NOW)).toEqual([]);
    expect(await storage.read((db) => webhooks.due(db, NOW + 50, 10))).toEqual([
      { ...call("a", NOW + 50), attempts: 1 },
    ]);
  });
});
