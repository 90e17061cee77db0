/** What readers are told of a run whose last events were lost on the way from the process that held it. */
import { expect, test } from "vitest";
import { followThread } from "../../src/streaming/follow-thread.ts";
import { threadFilter } from "../../src/streaming/modes.ts";
import type { RunLog } from "../../src/streaming/run-log.ts";
import { at, THREAD, Thread } from "./protocol/support.ts";

const PLACE = 1_000_000;
const EVENTS = [
  { id: 0, event: "metadata", data: "{}" },
  { id: 1, ...at("values", [], { x: 1 }) },
  { id: 2, event: "values", data: '{"x":1}' },
];

const lacking: RunLog = {
  run_id: "lost",
  thread_id: THREAD,
  place: PLACE,
  ended: true,
  output: null,
  isCut: true,
  lacksEvents: true,
  next: EVENTS.length,
  size: 0,
  read: async (after) => EVENTS.filter(({ id }) => id > after),
  subscribe: () => () => undefined,
};
const there = { stored: () => Promise.resolve(["lost"]), open: () => Promise.resolve(lacking) };

test("streaming v2: a gap, before the end of the run, with a number of its own", async () => {
  const thread = new Thread();
  thread.facts.set("lost", { graph_id: "graph", isProtocol: true, end: { at: 1, data: { event: "completed" } } });
  const frames = await thread.all(there);
  expect(frames.map(({ method }) => method)).toEqual(["values", "gap", "lifecycle"]);
  const seqs = frames.map(({ seq }) => seq);
  expect(seqs).toEqual([...new Set(seqs)].sort((a, b) => a - b));
});

test("the stream of a thread: an error that names the run, then its end", async () => {
  const { logs } = new Thread();
  const frames = followThread({
    logs,
    thread_id: THREAD,
    after: { place: 0, index: -1 },
    filter: threadFilter(["run_modes", "lifecycle"]),
    signal: new AbortController().signal,
    ...there,
    stateAfter: () => Promise.resolve(null),
    isNative: () => Promise.resolve(false),
  });
  const seen = [];
  while (seen.at(-1)?.id !== `${PLACE}-3`) seen.push(...((await frames.next()).value ?? []));
  const [error, end] = seen.slice(-2);
  expect([error?.event, error?.id, end?.event]).toEqual(["error", `${PLACE}-2`, "metadata"]);
  expect(error?.data).toContain("run lost has ended");
});
