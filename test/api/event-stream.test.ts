/** POST /threads/{id}/stream/events: the events of a thread's runs, live and again. */
import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { type Any, Api, type Body, useServer } from "../runs/support.ts";
import { eventually, startServer } from "../support/server.ts";
import type { Frame, SseStream } from "../support/sse.ts";

const api = useServer(() => ({ env: { RESUMABLE_STREAM_TTL_SECONDS: "600" } }));
const ALL = ["values", "updates", "messages", "tools", "lifecycle", "input", "checkpoints", "tasks", "custom"];
const plain = { assistant_id: "plain", input: { value: 1 } };

const path = (thread_id: string): string => `/threads/${thread_id}/stream/events`;
const open = (thread_id: string, body: Body = { channels: ALL }): Promise<SseStream> =>
  api.open(path(thread_id), { body });
const event = (frame: Frame | undefined): Any => JSON.parse(frame?.data ?? "null");
const slowRun = async (on: Api, thread_id: string): Promise<string> => {
  const params = { assistant_id: "slow", input: { gate: "/nowhere" } };
  return (await on.post(`/threads/${thread_id}/commands`, { id: 1, method: "run.start", params })).result.run_id;
};
const TERMINAL = new Set(["completed", "failed", "interrupted"]);
const isEnd = (frame: Frame): boolean => {
  const { method, params } = event(frame);
  return method === "lifecycle" && params.namespace.length === 0 && TERMINAL.has(params.data.event);
};
const said = (frames: readonly Frame[]): string[] =>
  frames.map(event).map(({ method, params }) => (method === "lifecycle" ? params.data.event : method));

describe("frames", () => {
  test("are envelopes under their method, with the number as id", async () => {
    const thread_id = await api.thread();
    await using stream = await open(thread_id);
    expect(stream.headers["content-type"]).toContain("text/event-stream");
    await api.wait(plain, `/threads/${thread_id}/runs/wait`);
    const frames = await stream.until(isEnd);
    expect(said(frames)[0]).toBe("running");
    expect(said(frames).at(-1)).toBe("completed");
    for (const frame of frames) {
      const { type, seq, method } = event(frame);
      expect([type, String(seq), method]).toEqual(["event", frame.id, frame.event]);
    }
  });

  test("come again to who asks later, and those after a number", async () => {
    const thread_id = await api.thread();
    await using live = await open(thread_id);
    for (const _ of [1, 2]) await api.wait(plain, `/threads/${thread_id}/runs/wait`);
    const frames = [...(await live.until(isEnd)), ...(await live.until(isEnd))];
    await using again = await open(thread_id);
    const replayed = [...(await again.until(isEnd)), ...(await again.until(isEnd))];
    expect(replayed.map(({ data }) => data)).toEqual(frames.map(({ data }) => data));
    const since = event(frames[2]).seq;
    await using rest = await open(thread_id, { channels: ALL, since });
    const tail = [...(await rest.until(isEnd)), ...(await rest.until(isEnd))];
    expect(tail.map(({ data }) => data)).toEqual(
      frames.filter((frame) => event(frame).seq > since).map(({ data }) => data),
    );
  });

  test("runs that are cancelled together before they began have an end each, live and again", async () => {
    const thread_id = await api.thread();
    await using live = await open(thread_id, { channels: ["lifecycle"] });
    const slow = { assistant_id: "slow", input: { gate: "/nowhere" } };
    const run_ids: string[] = [];
    for (let i = 0; i < 6; i += 1) run_ids.push((await api.post(`/threads/${thread_id}/runs`, slow)).run_id);
    await live.until((frame) => said([frame])[0] === "running");
    await api.http.post("/runs/cancel", { thread_id, run_ids: run_ids.slice(1) });
    await api.http.post(`/threads/${thread_id}/runs/${run_ids[0]}/cancel`);
    await using again = await open(thread_id, { channels: ["lifecycle"] });
    for (const stream of [live, again]) {
      const ends: Frame[] = [];
      while (ends.length < run_ids.length) ends.push(...(await stream.until(isEnd)).filter(isEnd));
      expect(new Set(ends.map(({ id }) => id)).size).toBe(run_ids.length);
    }
  });

  test("a thread that does not exist yet is waited for", async () => {
    const thread_id = randomUUID();
    await using stream = await open(thread_id, { channels: ["lifecycle"] });
    expect(stream.status).toBe(200);
    await api.post("/threads", { thread_id });
    await api.wait(plain, `/threads/${thread_id}/runs/wait`);
    expect(said(await stream.until(isEnd))).toEqual(["running", "completed"]);
  });

  test("a deleted thread has no more", async () => {
    const thread_id = await api.thread();
    await using stream = await open(thread_id);
    await api.http.delete(`/threads/${thread_id}`);
    expect(await stream.rest()).toEqual([]);
    expect(stream.complete).toBe(true);
  });

  test("a run that fails says why", async () => {
    const thread_id = await api.thread();
    await using stream = await open(thread_id, { channels: ["lifecycle"] });
    await api.post(`/threads/${thread_id}/runs`, { assistant_id: "error", input: {} });
    const end = event((await stream.until(isEnd)).at(-1));
    expect(end.params.data).toMatchObject({ event: "failed", graph_name: "error", error: expect.any(String) });
  });
});

describe("refusals", () => {
  test.each([
    [{}, /^channels: /],
    [{ channels: [] }, /^channels: /],
    [{ channels: ["debug"] }, /^channels\.0: .*custom:<name>/],
    [{ channels: Array.from({ length: 1001 }, () => "values") }, /^channels: .*1000/],
    [{ channels: ["values"], namespaces: Array.from({ length: 1001 }, () => ["a"]) }, /^namespaces: .*1000/],
    [{ channels: ["values"], depth: -1 }, /^depth: /],
    [{ channels: ["values"], since: "x" }, /^since: /],
    [{ channels: ["values"], namespaces: [1] }, /^namespaces\.0: /],
  ])("%.40j", async (body, detail) => {
    const answer = await api.http.post(path(randomUUID()), body);
    expect(answer.status).toBe(400);
    expect(answer.body).toEqual({ detail: expect.stringMatching(detail) });
  });

  test("a thread id that is none", async () => {
    const answer = await api.http.post(path("me"), { channels: ALL });
    expect(answer.status).toBe(422);
  });
});

const command = (thread_id: string, method: string, params: Body): Promise<Any> =>
  api.post(`/threads/${thread_id}/commands`, { id: 1, method, params });

describe("runs of commands", () => {
  test("live and again, every channel of a chat", async () => {
    const thread_id = randomUUID();
    await using live = await open(thread_id);
    const started = await command(thread_id, "run.start", {
      assistant_id: "chat",
      input: { messages: [{ role: "user", content: "hello" }] },
    });
    expect(started.type).toBe("success");
    const frames = await live.until(isEnd);
    expect(said(frames)[0]).toBe("running");
    expect(new Set(said(frames))).toEqual(
      new Set(["running", "values", "checkpoints", "updates", "tasks", "messages", "completed"]),
    );
    expect(event(frames[0]).event_id).toContain(`synth:${started.result.run_id}:`);
    await using again = await open(thread_id);
    expect((await again.until(isEnd)).map(({ data }) => data)).toEqual(frames.map(({ data }) => data));
    await using messages = await open(thread_id, { channels: ["messages", "lifecycle"] });
    expect((await messages.until(isEnd)).map(({ data }) => data)).toEqual(
      frames.filter(({ event }) => event === "messages" || event === "lifecycle").map(({ data }) => data),
    );
  });

  test("an interrupt is asked, answered and over", async () => {
    const thread_id = randomUUID();
    await using live = await open(thread_id, { channels: ["input", "lifecycle"] });
    await command(thread_id, "run.start", { assistant_id: "hitl", input: {} });
    const first = await live.until(isEnd);
    expect(said(first)).toEqual(["running", "input.requested", "interrupted"]);
    const asked = event(first[1]);
    const { interrupt_id } = asked.params.data;
    const answer = await command(thread_id, "input.respond", { interrupt_id, response: "yes" });
    expect(answer).toMatchObject({ type: "success" });
    expect(answer.meta.applied_through_seq).toBeGreaterThanOrEqual(asked.seq);
    const second = await live.until(isEnd);
    expect(said(second)).toEqual(["running", "input.answered", "completed"]);
    expect(answer.meta.applied_through_seq).toBeLessThan(event(second[0]).seq);
  });

  test("a run of REST on a watched thread has all of it beside its own modes", async () => {
    const thread_id = randomUUID();
    await using live = await open(thread_id);
    const rest = await api.stream(
      {
        assistant_id: "chat",
        input: { messages: [{ role: "user", content: "hello" }] },
        if_not_exists: "create",
        stream_mode: "values",
      },
      `/threads/${thread_id}/runs/stream`,
    );
    expect(rest.map(({ event: name }) => name).filter((name) => name?.startsWith("@"))).toEqual([]);
    expect(new Set(said(await live.until(isEnd)))).toEqual(
      new Set(["running", "values", "checkpoints", "updates", "tasks", "messages", "completed"]),
    );
  });
});

describe("runs of commands, as REST shows them", () => {
  test("joined with each mode, waited for and followed over the thread", async () => {
    const thread_id = await api.thread();
    await using watcher = await api.open(`/threads/${thread_id}/stream`);
    const { result } = await command(thread_id, "run.start", {
      assistant_id: "chat",
      input: { messages: [{ role: "user", content: "hello" }] },
    });
    const run = `/threads/${thread_id}/runs/${result.run_id}`;
    const values = await api.get(`${run}/join`);
    const joined = await api.frames(`${run}/stream`);
    const of = (frames: readonly Frame[], name: string): Any[] =>
      frames.filter(({ event }) => event === name).map(({ data }) => JSON.parse(data ?? "null"));
    expect(of(joined, "values").at(-1)).toEqual(values);
    expect(Object.keys(of(joined, "updates")[0])).toHaveLength(1);
    const messages = of(joined, "messages");
    expect(messages.map(([message]) => message.content).join("")).toBe(
      [values.messages.at(-1).content]
        .flat()
        .map((part: Any) => part.text ?? part)
        .join(""),
    );
    expect(joined.some(({ event }) => event?.startsWith("@"))).toBe(false);
    expect(joined[0]?.event).toBe("metadata");
    for (const mode of ["values", "updates", "messages-tuple", "tasks"]) {
      const only = await api.frames(`${run}/stream?stream_mode=${mode}`);
      const name = mode === "messages-tuple" ? "messages" : mode;
      expect(new Set(only.map(({ event }) => event))).toEqual(new Set(["metadata", name]));
      expect(of(only, name)).toEqual(of(joined, name));
    }
    const whole = await watcher.until(({ event, data }) => event === "metadata" && data?.includes("run_done") === true);
    expect(whole.slice(0, -1).map(({ event, data }) => [event, data])).toEqual(
      joined.map(({ event, data }) => [event, data]),
    );
  });
});

describe("what is not kept any more", () => {
  test("a finished thread shows its state at once; who has seen a part hears of the gap", async () => {
    await using server = await startServer({ env: { RESUMABLE_STREAM_TTL_SECONDS: "1" } });
    const own = new Api(server);
    const thread_id = randomUUID();
    const send = (method: string, params: Body): Promise<Any> =>
      own.post(`/threads/${thread_id}/commands`, { id: 1, method, params });
    await using live = await own.open(path(thread_id), { body: { channels: ALL } });
    await send("run.start", { ...plain });
    const frames = await live.until(isEnd);
    const last = frames.filter((frame) => frame.event === "values").at(-1);
    // What is in memory goes with the process.
    await server.restart();
    await eventually(async () => {
      await using probe = await own.open(path(thread_id), { body: { channels: ["values", "checkpoints"] } });
      return event(await probe.next()).event_id.startsWith("synth:snapshot:");
    });
    await using again = await own.open(path(thread_id), { body: { channels: ALL } });
    const [checkpoint, values] = [event(await again.next()), event(await again.next())];
    expect([checkpoint.method, values.method]).toEqual(["checkpoints", "values"]);
    expect(values.params.data).toEqual(event(last).params.data);
    expect(checkpoint.params.data.id).toBe(
      event(frames.filter((frame) => frame.event === "checkpoints").at(-1)).params.data.id,
    );
    const since = event(frames[1]).seq;
    await using behind = await own.open(path(thread_id), { body: { channels: ["lifecycle", "values"], since } });
    const gap = event(await behind.next());
    expect(gap).toMatchObject({ method: "gap", params: { namespace: [], data: { after: since, reason: "expired" } } });
    const shown = event(await behind.next());
    expect(shown.method).toBe("values");
    expect(shown.seq).toBeGreaterThan(gap.seq);
    // Who has seen its end has missed nothing.
    await using ahead = await own.open(path(thread_id), {
      body: { channels: ["lifecycle", "values"], since: event(frames.at(-1)).seq },
    });
    await using almost = await own.open(path(thread_id), {
      body: { channels: ["lifecycle", "values"], since: event(frames.at(-1)).seq - 1 },
    });
    expect(event(await almost.next()).method).toBe("gap");
    await using shownTo = await own.open(path(thread_id), {
      body: { channels: ["lifecycle", "values"], since: values.seq },
    });
    await send("run.start", { ...plain });
    for (const stream of [ahead, shownTo]) expect(said(await stream.until(isEnd))[0]).toBe("running");
    const next = await behind.until(isEnd);
    expect(said(next)[0]).toBe("running");
    expect(event(next[0]).seq).toBeGreaterThan(shown.seq);
  });

  test("after a restart all that is kept comes again, the same", async () => {
    const thread_id = randomUUID();
    await using live = await api.open(path(thread_id), { body: { channels: ALL } });
    await api.post(`/threads/${thread_id}/commands`, { id: 1, method: "run.start", params: plain });
    const frames = await live.until(isEnd);
    // Two more are rolled back: one under way, whose reader is away, and one that waits behind it.
    const [under, behind] = [await slowRun(api, thread_id), await slowRun(api, thread_id)];
    const [running] = await live.until((frame) => said([frame])[0] === "running");
    await api.http.post(`/threads/${thread_id}/runs/${behind}/cancel?action=rollback&wait=1`);
    live.close();
    await api.http.post(`/threads/${thread_id}/runs/${under}/cancel?action=rollback&wait=1`);
    const awayFrom = async (of: string, since: number, ends: number): Promise<string[]> => {
      await using back = await api.open(path(of), { body: { channels: ["lifecycle"], since } });
      const told: Frame[] = [];
      while (told.length < ends) told.push(...(await back.until(isEnd)).filter(isEnd));
      return told.map((frame) => event(frame).event_id.split(":")[1]);
    };
    const seen = event(running).seq;
    expect(await awayFrom(thread_id, seen, 2)).toEqual([under, behind]);
    // So is one that REST made before anybody read the events of its thread, and one that is deleted when it has ended.
    const unread = await api.thread();
    const slow = { assistant_id: "slow", input: { gate: "/nowhere" } };
    const early: string[] = [];
    const began: number[] = [];
    for (const action of ["rollback", "interrupt"]) {
      early.push((await api.post(`/threads/${unread}/runs`, slow)).run_id);
      await using reader = await api.open(path(unread), { body: { channels: ["lifecycle"], since: began.at(-1) } });
      const from = await reader.until((frame) => event(frame).event_id.includes(early.at(-1)) && !isEnd(frame));
      began.push(event(from.at(-1)).seq);
      reader.close();
      await api.http.post(`/threads/${unread}/runs/${early.at(-1)}/cancel?action=${action}&wait=1`);
    }
    await api.http.delete(`/threads/${unread}/runs/${early[1]}`);
    expect(await awayFrom(unread, began[0] ?? 0, 2)).toEqual(early);
    await api.server.restart("SIGKILL");
    expect(await awayFrom(thread_id, seen, 2)).toEqual([under, behind]);
    expect(await awayFrom(unread, began[0] ?? 0, 2)).toEqual(early);
    for (const run_id of [under, behind]) {
      expect((await api.http.get(`/threads/${thread_id}/runs/${run_id}/stream`)).status).toBe(404);
    }
    await using again = await api.open(path(thread_id), { body: { channels: ALL } });
    expect((await again.until(isEnd)).map(({ data }) => data)).toEqual(frames.map(({ data }) => data));
    expect(said([...(await again.until(isEnd)), ...(await again.until(isEnd))])).toEqual([
      "interrupted",
      "interrupted",
    ]);
    await using rest = await api.open(path(thread_id), { body: { channels: ALL, since: event(frames[3]).seq } });
    expect((await rest.until(isEnd)).map(({ data }) => data)).toEqual(frames.slice(4).map(({ data }) => data));
  });
});

test("what an attempt was saying when it was killed is ended before the next begins", async () => {
  const thread_id = randomUUID();
  await using live = await api.open(path(thread_id), { body: { channels: ["messages"] } });
  const params = {
    assistant_id: "team",
    input: { messages: [{ role: "user", content: "hello" }] },
    config: { configurable: { delay_ms: 50 } },
  };
  await api.post(`/threads/${thread_id}/commands`, { id: 1, method: "run.start", params });
  await live.until((frame) => event(frame).params.data.event === "content-block-delta");
  await api.server.restart("SIGKILL");
  await using again = await api.open(path(thread_id), { body: { channels: ["messages", "lifecycle"] } });
  const told = (await again.until(isEnd)).map((frame) => event(frame).params);
  const [, second] = told.flatMap(({ namespace, data }, at) =>
    namespace.length === 0 && data.event === "running" ? [at] : [],
  );
  const cut = told.slice(0, second);
  expect(cut.slice(-3).map(({ data }) => [data.event, data.graph_name])).toEqual([
    ["error", undefined],
    ["interrupted", "agent"],
    ["interrupted", "desk"],
  ]);
  const [begun] = cut.filter(({ data }) => data.event === "message-start");
  expect(cut.at(-3)).toMatchObject({ namespace: begun.namespace, data: { id: begun.data.id } });
});
