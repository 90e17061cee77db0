/** A thread's newest checkpoint may be from a machine whose clock is ahead of ours. */
import { v4, v6 } from "uuid";
import { expect, it } from "vitest";
import { madeAt, passed } from "../../src/executor/checkpoint-clock.ts";
import type { CheckpointRow, StateChange } from "../../src/executor/protocol.ts";
import { harness, job, spec } from "./support.ts";

const h = harness([spec("plain")]);
const AHEAD_MS = 100;

it("an id says when it was made, if it says anything", () => {
  const now = Date.now();
  expect(madeAt(v6({ msecs: now, nsecs: 9999 }))).toBe(now);
  expect(madeAt(v4())).toBeUndefined();
});

it("a little ahead: waited for, and what is made then is newer", async () => {
  const newest = v6({ msecs: Date.now() + AHEAD_MS, nsecs: 9999 });
  await passed(newest);
  expect(v6() > newest).toBe(true);
  const aborted = passed(v6({ msecs: Date.now() + 1000 }), AbortSignal.abort());
  await expect(aborted).rejects.toMatchObject({ name: "AbortError" });
});

it("a run writes behind the thread's newest checkpoint, or fails and writes nothing", async () => {
  const { thread_id } = job("plain");
  await h.run("plain", { thread_id });
  const stored = () => [...h.storage.rows.values()].filter((row) => row.thread_id === thread_id);
  const [row] = stored().sort((a, b) => (a.checkpoint_id < b.checkpoint_id ? 1 : -1));
  if (row === undefined) throw new Error("the run has left no checkpoint");
  const before = new Set(stored().map(({ checkpoint_id }) => checkpoint_id));
  const from = (ms: number) => ({
    ...row,
    checkpoint_id: v6({ msecs: Date.now() + ms }),
    blobs: [...h.storage.blobs.values()],
    writes: [],
  });

  const far = await h.run("plain", { thread_id, latest: from(600_000) });
  expect(far.outcome).toMatchObject({ kind: "error", error: { error: "ClockError" } });
  expect(stored()).toHaveLength(before.size);

  const near = from(AHEAD_MS);
  await h.run("plain", { thread_id, latest: near });
  const written = stored().filter(({ checkpoint_id }) => !before.has(checkpoint_id));
  expect(written.length).toBeGreaterThan(0);
  expect(written.filter(({ checkpoint_id }) => checkpoint_id < near.checkpoint_id)).toEqual([]);
});

it("an update of the state, and one that forks it, are the newest", async () => {
  const { thread_id } = job("plain");
  await h.run("plain", { thread_id });
  const rows = [...h.storage.rows.values()].filter((row) => row.thread_id === thread_id);
  const [oldest, ...others] = rows.sort((a, b) => (a.checkpoint_id < b.checkpoint_id ? -1 : 1));
  const ahead = { ...(others.at(-1) ?? rows[0]), checkpoint_id: v6({ msecs: Date.now() + AHEAD_MS }) } as CheckpointRow;
  h.storage.answer({ op: "put_checkpoint", run_id: "", fence: 0, row: ahead, blobs: [], durability: "sync" });
  for (const checkpoint of [{ checkpoint_id: oldest?.checkpoint_id ?? "" }, {}]) {
    const change = (await h.ask({
      ask: "update",
      graph_id: "plain",
      thread_id,
      config: { configurable: {} },
      checkpoint,
      supersteps: [[{ values: { foo: "new" }, command: null, as_node: "one" }]],
      metadata: { graph_id: "plain" },
    })) as StateChange;
    const made = change.writes.flatMap((write) => (write.op === "put_checkpoint" ? [write.row.checkpoint_id] : []));
    expect(made.length).toBeGreaterThan(0);
    expect(made.filter((id) => id < ahead.checkpoint_id)).toEqual([]);
  }
});
