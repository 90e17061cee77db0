/** The credit of a run on its executor thread: who has no room for its events slows that run and no other. */
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { expect, test } from "vitest";
import { ExecutorThread } from "../../src/engine/executor-thread.ts";
import { HIGH_WATER } from "../../src/executor/flow.ts";
import { EventLog, type EventShelf } from "../../src/streaming/event-log.ts";
import { job, MapStorage, spec } from "../executor/support.ts";
import { TALKER } from "../faults/graphs.ts";
import { linesOf } from "../faults/support.ts";
import { newestBuild, project } from "../support/project.ts";
import { eventually } from "../support/server.ts";

const TAIL_LIMIT = 1024 * 1024;
const SIZE = 100_000;
const COUNT = 300;

function logOn(shelf: EventShelf): EventLog {
  const names = { run_id: "r", thread_id: "t", resumable: false, first: 0 };
  return new EventLog({ ...names, tailLimit: TAIL_LIMIT, shelf, onError: () => undefined });
}

const into = (log: EventLog) => ({
  hold: { fence: 1, failure: undefined, hasStored: false },
  onEvents: (events: readonly { event: string; data: string }[]): Promise<void> | undefined => {
    log.append(events);
    return log.room();
  },
});

test("storage that does not answer bounds what is in memory of a run nobody reads, and holds up no other run", async () => {
  await using talker = await project({ "talk.mjs": TALKER });
  const storage = new MapStorage();
  const thread = new ExecutorThread({
    entry: pathToFileURL(join(newestBuild(), "executor", "main.js")),
    settings: {
      graphs: [{ ...spec("talk", "talk.mjs", "graph"), file: join(talker.dir, "talk.mjs") }],
      project_dir: talker.dir,
      server_url: "",
    },
    env: process.env,
    heapMb: 512,
    execArgv: [],
    onStorage: async (requests) => requests.map(({ call }) => ({ ok: true, value: storage.answer(call) })),
    onExit: () => undefined,
  });
  try {
    await thread.ready;
    let answer!: () => void;
    const barrier = new Promise<void>((resolve) => {
      answer = resolve;
    });
    let stored = 0;
    const slow = logOn({
      load: async () => [],
      store: async (_log, events) => {
        await barrier;
        stored += events.length;
        return true;
      },
    });
    const said = join(talker.dir, "said");
    const kwargs = { stream_mode: ["custom" as const], temporary: true };
    const running = thread.run(
      job("talk", { kwargs: { ...kwargs, input: { count: COUNT, size: SIZE, log: said } } }),
      into(slow),
    );
    // Its node is done; what it said waits.
    await eventually(() => linesOf(said).length === 1);
    await eventually(() => slow.size > HIGH_WATER);
    const quick = logOn({ load: async () => [], store: async () => true });
    const other = await thread.run(
      job("talk", { kwargs: { ...kwargs, input: { count: 100, size: 10 } } }),
      into(quick),
    );
    expect(other.kind).toBe("success");
    expect(quick.next).toBe(100);
    // Credit is given in steps; a message may hold some events more.
    expect(slow.size).toBeLessThan(TAIL_LIMIT + HIGH_WATER + 10 * SIZE);
    expect(slow.next).toBeLessThan(COUNT / 2);

    answer();
    expect((await running).kind).toBe("success");
    await slow.room();
    expect(slow.next).toBe(COUNT);
    expect(slow.size).toBeLessThanOrEqual(TAIL_LIMIT);
    expect(stored).toBeGreaterThan(COUNT - 2 * (TAIL_LIMIT / SIZE));
  } finally {
    await thread.terminate();
  }
});
