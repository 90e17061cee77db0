/** Threads that expire: as configured, as asked for, and what a sweep leaves alone. */
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { loadProject } from "../../src/config.ts";
import { type Any, Api, type Body, database, fixturesWith, Gate, useServer, useTempDir } from "../runs/support.ts";
import { project, type TempDir, tempDir } from "../support/project.ts";
import { eventually, startServer, type TestServer } from "../support/server.ts";

const temp = useTempDir();
const MINUTE = 60_000;
/** A tenth of a second. */
const SOON = 0.1 / 60;
const plain = { assistant_id: "plain", input: { value: 1 } };

const folders: TempDir[] = [];
afterAll(() => Promise.all(folders.map((folder) => folder[Symbol.asyncDispose]())));

const DELTA = `
  import { Annotation, DeltaChannel, END, START, StateGraph } from "@langchain/langgraph";
  const State = Annotation.Root({ word: Annotation(), words: () => new DeltaChannel((all, more) => [...(all ?? []), ...more.flat()]) });
  export const graph = new StateGraph(State).addNode("say", ({ word }) => ({ words: [word] }))
    .addEdge(START, "say").addEdge("say", END).compile();`;

/** A project whose server sweeps ten times a second, with these graphs beside the fixtures. */
async function sweptProject(ttl: Body, graphs: Readonly<Record<string, string>> = {}): Promise<TempDir> {
  const own = await project(Object.fromEntries(Object.entries(graphs).map(([id, text]) => [`${id}.mjs`, text])));
  const more = Object.fromEntries(Object.keys(graphs).map((id) => [id, join(own.dir, `${id}.mjs:graph`)]));
  const folder = await fixturesWith({ checkpointer: { ttl: { sweep_interval_minutes: SOON, ...ttl } } }, more);
  folders.push(own, folder);
  return folder;
}

const sweeping = async (ttl: Body, data?: string): Promise<TestServer> =>
  startServer({ project: await sweptProject(ttl), ...(data === undefined ? {} : { data }) });

const isGone = (api: Api, thread_id: string) => eventually(async () => (await status(api, thread_id)) === 404);
const status = async (api: Api, thread_id: string) => (await api.http.get(`/threads/${thread_id}`)).status;
const ttlOf = async (api: Api, thread_id: string) => (await api.get(`/threads/${thread_id}?include=ttl`)).ttl;
const run = (api: Api, thread_id: string): Promise<Any> => api.post(`/threads/${thread_id}/runs/wait`, plain);

/** Resolves when a sweep that began after this call has ended: a thread that expires at once has gone. */
async function afterSweep(api: Api): Promise<void> {
  const { thread_id } = await api.post("/threads", { ttl: SOON / 1000 });
  await isGone(api, thread_id);
}

describe("with a default time", () => {
  test("every new thread gets it, however it comes to be", async () => {
    await using server = await sweeping({ strategy: "keep_latest", default_ttl: 30, sweep_interval_minutes: 5 });
    const api = new Api(server);
    const made = await api.thread();
    const copied = (await api.post(`/threads/${made}/copy`)).thread_id;
    const kept = (await api.post("/runs", { ...plain, on_completion: "keep" })).thread_id;
    const implied = "5f0c1f5e-8a3c-4d0f-9d3b-3b1f6f0a1c22";
    await api.post(`/threads/${implied}/runs/wait`, { ...plain, if_not_exists: "create" });
    for (const thread_id of [made, copied, kept, implied]) {
      expect(await ttlOf(api, thread_id)).toMatchObject({ strategy: "keep_latest", ttl_minutes: 30 });
    }
    for (const [ttl, minutes] of [
      [{ ttl: 3, strategy: "delete" }, 3],
      [{ celsius: 3 }, 30],
      ["warm", 30],
    ]) {
      const config = { configurable: { ttl } };
      const run = await api.post("/runs", { ...plain, on_completion: "keep", config });
      expect(await ttlOf(api, run.thread_id)).toMatchObject({ ttl_minutes: minutes });
    }
    const own = await api.post("/threads", { ttl: { strategy: "delete", ttl: 1 } });
    expect(await ttlOf(api, own.thread_id)).toMatchObject({ strategy: "delete", ttl_minutes: 1 });
    const half = await api.post("/threads", { ttl: { strategy: "delete" } });
    expect(await ttlOf(api, half.thread_id)).toMatchObject({ strategy: "delete", ttl_minutes: 30 });
    const other = await api.post("/threads", { ttl: { ttl: 2 } });
    expect(await ttlOf(api, other.thread_id)).toMatchObject({ strategy: "keep_latest", ttl_minutes: 2 });
  });

  test("a setting that means nothing is refused at start", async () => {
    for (const [ttl, name] of [
      [{ strategy: "forget" }, "strategy"],
      [{ default_ttl: 0 }, "default_ttl"],
      [{ sweep_limit: 0 }, "sweep_limit"],
    ] as const) {
      await using own = await fixturesWith({ checkpointer: { ttl } });
      expect(() => loadProject(own.dir, {})).toThrow(`checkpointer.ttl.${name}`);
    }
  });
});

describe("a sweep", () => {
  test("removes what has expired with all that belongs to it, and nothing else", async () => {
    await using data = await tempDir();
    const server = await sweeping({ default_ttl: SOON, sweep_limit: 2 }, data.dir);
    const api = new Api(server);
    const stays = (await api.post("/threads", { ttl: 60 })).thread_id;
    await run(api, stays);
    const goes = await Promise.all(Array.from({ length: 7 }, () => api.thread()));
    for (const thread_id of goes) await isGone(api, thread_id);
    const { thread_id } = await api.post("/runs", { ...plain, on_completion: "keep", stream_resumable: true });
    await isGone(api, thread_id);
    expect(await api.post("/threads/count", {})).toBe(1);
    await server.stop();
    const db = database(data.dir);
    for (const table of ["threads", "checkpoints", "runs", "event_logs"]) {
      const rows = await db.all(`select distinct thread_id from ${table}`);
      expect(
        rows.filter((row) => row.thread_id !== stays),
        table,
      ).toEqual([]);
    }
    db.close();
  });

  const api = useServer(async () => ({ project: await sweptProject({}, { delta: DELTA }) }));

  test("waits for the runs of a thread; an update in time saves it", async () => {
    const saved = await api.thread();
    const { thread_id } = await api.post("/threads", { ttl: SOON / 1000 });
    const gate = new Gate(temp.dir, "busy");
    await api.post(`/threads/${saved}/runs`, { assistant_id: "slow", input: gate.input });
    await api.http.patch(`/threads/${saved}`, { ttl: SOON / 1000 });
    await isGone(api, thread_id);
    await afterSweep(api);
    expect(await status(api, saved)).toBe(200);
    await api.http.patch(`/threads/${saved}`, { ttl: 60 });
    gate.openAll();
    await eventually(async () => (await api.get(`/threads/${saved}`)).status === "idle");
    await afterSweep(api);
    expect(await status(api, saved)).toBe(200);
    await api.http.patch(`/threads/${saved}`, { ttl: SOON / 1000 });
    await isGone(api, saved);
  });

  test("keep_latest cuts the history, and does so again after the next run", async () => {
    const thread_id = await api.thread();
    await run(api, thread_id);
    const path = `/threads/${thread_id}`;
    const isCut = () => eventually(async () => (await ttlOf(api, thread_id)).expires_at === null);
    const state = await api.get(`${path}/state`);
    await api.http.patch(path, { ttl: { strategy: "keep_latest", ttl: SOON } });
    await isCut();
    const cut = await api.get(`${path}/state`);
    expect(cut).toEqual({ ...state, parent_checkpoint: null, parent_checkpoint_id: null });
    expect(await ttlOf(api, thread_id)).toEqual({ strategy: "keep_latest", ttl_minutes: SOON, expires_at: null });

    expect((await run(api, thread_id)).steps).toHaveLength(4);
    const parent = (await api.get(`${path}/state`)).parent_checkpoint_id;
    await isCut();
    if (parent !== null) expect((await api.http.get(`${path}/state/${parent}`)).status).toBe(404);
    expect((await api.get(`${path}/state`)).values.steps).toHaveLength(4);
  });

  test("what expired while the server was down goes when it is back; a run's end gives keep_latest its full time", async () => {
    const { thread_id } = await api.post("/threads", { ttl: 0.3 / 60 });
    const renewed = (await api.post("/threads", { ttl: { strategy: "keep_latest", ttl: 60 } })).thread_id;
    const before = Date.parse((await ttlOf(api, renewed)).expires_at);
    await run(api, renewed);
    const { ttl, updated_at } = await api.get(`/threads/${renewed}?include=ttl`);
    expect(Date.parse(ttl.expires_at)).toBe(Date.parse(updated_at) + 60 * MINUTE);
    expect(Date.parse(ttl.expires_at)).toBeGreaterThan(before);
    await api.server.restart("SIGKILL");
    await isGone(api, thread_id);
    expect(await ttlOf(api, renewed)).toEqual(ttl);
  });

  test("history that a delta channel needs is kept: the state reads as before", async () => {
    const thread_id = await api.thread();
    const say = (word: string) =>
      api.post(`/threads/${thread_id}/runs/wait`, { assistant_id: "delta", input: { word } });
    await say("a");
    await say("b");
    const { values } = await api.get(`/threads/${thread_id}/state`);
    expect(values.words).toEqual(["a", "b"]);
    expect(await api.post("/threads/prune", { thread_ids: [thread_id], strategy: "keep_latest" })).toEqual({
      pruned_count: 1,
    });
    expect((await api.get(`/threads/${thread_id}/state`)).values).toEqual(values);
    expect((await say("c")).words).toEqual(["a", "b", "c"]);
  });
});
