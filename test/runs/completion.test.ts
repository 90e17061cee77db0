/** What a run leaves behind (`on_completion`, `durability`), and what its client's leaving does (`on_disconnect`). */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually, startServer } from "../support/server.ts";
import { openSse } from "../support/sse.ts";
import { type Any, Api, type Body, database, Gate, json, type Place, useServer, useTempDir, WAYS } from "./support.ts";

const temp = useTempDir();
const plain = { assistant_id: "plain", input: { value: 1 } };

describe("rows", () => {
  const TABLES = ["threads", "runs", "checkpoints", "checkpoint_blobs", "checkpoint_writes", "event_chunks"] as const;
  const BY_THREAD = TABLES.filter((table) => table !== "event_chunks");
  const DURABILITIES = ["sync", "async", "exit"] as const;
  const kept = new Map<string, string>();
  const counted = new Map<string, string>();
  let rows: ReturnType<typeof database>["all"];
  let close: () => void;

  /** All runs happen first, then the server stops, then the tests look at what is in the file. */
  beforeAll(async () => {
    await using server = await startServer({ data: temp.dir, env: { RESUMABLE_STREAM_TTL_SECONDS: "600" } });
    const api = new Api(server);
    const stateless = WAYS.filter(({ stateful }) => !stateful);
    for (const assistant_id of ["plain", "error", "hitl"]) {
      const body = { assistant_id, input: { value: 1 }, metadata: { test: "gone" } };
      for (const way of stateless) {
        await way.output(api, body);
        await way.output(api, { ...body, on_completion: "delete" });
      }
    }
    for (const way of stateless) {
      await way.output(api, { ...plain, on_completion: "keep", metadata: { test: "kept", way: way.name } });
    }
    const gate = new Gate(temp.dir, "rows");
    const cancelled = { assistant_id: "slow", input: gate.input, on_disconnect: "cancel", metadata: { test: "gone" } };
    const stream = await api.open("/runs/stream", { body: cancelled });
    await eventually(() => gate.log.includes("start 1"));
    stream.close();
    await eventually(() => gate.log.includes("aborted 1"));

    for (const durability of DURABILITIES) {
      const { thread_id, path } = await api.background({ ...plain, durability });
      await api.get(`${path}/join`);
      counted.set(durability, thread_id);
    }
    for (const checkpoint_during of [true, false]) {
      const { thread_id, path } = await api.background({ ...plain, checkpoint_during });
      await api.get(`${path}/join`);
      counted.set(`checkpoint_during ${checkpoint_during}`, thread_id);
    }
    for (const stream_resumable of [true, false]) {
      const { run_id, path } = await api.background({ ...plain, stream_resumable });
      await api.get(`${path}/join`);
      kept.set(`stream_resumable ${stream_resumable}`, run_id);
    }
    await server.stop();
    const db = database(temp.dir);
    rows = db.all;
    close = db.close;
  });
  afterAll(() => close?.());

  test("on_completion delete, and nothing said: no thread, run, checkpoint or event row is left", async () => {
    const runs = (await rows("select metadata from runs")).map(({ metadata }) => JSON.parse(metadata).test);
    expect(runs).not.toContain("gone");
    expect(runs.filter((label) => label === "kept")).toHaveLength(4);
    expect(await rows("select count(*) as n from threads")).toEqual([{ n: 4 + counted.size + kept.size }]);
    for (const table of BY_THREAD) {
      const orphans = await rows(`select * from ${table} where thread_id not in (select thread_id from threads)`);
      expect([table, orphans]).toEqual([table, []]);
    }
    for (const table of ["event_logs", "event_chunks"]) {
      const orphans = await rows(`select * from ${table} where run_id not in (select run_id from runs)`);
      expect([table, orphans]).toEqual([table, []]);
    }
  });

  test("on_completion keep: thread, run and checkpoints stay", async () => {
    const runs = (await rows("select thread_id, status, metadata from runs")).filter(
      ({ metadata }) => JSON.parse(metadata).test === "kept",
    );
    for (const { thread_id, status } of runs) {
      expect(status).toBe("success");
      expect(await rows("select status from threads where thread_id = ?", thread_id)).toEqual([{ status: "idle" }]);
      expect(await rows("select * from checkpoints where thread_id = ?", thread_id)).toHaveLength(4);
    }
    const ways = runs.map(({ metadata }) => JSON.parse(metadata).way).sort();
    expect(ways).toEqual(WAYS.flatMap(({ stateful, name }) => (stateful ? [] : [name])).sort());
  });

  test.each([
    ["sync", 4],
    ["async", 4],
    ["exit", 1],
    ["checkpoint_during true", 4],
    ["checkpoint_during false", 1],
  ])("durability %s of a run of two steps: %i checkpoints", async (how, count) => {
    const found = await rows("select checkpoint_id from checkpoints where thread_id = ?", counted.get(how));
    expect(found).toHaveLength(count);
  });

  test("stream_resumable stores the events, and nothing else does", async () => {
    const events = (how: string) => rows("select * from event_chunks where run_id = ?", kept.get(how));
    expect(await events("stream_resumable false")).toEqual([]);
    const [{ events: text }] = await events("stream_resumable true");
    expect(text).toContain('"metadata"');
  });
});

describe("over HTTP", () => {
  const api = useServer();
  const threadOf = (run: Any): string => run.thread_id;

  test("a kept stateless run's thread can be read, a deleted one's not", async () => {
    const keep = await api.post("/runs", { ...plain, on_completion: "keep" });
    const gone = await api.post("/runs", { ...plain, on_completion: "delete" });
    await api.get(`/runs/${keep.run_id}/join`);
    await api.get(`/runs/${gone.run_id}/join`);
    const thread = await api.get(`/threads/${threadOf(keep)}`);
    expect(thread).toMatchObject({ status: "idle", values: { value: 4 } });
    expect((await api.http.get(`/threads/${threadOf(gone)}`)).status).toBe(404);
    expect((await api.http.get(`/threads/${threadOf(gone)}/state`)).status).toBe(404);
  });

  test("durability sync: each step's checkpoint is there before the next step starts", async () => {
    const gate = new Gate(temp.dir, "sync");
    const { path, thread_id } = await api.background({ assistant_id: "slow", input: gate.input, durability: "sync" });
    for (const step of [1, 2, 3]) {
      await eventually(() => gate.log.includes(`start ${step}`));
      const { next, values } = await api.get(`/threads/${thread_id}/state`);
      expect([next, values.steps.length]).toEqual([[["one", "two", "three"][step - 1]], step - 1]);
      gate.open(step);
    }
    await api.get(`${path}/join`);
  });

  test("durability exit: nothing is there before the end", async () => {
    const gate = new Gate(temp.dir, "exit");
    const { path, thread_id } = await api.background({ assistant_id: "slow", input: gate.input, durability: "exit" });
    gate.open(1);
    await eventually(() => gate.log.includes("start 2"));
    expect(await api.get(`/threads/${thread_id}/state`)).toMatchObject({ values: {}, checkpoint: null });
    gate.open(2, 3);
    await api.get(`${path}/join`);
    expect((await api.get(`/threads/${thread_id}/state`)).values.steps).toEqual([1, 2, 3]);
  });

  test("durability wins over checkpoint_during", async () => {
    const { path } = await api.background({ ...plain, durability: "sync", checkpoint_during: false });
    expect((await api.get(path)).kwargs.durability).toBe("sync");
    await api.get(`${path}/join`);
  });

  describe("on_disconnect", () => {
    const HOWS = ["stream", "wait"] as const;

    async function abandon(name: string, how: string, extra: Body, query = ""): Promise<[Gate, Place]> {
      const gate = new Gate(temp.dir, name);
      const thread_id = await api.thread();
      const body = { assistant_id: "slow", input: gate.input, ...extra };
      // Not awaited: `wait` may send its headers late.
      const opening = openSse(`${api.url}/threads/${thread_id}/runs/${how}${query}`, { body });
      await eventually(() => gate.log.includes("start 1"));
      (await opening).close();
      const [{ run_id }] = await api.get(`/threads/${thread_id}/runs`);
      return [gate, { thread_id, run_id, path: `/threads/${thread_id}/runs/${run_id}` }];
    }

    test.each(HOWS)("%s: cancel stops the node by its signal and ends interrupted", async (how) => {
      const [gate, { path, thread_id }] = await abandon(`cancel-${how}`, how, { on_disconnect: "cancel" });
      await eventually(() => gate.log.includes("aborted 1"));
      await api.http.get(`${path}/join`);
      expect((await api.get(path)).status).toBe("interrupted");
      expect((await api.get(`/threads/${thread_id}`)).status).toBe("idle");
      expect(gate.log).toEqual(["start 1", "aborted 1"]);
    });

    test.each(HOWS)("%s: continue, and nothing said, runs on", async (how) => {
      for (const extra of [{ on_disconnect: "continue" }, {}]) {
        const [gate, { path }] = await abandon(
          `continue-${how}-${JSON.stringify(extra)}`.replace(/\W/g, ""),
          how,
          extra,
        );
        gate.openAll();
        expect((await api.get(`${path}/join`)).steps).toEqual([1, 2, 3]);
        expect((await api.get(path)).status).toBe("success");
      }
    });

    test("in the query, as the docs' samples have it; the body wins", async () => {
      const [gate] = await abandon("query", "stream", {}, "?on_disconnect=cancel");
      await eventually(() => gate.log.includes("aborted 1"));
      const [second, { path }] = await abandon(
        "both",
        "stream",
        { on_disconnect: "continue" },
        "?on_disconnect=cancel",
      );
      second.openAll();
      await api.get(`${path}/join`);
      expect((await api.get(path)).status).toBe("success");
    });

    test("a run that has not started is cancelled too", async () => {
      const thread_id = await api.thread();
      const body = { ...plain, after_seconds: 600, on_disconnect: "cancel" };
      const stream = await api.open(`/threads/${thread_id}/runs/stream`, { body });
      stream.close();
      await eventually(async () => (await api.get(`/threads/${thread_id}/runs`))[0].status === "interrupted");
    });

    test.each(["stream", "join"])("a joiner with cancel_on_disconnect takes the run with it (%s)", async (how) => {
      const gate = new Gate(temp.dir, `joiner-${how}`);
      const { path } = await api.background({ assistant_id: "slow", input: gate.input });
      await eventually(() => gate.log.includes("start 1"));
      const other = await api.open(`${path}/stream`);
      await other.next();
      other.close();
      const leaver = await api.open(`${path}/${how}?cancel_on_disconnect=1`);
      expect((await api.get(path)).status).toBe("running");
      leaver.close();
      await eventually(() => gate.log.includes("aborted 1"));
      await eventually(async () => (await api.get(path)).status === "interrupted");
    });

    test("a reader of a finished run changes nothing by leaving", async () => {
      const { path } = await api.background(plain);
      const stream = await api.open(`${path}/stream?cancel_on_disconnect=true`);
      expect(json((await stream.rest()).at(-1))).toMatchObject({ value: 4 });
      stream.close();
      expect((await api.get(path)).status).toBe("success");
    });
  });
});

describe("after_seconds", () => {
  test("survives a restart, starts no sooner, and does not occupy a slot", async () => {
    await using server = await startServer({ args: ["--jobs", "1"] });
    const api = new Api(server);
    const gate = new Gate(temp.dir, "delayed");
    gate.openAll();
    const asked = Date.now();
    const delayed = await api.background({ assistant_id: "slow", input: gate.input, after_seconds: 3 });
    const far = await api.background({ ...plain, after_seconds: 1000 });
    // The only slot is free for others meanwhile.
    expect(await api.wait(plain)).toMatchObject({ value: 4 });
    expect(gate.log).toEqual([]);
    await server.restart("SIGKILL");
    // A slow machine may need all its time to start again.
    const { status } = await api.get(delayed.path);
    expect(status === "pending" || Date.now() - asked >= 3000).toBe(true);
    expect(await api.wait(plain)).toMatchObject({ value: 4 });
    expect((await api.get(`${delayed.path}/join`)).steps).toEqual([1, 2, 3]);
    expect(Date.now() - asked).toBeGreaterThanOrEqual(3000);
    expect((await api.get(far.path)).status).toBe("pending");
    expect((await server.stop()).code).toBe(0);
  });
});
