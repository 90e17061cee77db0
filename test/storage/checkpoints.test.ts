import { sql } from "kysely";
import { beforeEach, describe, expect, test } from "vitest";
import type { ChannelBlob, CheckpointRow, WriteRow } from "../../src/executor/protocol.ts";
import type { Storage, Tx } from "../../src/storage/storage.ts";
import * as checkpoints from "../../src/storage/tables/checkpoints.ts";
import { requirePostgres } from "../support/postgres.ts";
import { eachDialect, openTempPostgres } from "./support.ts";

const bytes = (text: string): Uint8Array => Buffer.from(text);

const row = (checkpoint_id: string, change: Partial<CheckpointRow> = {}): CheckpointRow => ({
  thread_id: "t",
  checkpoint_ns: "",
  checkpoint_id,
  parent_checkpoint_id: null,
  checkpoint: ["json", bytes(`{"id":"${checkpoint_id}"}`)],
  metadata: "{}",
  blob_versions: {},
  ...change,
});

const blob = (channel: string, version: string): ChannelBlob => ({
  channel,
  version,
  first: 0,
  value: ["json", bytes(`${channel}@${version}`)],
});

const pending = (task_id: string, idx: number, text = "v", task_path = ""): WriteRow => ({
  task_id,
  task_path,
  idx,
  channel: "c",
  value: ["json", bytes(text)],
});

const put = (storage: Storage, at: CheckpointRow, blobs: readonly ChannelBlob[] = [], run: string | null = "run-1") =>
  storage.write((tx) => checkpoints.put(tx, run, at, blobs));

const putWrites = (storage: Storage, at: CheckpointRow, writes: readonly WriteRow[], keep: boolean, run = "run-1") =>
  storage.write((tx) => checkpoints.putWrites(tx, run, at, writes, keep));

const get = (storage: Storage, query: Parameters<typeof checkpoints.get>[1]) =>
  storage.read((db) => checkpoints.get(db, query));

const listIds = async (storage: Storage, query: Parameters<typeof checkpoints.list>[1]) =>
  (await storage.read((db) => checkpoints.list(db, query))).map((found) => found.checkpoint_id);

const blobTexts = (found: { readonly blobs: readonly ChannelBlob[] } | null) =>
  found?.blobs.map((each) => Buffer.from(each.value[1] as Uint8Array).toString());

eachDialect((openTemp) => {
  test("a checkpoint comes back with the values it names and its pending writes in order", async () => {
    const storage = await openTemp();
    const first = row("1", { blob_versions: { a: ["1", 0], b: ["1", 0] } });
    const second = row("2", {
      parent_checkpoint_id: "1",
      blob_versions: { b: ["1", 0], a: ["2", 0] },
      metadata: '{"step":1}',
    });
    await put(storage, first, [blob("a", "1"), blob("b", "1")]);
    await put(storage, second, [blob("a", "2")]);
    await putWrites(storage, second, [pending("t2", 0, "x", "~b"), pending("t1", 1), pending("t1", 0)], true);
    await putWrites(storage, second, [pending("t9", -1, "x", "~a")], true);

    const found = await get(storage, { thread_id: "t", checkpoint_ns: "", checkpoint_id: "2" });
    const { blobs, writes, ...rest } = found ?? expect.fail("not found");
    expect(rest).toEqual(second);
    const value = found?.checkpoint[1] as Uint8Array;
    expect(value.buffer.byteLength).toBe(value.byteLength); // a message carries the whole buffer
    expect(blobTexts({ blobs })).toEqual(["b@1", "a@2"]);
    expect(writes.map((each) => [each.task_id, each.idx])).toEqual([
      ["t1", 0],
      ["t1", 1],
      ["t9", -1],
      ["t2", 0],
    ]);
    expect(writes[0]).toEqual(pending("t1", 0));
    expect(blobTexts(await get(storage, { thread_id: "t", checkpoint_ns: "", checkpoint_id: "1" }))).toEqual([
      "a@1",
      "b@1",
    ]);
  });

  test("without an id the latest of the thread and namespace", async () => {
    const storage = await openTemp();
    await put(storage, row("1"));
    await put(storage, row("2"));
    await put(storage, row("3", { checkpoint_ns: "sub|x:1" }));
    await put(storage, row("9", { thread_id: "other" }));
    expect((await get(storage, { thread_id: "t" }))?.checkpoint_id).toBe("2");
    expect((await get(storage, { thread_id: "t", checkpoint_ns: "sub|x:1" }))?.checkpoint_id).toBe("3");
    expect(await get(storage, { thread_id: "nobody" })).toBeNull();
    expect(await get(storage, { thread_id: "t", checkpoint_ns: "", checkpoint_id: "3" })).toBeNull();
    expect(await storage.read((db) => checkpoints.latestOf(db, "t"))).toBe("2");
    expect(await storage.read((db) => checkpoints.latestOf(db, "nobody"))).toBeNull();
  });

  test("putting again replaces the checkpoint; a value of a version stays", async () => {
    const storage = await openTemp();
    await put(storage, row("1", { blob_versions: { a: ["1", 0] } }), [blob("a", "1")]);
    const again = row("1", { metadata: '{"again":true}', blob_versions: { a: ["1", 0] } });
    await put(storage, again, [{ ...blob("a", "1"), value: ["json", bytes("other")] }]);
    const found = await get(storage, { thread_id: "t" });
    expect(found?.metadata).toBe('{"again":true}');
    expect(blobTexts(found)).toEqual(["a@1"]);
  });

  test("pending writes are kept or replaced as asked", async () => {
    const storage = await openTemp();
    const at = row("1");
    await put(storage, at);
    await putWrites(storage, at, [pending("t", 0, "old")], true);
    await putWrites(storage, at, [pending("t", 0, "new"), pending("t", 1, "more")], true);
    const texts = async () =>
      (await get(storage, { thread_id: "t" }))?.writes.map((each) =>
        Buffer.from(each.value[1] as Uint8Array).toString(),
      );
    expect(await texts()).toEqual(["old", "more"]);
    await putWrites(storage, at, [pending("t", 0, "new")], false);
    expect(await texts()).toEqual(["new", "more"]);
  });

  test("many writes and values at once", async () => {
    const storage = await openTemp();
    const channels = Array.from({ length: 100 }, (_, index) => `c${index}`);
    const versions = Object.fromEntries(channels.map((channel) => [channel, ["1", 0] as const]));
    const at = row("1", { blob_versions: versions });
    await put(
      storage,
      at,
      channels.map((channel) => blob(channel, "1")),
    );
    await putWrites(
      storage,
      at,
      channels.map((_, index) => pending("t", index)),
      true,
    );
    const found = await get(storage, { thread_id: "t" });
    expect(found?.blobs).toHaveLength(100);
    expect(found?.writes.map((each) => each.idx)).toEqual(channels.map((_, index) => index));
  });

  test("list: newest first, before, limit, thread and namespace optional", async () => {
    const storage = await openTemp();
    for (const id of ["1", "2", "3"]) await put(storage, row(id));
    await put(storage, row("4", { checkpoint_ns: "sub" }));
    await put(storage, row("5", { thread_id: "other" }));
    expect(await listIds(storage, {})).toEqual(["5", "4", "3", "2", "1"]);
    expect(await listIds(storage, { thread_id: "t" })).toEqual(["4", "3", "2", "1"]);
    expect(await listIds(storage, { thread_id: "t", checkpoint_ns: "", before: "3" })).toEqual(["2", "1"]);
    expect(await listIds(storage, { thread_id: "t", checkpoint_ns: "", limit: 1 })).toEqual(["3"]);
    expect(await listIds(storage, { thread_id: "t", checkpoint_id: "2" })).toEqual(["2"]);
  });

  test("a checkpoint that is written later is newer, whatever the clock that made its id says", async () => {
    const storage = await openTemp();
    const sub = (id: string) => row(id, { checkpoint_ns: "sub" });
    // One machine, another that is behind, the first again, and once more the second.
    for (const id of ["50", "51"]) await put(storage, row(id));
    await put(storage, sub("52"));
    for (const id of ["20", "21"]) await put(storage, row(id));
    await put(storage, sub("22"));
    await put(storage, row("60"));
    await put(storage, row("30"));
    const written = ["30", "60", "21", "20", "51", "50"];

    const latest = (checkpoint_ns?: string) => storage.read((db) => checkpoints.latestOf(db, "t", checkpoint_ns));
    expect(await latest()).toBe("30");
    expect((await get(storage, { thread_id: "t", checkpoint_ns: "" }))?.checkpoint_id).toBe("30");
    expect(await latest("sub")).toBe("22");
    expect((await get(storage, { thread_id: "t", checkpoint_ns: "sub" }))?.checkpoint_id).toBe("22");
    expect(await listIds(storage, { thread_id: "t", checkpoint_ns: "" })).toEqual(written);
    expect(await listIds(storage, { thread_id: "t" })).toEqual(["30", "60", "22", "21", "20", "52", "51", "50"]);
    for (const [index, before] of written.entries()) {
      const rest = written.slice(index + 1, index + 3);
      expect(await listIds(storage, { thread_id: "t", checkpoint_ns: "", before, limit: 2 })).toEqual(rest);
    }
    // A place in time that is no checkpoint of the thread.
    expect(await listIds(storage, { thread_id: "t", checkpoint_ns: "", before: "55" })).not.toContain("60");

    // One that is written again stays where it is.
    await put(storage, row("51", { metadata: '{"again":true}' }));
    expect(await listIds(storage, { thread_id: "t", checkpoint_ns: "" })).toEqual(written);

    await storage.write((tx) => checkpoints.copyThread(tx, "t", "copy"));
    expect(await listIds(storage, { thread_id: "copy", checkpoint_ns: "" })).toEqual(written);

    await storage.write((tx) => checkpoints.prune(tx, "copy", 100));
    expect(await listIds(storage, { thread_id: "copy" })).toEqual(["30", "22"]);
  });

  test("what a thread keeps of subgraphs goes by the order in which it was written, too", async () => {
    const storage = await openTemp();
    await put(storage, row("50"));
    await put(storage, row("51", { checkpoint_ns: "child:task-1" }));
    await put(storage, row("20"));
    await put(storage, row("21", { checkpoint_ns: "child:task-2" }));
    await storage.write((tx) => checkpoints.prune(tx, "t", 100));
    expect(await listIds(storage, { thread_id: "t" })).toEqual(["21", "20"]);
  });

  test("a subgraph that runs after its graph's checkpoint is newer, whatever machine runs it", async () => {
    const storage = await openTemp();
    const asked = row("20", { checkpoint_ns: "child:task" });
    // The graph stands at 50; another machine takes its run over, and the subgraph asks somebody.
    await put(storage, row("50"));
    await put(storage, asked);
    await put(storage, row("20", { checkpoint_ns: "own" }));
    // LangGraph looks for what a subgraph had before a checkpoint of its graph.
    expect(await listIds(storage, { thread_id: "t", checkpoint_ns: "own", before: "50" })).toEqual([]);
    await storage.write((tx) => checkpoints.prune(tx, "t", 100));
    expect((await get(storage, { thread_id: "t", checkpoint_ns: "child:task" }))?.checkpoint_id).toBe("20");
    await put(storage, row("21"));
    expect(await listIds(storage, { thread_id: "t", checkpoint_ns: "own", before: "21" })).toEqual(["20"]);
    await storage.write((tx) => checkpoints.prune(tx, "t", 100));
    expect(await get(storage, { thread_id: "t", checkpoint_ns: "child:task" })).toBeNull();
  });

  test("ids of one tick are in no order over namespaces, and begin no era", async () => {
    const storage = await openTemp();
    const id = (end: string) => `1f1eaa1d-019c-64e0-${end}-63151a6a64e8`;
    await put(storage, row(id("8009")));
    await put(storage, row(id("8001"), { checkpoint_ns: "child:task" }));
    expect(await storage.read((db) => db.selectFrom("checkpoints").select("era").execute())).toEqual([
      { era: 0 },
      { era: 0 },
    ]);
  });

  test("when the newest is rolled back, what was before it is the newest", async () => {
    const storage = await openTemp();
    await put(storage, row("50"));
    await put(storage, row("20"), [], "run-2");
    await put(storage, row("21"), [], "run-2");
    await storage.write((tx) => checkpoints.removeForRuns(tx, "t", ["run-2"]));
    expect((await get(storage, { thread_id: "t", checkpoint_ns: "" }))?.checkpoint_id).toBe("50");
    await put(storage, row("40"));
    expect(await listIds(storage, { thread_id: "t" })).toEqual(["40", "50"]);
  });

  test("list gives each checkpoint its own values and writes", async () => {
    const storage = await openTemp();
    await put(storage, row("1", { blob_versions: { a: ["1", 0], b: ["1", 0] } }), [blob("a", "1"), blob("b", "1")]);
    await put(storage, row("2", { blob_versions: { a: ["2", 0], b: ["1", 0] } }), [blob("a", "2")]);
    await put(storage, row("1", { thread_id: "other", blob_versions: { a: ["1", 0] } }), [blob("a", "1")]);
    await putWrites(storage, row("1"), [pending("t", 0, "one")], true);
    const found = await storage.read((db) => checkpoints.list(db, { thread_id: "t" }));
    expect(found.map(blobTexts)).toEqual([
      ["a@2", "b@1"],
      ["a@1", "b@1"],
    ]);
    expect(found.map((each) => each.writes.length)).toEqual([0, 1]);
  });

  test("the metadata filter is exact: types count, and each key", async () => {
    const storage = await openTemp();
    const metadata = [
      { kind: 1 },
      { kind: "1" },
      { kind: true },
      { kind: null },
      { kind: { a: [1] } },
      { kind: 1, 'odd "key" $.x': "y" },
      {},
    ];
    for (const [index, value] of metadata.entries()) {
      await put(storage, row(String(index), { metadata: JSON.stringify(value) }));
    }
    const matching = (filter: Record<string, unknown>) => listIds(storage, { thread_id: "t", filter });
    expect(await matching({ kind: 1 })).toEqual(["5", "0"]);
    expect(await matching({ kind: "1" })).toEqual(["1"]);
    expect(await matching({ kind: true })).toEqual(["2"]);
    expect(await matching({ kind: false })).toEqual([]);
    expect(await matching({ kind: null })).toEqual(["3"]);
    expect(await matching({ kind: { a: [1] } })).toEqual(["4"]);
    expect(await matching({ kind: 1, 'odd "key" $.x': "y" })).toEqual(["5"]);
    expect(await matching({})).toHaveLength(7);
    expect(await matching({ kind: undefined })).toHaveLength(7);
  });

  test("rollback takes what the runs wrote and leaves every value that is still named", async () => {
    const storage = await openTemp();
    await put(storage, row("1", { blob_versions: { a: ["1", 0] } }), [blob("a", "1")], "kept");
    await put(
      storage,
      row("2", { blob_versions: { a: ["2", 0], b: ["2", 0] } }),
      [blob("a", "2"), blob("b", "2")],
      "gone",
    );
    await put(storage, row("3", { blob_versions: { a: ["2", 0] } }), [], "kept");
    await put(storage, row("2", { checkpoint_ns: "sub", blob_versions: { a: ["2", 0] } }), [blob("a", "2")], "gone");
    await putWrites(storage, row("1"), [pending("mine", 0)], true, "kept");
    await putWrites(storage, row("1"), [pending("theirs", 0)], true, "gone");
    // As an update of the state does to the checkpoint before it.
    await putWrites(storage, row("2"), [pending("mine", 0)], true, "kept");
    await put(storage, row("2", { thread_id: "other", blob_versions: { a: ["1", 0] } }), [blob("a", "1")], "gone");

    await storage.write((tx) => checkpoints.removeForRuns(tx, "t", ["gone"]));
    expect(await listIds(storage, { thread_id: "t" })).toEqual(["3", "1"]);
    expect(blobTexts(await get(storage, { thread_id: "t", checkpoint_ns: "", checkpoint_id: "3" }))).toEqual(["a@2"]);
    const first = await get(storage, { thread_id: "t", checkpoint_ns: "", checkpoint_id: "1" });
    expect(first?.writes.map((each) => each.task_id)).toEqual(["mine"]);
    const writes = await storage.read((db) => db.selectFrom("checkpoint_writes").select("checkpoint_id").execute());
    expect(writes).toEqual([{ checkpoint_id: "1" }]);
    expect(blobTexts(await get(storage, { thread_id: "other" }))).toEqual(["a@1"]);
    const left = await storage.read((db) =>
      db
        .selectFrom("checkpoint_blobs")
        .select(["checkpoint_ns", "channel", "version"])
        .where("thread_id", "=", "t")
        .execute(),
    );
    expect(left.map((each) => [each.checkpoint_ns, each.channel, each.version])).toEqual([
      ["", "a", "1"],
      ["", "a", "2"],
    ]);
  });

  test("removing a thread removes all of it and nothing else", async () => {
    const storage = await openTemp();
    await put(storage, row("1", { blob_versions: { a: ["1", 0] } }), [blob("a", "1")]);
    await put(storage, row("1", { thread_id: "other", blob_versions: { a: ["1", 0] } }), [blob("a", "1")]);
    await putWrites(storage, row("1"), [pending("t", 0)], true);
    await storage.write((tx) => checkpoints.removeThread(tx, "t"));
    expect(await listIds(storage, {})).toEqual(["1"]);
    expect(blobTexts(await get(storage, { thread_id: "other" }))).toEqual(["a@1"]);
    await put(storage, row("1", { blob_versions: { a: ["1", 0] } }));
    expect(await get(storage, { thread_id: "t" })).toMatchObject({ blobs: [], writes: [] });
  });

  const part = (channel: string, version: string, first: number): ChannelBlob => ({
    channel,
    version,
    first,
    value: ["json", bytes(`${channel}@${version}+${first}`)],
  });

  test("a list in parts: each checkpoint reads as far as it names, and parts are shared by reference", async () => {
    const storage = await openTemp();
    await put(storage, row("1", { blob_versions: { a: ["1", 2] } }), [part("a", "1", 0)]);
    await put(storage, row("2", { blob_versions: { a: ["1", 3] } }), [part("a", "1", 2)]);
    await put(storage, row("3", { blob_versions: { a: ["1", 5] } }), [part("a", "1", 3)]);
    expect(blobTexts(await get(storage, { thread_id: "t", checkpoint_id: "2" }))).toEqual(["a@1+0", "a@1+2"]);
    const all = await storage.read((db) => checkpoints.list(db, { thread_id: "t" }));
    expect(all.map(blobTexts)).toEqual([["a@1+0", "a@1+2", "a@1+3"], ["a@1+0", "a@1+2"], ["a@1+0"]]);
    expect(all[2]?.blobs[0]).toBe(all[0]?.blobs[0]);
  });

  test("two cannot add to a list in the same place", async () => {
    const storage = await openTemp();
    await put(storage, row("1", { blob_versions: { a: ["1", 2] } }), [part("a", "1", 0)]);
    await put(storage, row("2", { blob_versions: { a: ["1", 3] } }), [part("a", "1", 2)]);
    await expect(put(storage, row("2b", { blob_versions: { a: ["1", 4] } }), [part("a", "1", 2)])).rejects.toThrow();
    expect(await get(storage, { thread_id: "t", checkpoint_id: "2b" })).toBeNull();
  });

  test("a copy has what its checkpoints name, and not what a run has added since they were copied", async () => {
    const storage = await openTemp();
    await put(storage, row("1", { blob_versions: { a: ["1", 2], b: ["1", 0] } }), [
      part("a", "1", 0),
      part("a", "1", 2),
      blob("b", "1"),
      blob("b", "2"),
    ]);
    await putWrites(storage, row("1"), [pending("mine", 0)], true);
    await putWrites(storage, row("2"), [pending("later", 0)], true);
    await storage.write((tx) => checkpoints.copyThread(tx, "t", "copy"));
    expect(blobTexts(await get(storage, { thread_id: "copy" }))).toEqual(["a@1+0", "b@1"]);
    const writes = await storage.read((db) =>
      db.selectFrom("checkpoint_writes").select("task_id").where("thread_id", "=", "copy").execute(),
    );
    expect(writes).toEqual([{ task_id: "mine" }]);
    await put(storage, row("2", { thread_id: "copy", blob_versions: { a: ["1", 3] } }), [part("a", "1", 2)]);
    expect(blobTexts(await get(storage, { thread_id: "copy" }))).toEqual(["a@1+0", "a@1+2"]);
  });

  test("rollback takes the parts that nothing reads any more", async () => {
    const storage = await openTemp();
    await put(storage, row("1", { blob_versions: { a: ["1", 2] } }), [part("a", "1", 0)], "kept");
    await put(storage, row("2", { blob_versions: { a: ["1", 3] } }), [part("a", "1", 2)], "gone");
    await storage.write((tx) => checkpoints.removeForRuns(tx, "t", ["gone"]));
    expect(blobTexts(await get(storage, { thread_id: "t" }))).toEqual(["a@1+0"]);
    // The place is free again.
    await put(storage, row("3", { blob_versions: { a: ["1", 4] } }), [part("a", "1", 2)], "next");
    expect(blobTexts(await get(storage, { thread_id: "t" }))).toEqual(["a@1+0", "a@1+2"]);
    // Also where the parts of one that goes first were read by another.
    await put(storage, row("4", { blob_versions: { a: ["1", 5] } }), [part("a", "1", 4)], "last");
    await storage.write((tx) => checkpoints.removeForRuns(tx, "t", ["next"]));
    expect(blobTexts(await get(storage, { thread_id: "t" }))).toEqual(["a@1+0", "a@1+2", "a@1+4"]);
    await storage.write((tx) => checkpoints.removeForRuns(tx, "t", ["last"]));
    await put(storage, row("5", { blob_versions: { a: ["1", 4] } }), [part("a", "1", 2)], "again");
    expect(blobTexts(await get(storage, { thread_id: "t" }))).toEqual(["a@1+0", "a@1+2"]);
  });

  test("rollback puts back the writes that the runs replaced, through whatever has gone since", async () => {
    const written = async (gone: readonly string[][]): Promise<string[]> => {
      const storage = await openTemp();
      await put(storage, row("1"), [], "one");
      for (const run of ["one", "two", "three"]) {
        await putWrites(storage, row("1"), [pending("task", -3, `draft of ${run}`)], false, run);
        await putWrites(storage, row("1"), [pending("task", -3, `by ${run}`)], false, run);
      }
      for (const runs of gone) await storage.write((tx) => checkpoints.removeForRuns(tx, "t", runs));
      const found = await storage.read((db) => db.selectFrom("checkpoint_writes").select("value").execute());
      const waiting = await storage.read((db) => db.selectFrom("replaced_writes").select("replaced_by").execute());
      expect(waiting.length).toBe(Math.max(2 - gone.flat().length, 0));
      return found.map(({ value }) => Buffer.from(value as Uint8Array).toString());
    };
    const by = (run: string) => expect.stringContaining(`by ${run}`);
    expect(await written([])).toEqual([by("three")]);
    expect(await written([["three"]])).toEqual([by("two")]);
    expect(await written([["three"], ["two"]])).toEqual([by("one")]);
    expect(await written([["two"]])).toEqual([by("three")]);
    expect(await written([["two"], ["three"]])).toEqual([by("one")]);
    expect(await written([["one"], ["three"]])).toEqual([by("two")]);
    expect(await written([["one"], ["three"], ["two"]])).toEqual([]);
  });
});

describe("a long thread", () => {
  beforeEach(requirePostgres);

  /** Rows of the table that a transaction reads meanwhile. */
  async function readBy(tx: Tx, work: () => Promise<unknown>): Promise<number> {
    const total = async () => {
      const { rows } = await sql<{
        total: number;
      }>`select coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) as total
        from pg_stat_xact_user_tables where relid = to_regclass('checkpoints')`.execute(tx);
      return Number(rows[0]?.total);
    };
    const before = await total();
    await work();
    return (await total()) - before;
  }

  test.each(["one era", "most of it in the first era", "most of it in a later one"])(
    "is not looked through for its newest checkpoint (%s), whatever PostgreSQL knows of the table",
    async (eras) => {
      const storage = await openTempPostgres();
      // By itself it may look in the middle of the filling, when it sees pages and no rows.
      await storage.write((tx) => sql`alter table checkpoints set (autovacuum_enabled = false)`.execute(tx));
      const fill = (from: number, count: number) =>
        storage.write(async (tx) => {
          for (let i = from; i < from + count; i += 1) await checkpoints.put(tx, "run-1", row(String(i)), []);
        });
      if (eras === "most of it in a later one") await fill(900_000, 2);
      await fill(500_000, 1500);
      if (eras === "most of it in the first era") await fill(100_000, 2);
      for (const knows of [false, true]) {
        if (knows) await storage.write((tx) => sql`analyze checkpoints`.execute(tx));
        const at = (eras === "most of it in the first era" ? 100_100 : 600_000) + (knows ? 1 : 0);
        await storage.write(async (tx) => {
          const reads = [
            await readBy(tx, () => checkpoints.latestOf(tx, "t")),
            await readBy(tx, () => checkpoints.get(tx, { thread_id: "t" })),
            await readBy(tx, () => checkpoints.put(tx, "run-1", row(String(at)), [])),
            await readBy(tx, () => checkpoints.put(tx, "run-1", row(String(at), { checkpoint_ns: "child" }), [])),
          ];
          expect(reads.filter((rows) => rows > 20)).toEqual([]);
        });
      }
    },
  );
});
