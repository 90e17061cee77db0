/** A thread's events of streaming v2: numbered, filtered, replayed, live. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { filterOf, wantsName } from "../../../src/streaming/protocol/filter.ts";
import { envelope, type ProtocolFrame, seqOf, seqOfEventId } from "../../../src/streaming/protocol/frames.ts";
import { at, THREAD, Thread, take } from "./support.ts";

const methods = (frames: readonly ProtocolFrame[]): string[] => frames.map(({ method }) => method);
const seqs = (frames: readonly ProtocolFrame[]): number[] => frames.map(({ seq }) => seq);
const dataOf = ({ params }: ProtocolFrame): unknown => JSON.parse(params).data;

function expectGrowing(frames: readonly ProtocolFrame[]): void {
  const numbers = seqs(frames);
  expect(numbers).toEqual([...new Set(numbers)].sort((a, b) => a - b));
  expect(new Set(frames.map(({ event_id }) => event_id)).size).toBe(frames.length);
}

describe("a run", () => {
  test("has its beginning, its events and its end, in envelopes that are JSON", async () => {
    const thread = new Thread();
    const log = thread.begin();
    log.append([at("values", ["a:1"], { x: 1 })]);
    thread.end(log);
    const frames = await thread.all();
    expect(methods(frames)).toEqual(["lifecycle", "values", "lifecycle"]);
    expectGrowing(frames);
    const [running, values, end] = frames.map((frame) => JSON.parse(envelope(frame)));
    expect(values).toEqual({
      type: "event",
      event_id: `${log.place}-2`,
      seq: (log.place ?? 0) + 2,
      method: "values",
      params: { namespace: ["a:1"], timestamp: 1, data: { x: 1 } },
    });
    expect(running.event_id).toBe(`synth:run-1:${log.place}-1`);
    expect(end.event_id).toBe(`synth:run-1:${log.place}-3`);
    expect(end.params).toEqual({ namespace: [], timestamp: 1, data: { event: "completed", graph_name: "graph" } });
    expect(frames.map(({ event_id }) => seqOfEventId(event_id))).toEqual(seqs(frames));
  });

  test("is followed live, over its end to the next", async () => {
    const thread = new Thread();
    const { frames } = thread.read();
    const first = take(frames, 1);
    const log = thread.begin();
    expect(methods(await first)).toEqual(["lifecycle"]);
    log.append([at("values", [], 1)]);
    expect(methods(await take(frames, 1))).toEqual(["values"]);
    thread.end(log, { event: "failed", error: "why" });
    expect((await take(frames, 1)).map(dataOf)).toEqual([{ event: "failed", error: "why", graph_name: "graph" }]);
    thread.begin();
    expect((await take(frames, 1)).map(dataOf)).toEqual([{ event: "running", graph_name: "graph" }]);
  });

  test("that left no row was interrupted", async () => {
    const thread = new Thread();
    const log = thread.begin();
    const { frames } = thread.read();
    await take(frames, 1);
    thread.facts.delete(log.run_id);
    thread.logs.erase(log);
    expect((await take(frames, 1)).map(dataOf)).toEqual([{ event: "interrupted", graph_name: "graph" }]);
  });

  test("that left no row while its reader was away has an end, and nothing else", async () => {
    const thread = new Thread();
    const log = thread.begin();
    log.append([at("values", [], 1)]);
    const [, seen] = await take(thread.read().frames, 2);
    thread.facts.delete(log.run_id);
    thread.logs.erase(log);
    const left = { stored: async () => [log.run_id], open: async () => log };
    for (const since of [seen?.seq ?? 0, null]) {
      const frames = await thread.all({ since, ...left });
      expect(frames.map(dataOf)).toEqual([{ event: "interrupted", graph_name: "" }]);
      expect(await thread.all({ since: frames[0]?.seq ?? 0, ...left })).toEqual([]);
    }
  });

  test("that never began has an end", async () => {
    const thread = new Thread();
    const { frames } = thread.read();
    const end = take(frames, 1);
    thread.facts.set("waited", {
      graph_id: "graph",
      isProtocol: true,
      end: { at: 5, data: { event: "interrupted" } },
    });
    thread.logs.endUnheld({ run_id: "waited", thread_id: THREAD, fence: 0 }, Date.now() * 1000);
    expect((await end).map(dataOf)).toEqual([{ event: "interrupted", graph_name: "graph" }]);
  });

  test("of stream modes shows what these have", async () => {
    const thread = new Thread();
    const log = thread.begin({ isProtocol: false });
    log.append([
      { event: "values", data: '{"a":1}' },
      { event: "updates|n:1", data: '{"x":1,"y":2}' },
      { event: "values", data: '{"__interrupt__":[{"id":"i","value":"?"}]}' },
      { event: "messages", data: "[]" },
    ]);
    thread.end(log, { event: "interrupted" });
    const frames = await thread.all();
    expect(
      frames.map(({ params }) => JSON.parse(params)).map(({ namespace, node, data }) => [namespace, node, data]),
    ).toEqual([
      [[], undefined, { event: "running", graph_name: "graph" }],
      [[], undefined, { a: 1 }],
      [["n:1"], "x", { node: "x", values: 1 }],
      [["n:1"], "y", { node: "y", values: 2 }],
      [[], undefined, { interrupt_id: "i", payload: "?", value: "?" }],
      [[], undefined, { event: "interrupted", graph_name: "graph" }],
    ]);
    expect(new Set(frames.map(({ event_id }) => event_id)).size).toBe(frames.length);
    expect(seqs(frames)).toEqual(seqs(frames).toSorted((a, b) => a - b));
    // A connection may be lost between two frames that share a number: who comes again has all of them, and knows those it has.
    for (const [index, { seq }] of frames.entries()) {
      const had = frames.slice(0, index + 1).map(({ event_id }) => event_id);
      const again = await thread.all({ since: seq });
      expect(again.filter(({ event_id }) => !had.includes(event_id))).toEqual(frames.slice(index + 1));
      expect(again.filter((frame) => frame.seq === seq).map(({ name }) => name)).toEqual(
        seqs(frames).filter((other) => other === seq).length > 1 ? ["@updates|n:1", "@updates|n:1"] : [],
      );
    }
  });
});

test("a reader that is too slow is told, and goes on where it was when it comes again", async () => {
  const thread = new Thread();
  const { frames } = thread.read();
  const first = take(frames, 2);
  const say = (run: number): void => {
    const log = thread.begin();
    log.append([at("values", [], { run, text: "x".repeat(1_000_000) })]);
    thread.end(log);
  };
  say(0);
  const seen = await first;
  for (let run = 1; run <= 20; run += 1) say(run);
  const rest = await take(frames, 100);
  expect(methods([...seen, ...rest])).toEqual(["lifecycle", "values", "lifecycle", "gap"]);
  // All of it is in memory, and more than may come to wait for a reader.
  const again = await thread.all({ since: rest.at(-1)?.seq ?? 0 });
  expect(methods(again)).toEqual(Array.from({ length: 20 }, () => ["lifecycle", "values", "lifecycle"]).flat());
});

/** Runs of a thread, each some events of some channels. */
const runs = fc.array(fc.array(fc.constantFrom("values", "messages", "lifecycle", "tools"), { maxLength: 6 }), {
  minLength: 1,
  maxLength: 5,
});

async function played(shape: readonly (readonly ("values" | "messages" | "lifecycle" | "tools")[])[]): Promise<Thread> {
  const thread = new Thread();
  for (const methods of shape) {
    const log = thread.begin();
    for (const method of methods) log.append([at(method, ["n:1"], {})]);
    thread.end(log);
  }
  return thread;
}

describe("numbers", () => {
  test("grow strictly, and from any of them on the rest follows", async () => {
    await fc.assert(
      fc.asyncProperty(runs, fc.nat(), fc.integer({ min: -1, max: 1 }), async (shape, which, beside) => {
        const thread = await played(shape as Parameters<typeof played>[0]);
        const all = await thread.all();
        expect(all.length).toBe(shape.reduce((sum, events) => sum + events.length + 2, 0));
        expectGrowing(all);
        const since = (all[which % all.length]?.seq ?? 0) + beside;
        expect(await thread.all({ since })).toEqual(all.filter(({ seq }) => seq > since));
        const through = all[which % all.length]?.seq ?? 0;
        const { frames } = thread.read({ through });
        expect(await take(frames, all.length + 1)).toEqual(all.filter(({ seq }) => seq <= through));
      }),
      { numRuns: 60 },
    );
  });

  test("of runs that begin at once stay apart from those of runs with many events", () => {
    const thread = new Thread();
    let last = 0;
    for (let round = 0; round < 20; round += 1) {
      const log = thread.begin();
      log.append(Array.from({ length: 5000 }, () => at("values", [], 1)));
      expect(log.place).toBeGreaterThan(last);
      last = seqOf(log.place ?? 0, log.next) + 2;
      if (round % 2 === 0) thread.end(log);
      else thread.logs.erase(log);
    }
  });

  test("applied: the newest that can have been seen", async () => {
    const thread = new Thread();
    expect(thread.logs.appliedThrough(THREAD)).toBeUndefined();
    const log = thread.begin();
    const frames = thread.read().frames;
    expect(thread.logs.appliedThrough(THREAD)).toBe((await take(frames, 1)).at(-1)?.seq);
    thread.end(log);
    expect(thread.logs.appliedThrough(THREAD)).toBe((await take(frames, 1)).at(-1)?.seq);
  });
});

describe("filters", () => {
  test("are by channel, namespace and depth", async () => {
    const thread = new Thread();
    const log = thread.begin();
    log.append([
      at("values", ["a:1"], 1),
      at("values", ["a:1", "b:2"], 2),
      at("values", ["c:1"], 3),
      at("custom:mine", [], 4),
      at("custom", [], 5),
      at("input.requested", [], 6),
    ]);
    thread.end(log);
    const seen = async (request: Parameters<typeof filterOf>[0]): Promise<unknown[]> =>
      (await thread.all({ wants: wantsName(filterOf(request)) })).map(dataOf);
    expect(await seen({ channels: ["values"] })).toEqual([1, 2, 3]);
    expect(await seen({ channels: ["values"], namespaces: [["a"]] })).toEqual([1, 2]);
    expect(await seen({ channels: ["values"], namespaces: [["a"]], depth: 0 })).toEqual([1]);
    expect(await seen({ channels: ["values"], namespaces: [["a:2"], ["c:1"]] })).toEqual([3]);
    expect(await seen({ channels: ["values"], depth: 0 })).toEqual([1, 2, 3]);
    expect(await seen({ channels: ["custom"] })).toEqual([4, 5]);
    expect(await seen({ channels: ["custom:mine", "input"] })).toEqual([4, 6]);
  });
});
