/** A connection that carries commands and events: order, back-pressure, the ends it may come to. */
import { expect, test } from "vitest";
import { Session, type SessionOptions } from "../../../src/services/protocol/session.ts";
import { gapFrame, type ProtocolFrame } from "../../../src/streaming/protocol/frames.ts";
import { eventually } from "../../support/server.ts";
import { at, THREAD, Thread } from "./support.ts";

/** A session over logs in memory; `held` texts are taken by the network one call of `take` at a time. */
function connect(thread: Thread, change: Partial<SessionOptions> = {}) {
  const sent: string[] = [];
  const held: (() => void)[] = [];
  const closed: [number, string][] = [];
  const errors: unknown[] = [];
  const state = { isDeaf: false };
  const session = new Session({
    thread_id: THREAD,
    socket: {
      send: (texts) => {
        sent.push(...texts);
        return state.isDeaf ? new Promise((resolve) => held.push(resolve)) : Promise.resolve();
      },
      close: (code, reason) => closed.push([code, reason]),
    },
    opened: () => Promise.resolve(),
    follow: (reader) => thread.read(reader).frames,
    applied: () => Promise.resolve(thread.logs.appliedThrough(THREAD) ?? Date.now() * 1000 - 1),
    tree: () => Promise.resolve({ namespace: [], status: "running", graph_name: "graph" }),
    command: ({ id }) => Promise.resolve({ type: "success", id, result: {} }),
    onError: (error) => errors.push(error),
    ...change,
  });
  const subscribe = (id: number, params: object): void =>
    session.receive(JSON.stringify({ id, method: "subscription.subscribe", params }));
  const frames = () => sent.map((text) => JSON.parse(text));
  return { session, subscribe, frames, sent, held, closed, errors, state };
}

test("a subscription's past comes behind its answer, and nothing twice", async () => {
  const thread = new Thread();
  const log = thread.begin();
  log.append([at("values", [], 1), at("tools", [], 2)]);
  const { subscribe, frames } = connect(thread);
  subscribe(1, { channels: ["values"] });
  await eventually(() => frames().length === 2);
  log.append([at("values", [], 3), at("tools", [], 4)]);
  await eventually(() => frames().length === 3);
  subscribe(2, { channels: ["tools", "values"] });
  await eventually(() => frames().length === 3 + 1 + 4);
  log.append([at("values", [], 5), at("tools", [], 6)]);
  await eventually(() => frames().length === 3 + 1 + 4 + 2);
  const told = frames().map(({ type, id, result, params }) =>
    type === "event" ? params.data : [id, result.replayed_events],
  );
  expect(told).toEqual([[1, 1], 1, 3, [2, 4], 1, 2, 3, 4, 5, 6]);
});

test("from a number on", async () => {
  const thread = new Thread();
  const log = thread.begin();
  log.append([at("values", [], 1), at("values", [], 2)]);
  const { subscribe, frames } = connect(thread);
  subscribe(1, { channels: ["values"], since: (log.place ?? 0) + 2 });
  await eventually(() => frames().length === 2);
  log.append([at("values", [], 3)]);
  await eventually(() => frames().length === 3);
  expect(
    frames()
      .slice(1)
      .map(({ params }) => params.data),
  ).toEqual([2, 3]);
});

test("a client that reads nothing holds one batch, whatever is written", async () => {
  const thread = new Thread();
  const log = thread.begin();
  const { subscribe, sent, held, state, frames } = connect(thread);
  subscribe(1, { channels: ["values"] });
  await eventually(() => frames().length === 1);
  state.isDeaf = true;
  for (let n = 0; n < 200; n += 1) {
    log.append([at("values", [], n)]);
    await new Promise(setImmediate);
  }
  expect(held.length).toBe(1);
  expect(sent.length).toBeLessThan(10);
  state.isDeaf = false;
  held[0]?.();
  await eventually(() => frames().length === 201);
  expect(
    frames()
      .slice(1)
      .map(({ params }) => params.data),
  ).toEqual(Array.from({ length: 200 }, (_, n) => n));
});

test("a client that reads no answers has few commands carried out, and is closed when it goes on", async () => {
  let carriedOut = 0;
  const { session, held, state, closed, frames } = connect(new Thread(), {
    command: ({ id }) => {
      carriedOut += 1;
      return Promise.resolve({ type: "success", id, result: {} });
    },
  });
  state.isDeaf = true;
  for (let id = 0; id < 256; id += 1) {
    session.receive(JSON.stringify({ id, method: "state.get" }));
    await new Promise(setImmediate);
  }
  expect(carriedOut).toBe(16);
  expect(held.length).toBe(1);
  state.isDeaf = false;
  held[0]?.();
  await eventually(() => frames().length === 256);
  expect(frames().map(({ id }) => id)).toEqual(Array.from({ length: 256 }, (_, id) => id));
  expect(closed).toEqual([]);
  state.isDeaf = true;
  for (let id = 0; id < 257; id += 1) session.receive("no command");
  await eventually(() => closed.length > 0);
  expect(closed).toEqual([[4429, expect.any(String)]]);
});

test("a long replay is counted without being kept", async () => {
  const count = 1200;
  let open = 0;
  let most = 0;
  const { session, frames } = connect(new Thread(), {
    follow: async function* ({ through }) {
      if (through === undefined) return;
      open += 1;
      most = Math.max(most, open);
      for (let seq = 0; seq < count; seq += 1) {
        yield [{ seq, event_id: `0-${seq}`, method: "values", name: "@values", params: "{}" }];
      }
      open -= 1;
    },
  });
  const params = { run_id: "run", subscriptions: [] };
  session.receive(JSON.stringify({ id: 1, method: "subscription.reconnect", params }));
  await eventually(() => frames().length === 1 + count);
  expect(frames()[0].result.missed_events).toBe(count);
  // The replay that is sent waits while another is counted.
  expect(most).toBe(2);
});

test("one that is too slow is told, and closed so that it comes again", async () => {
  const slow: ProtocolFrame = gapFrame({ after: 1, resumes_at: 5, reason: "slow" }, 1);
  const { subscribe, frames, closed } = connect(new Thread(), {
    follow: async function* ({ through }) {
      if (through === undefined) yield [slow];
    },
  });
  subscribe(1, { channels: ["values"] });
  await eventually(() => closed.length > 0);
  expect(closed).toEqual([[4408, expect.any(String)]]);
  expect(frames()[1]).toMatchObject({ method: "gap", params: { data: { after: 1, resumes_at: 5, reason: "slow" } } });
});

test("a deleted thread closes it; a failure does too, and is logged", async () => {
  const thread = new Thread();
  const one = connect(thread);
  one.subscribe(1, { channels: ["values"] });
  await eventually(() => one.frames().length === 1);
  thread.logs.closeThread(THREAD);
  await eventually(() => one.closed.length > 0);
  expect(one.closed).toEqual([[4404, expect.any(String)]]);
  const two = connect(new Thread(), {
    follow: async function* ({ through }): AsyncGenerator<readonly ProtocolFrame[], void> {
      if (through === undefined) throw new Error("why");
      yield [];
    },
  });
  two.subscribe(1, { channels: ["values"] });
  await eventually(() => two.closed.length > 0);
  expect(two.closed[0]?.[0]).toBe(1011);
  expect(two.errors).toEqual([new Error("why")]);
});

test("a subscription that fails is answered, and the next one works", async () => {
  let mayFail = true;
  const { subscribe, frames, errors } = connect(new Thread(), {
    opened: () => (mayFail ? Promise.reject(new Error("why")) : Promise.resolve()),
  });
  subscribe(1, { channels: ["values"] });
  await eventually(() => frames().length === 1);
  mayFail = false;
  subscribe(2, { channels: ["values"] });
  await eventually(() => frames().length === 2);
  expect(frames().map(({ id, type, error }) => [id, type, error])).toEqual([
    [1, "error", "unknown_error"],
    [2, "success", undefined],
  ]);
  expect(errors).toHaveLength(1);
});

test("nothing stays behind a closed one", async () => {
  const thread = new Thread();
  const { session, subscribe, frames } = connect(thread);
  subscribe(1, { channels: ["values"] });
  await eventually(() => frames().length === 1);
  await eventually(() => thread.logs.isWatchedByProtocol(THREAD));
  session.closed();
  await eventually(() => !thread.logs.isWatchedByProtocol(THREAD));
  expect(thread.logs.threads).toBe(0);
});
