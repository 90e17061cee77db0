/** The stream itself: headers, framing, ids, heartbeats, errors, its end, and how many may read it. */
import { request } from "node:http";
import { describe, expect, test } from "vitest";
import { eventually } from "../support/server.ts";
import { type Any, type Api, Gate, ids, json, names, numbers, useServer, useTempDir } from "./support.ts";

const api = useServer();
const temp = useTempDir();
const plain = { assistant_id: "plain", input: { value: 1 } };

/** The bytes of an answer, as they are, until `done` says so or the server ends it. */
function bytes(path: string, body: unknown, done: (text: string) => boolean = () => false): Promise<string> {
  return new Promise((resolve, reject) => {
    const method = body === undefined ? "GET" : "POST";
    const call = request(`${api.url}${path}`, {
      method,
      agent: false,
      headers: { "content-type": "application/json" },
    });
    call.on("error", reject);
    call.on("response", (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => {
        text += chunk;
        if (!done(text)) return;
        resolve(text);
        response.destroy();
      });
      response.on("end", () => resolve(text));
      response.on("error", reject);
    });
    call.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

const heartbeats = (count: number) => (text: string) => text.split(": heartbeat\n").length > count;

describe("headers", () => {
  test("Content-Location is the run, Location reconnects, and browsers may read both", async () => {
    const thread_id = await api.thread();
    for (const base of ["", `/threads/${thread_id}`]) {
      const stream = await api.open(`${base}/runs/stream`, { body: plain, headers: { origin: "https://app.example" } });
      const { run_id } = json(await stream.next());
      const frames = await stream.rest();
      expect(stream.headers).toMatchObject({
        "content-type": expect.stringContaining("text/event-stream"),
        "cache-control": expect.stringContaining("no-cache"),
        "content-location": `${base}/runs/${run_id}`,
        location: `${base}/runs/${run_id}/stream`,
        "access-control-allow-origin": "*",
      });
      const exposed = String(stream.headers["access-control-expose-headers"]).toLowerCase().split(/,\s*/);
      expect(exposed).toEqual(expect.arrayContaining(["content-location", "location"]));
      const again = await api.frames(String(stream.headers.location), { lastEventId: "0" });
      expect(again.map(({ raw }) => raw)).toEqual(frames.map(({ raw }) => raw));
    }
  });

  test("wait, background and batch name the run too", async () => {
    const waited = await api.http.post("/runs/wait", plain);
    expect(waited.headers.get("content-location")).toMatch(/^\/runs\/[0-9a-f-]{36}$/);
    expect(waited.headers.get("location")).toBe(`${waited.headers.get("content-location")}/join`);
    const started = await api.http.post("/runs", plain);
    expect(started.headers.get("content-location")).toBe(`/runs/${started.body.run_id}`);
    const thread_id = await api.thread();
    const onThread = await api.http.post(`/threads/${thread_id}/runs`, plain);
    expect(onThread.headers.get("content-location")).toBe(`/threads/${thread_id}/runs/${onThread.body.run_id}`);
  });

  test("a browser's preflight is answered", async () => {
    const headers = { origin: "https://app.example", "access-control-request-method": "POST" };
    const preflight = await fetch(`${api.url}/runs/stream`, { method: "OPTIONS", headers });
    expect(preflight.status).toBe(204);
    expect(preflight.headers.get("access-control-allow-methods")).toContain("POST");
  });
});

describe("framing", () => {
  test("metadata first; each event has its index as id and its data on one line", async () => {
    const input = { messages: [{ role: "user", content: 'line one\nline two\r\n"quoted" \u2028 é 🙂' }] };
    const stream_mode = ["values", "messages", "messages-tuple", "debug", "events"];
    const text = await bytes("/runs/stream", { assistant_id: "chat", input, stream_mode });
    const blocks = text.split("\n\n");
    expect(blocks.pop()).toBe("");
    expect(text).not.toContain("\r");
    for (const [index, block] of blocks.entries()) {
      expect(block).toMatch(new RegExp(`^event: [^\\n]+\\ndata: [^\\n]+\\nid: ${index}$`));
      JSON.parse(/\ndata: ([^\n]*)\n/.exec(block)?.[1] ?? "");
    }
    expect(blocks[0]).toMatch(/^event: metadata\ndata: \{"run_id":"[0-9a-f-]{36}","attempt":1\}\nid: 0$/);
  });

  test("no end frame: the stream just ends", async () => {
    const stream = await api.open("/runs/stream", { body: plain });
    expect(names(await stream.rest())).toEqual(["metadata", "values", "values", "values"]);
    expect(stream.complete).toBe(true);
  });

  test("events come as they happen, not at the end", async () => {
    const gate = new Gate(temp.dir, "live");
    const body = { assistant_id: "slow", input: gate.input, stream_mode: "updates" };
    const stream = await api.open("/runs/stream", { body });
    for (const [step, name] of ["one", "two", "three"].entries()) {
      gate.open(step + 1);
      const [frame] = (await stream.until(({ event }) => event === "updates")).slice(-1);
      expect(Object.keys(json(frame))).toEqual([name]);
    }
    expect(await stream.rest()).toEqual([]);
  });
});

describe("errors", () => {
  test("the error's own name and message, last, as an object", async () => {
    const frames = await api.stream({ assistant_id: "error", input: { value: "x" }, stream_mode: "updates" });
    expect(names(frames)).toEqual(["metadata", "updates", "error"]);
    expect(frames.at(-1)?.raw).toBe('event: error\ndata: {"error":"TypeError","message":"kaboom"}\nid: 2');
  });

  test("wait and join say the same", async () => {
    const error = { __error__: { error: "TypeError", message: "kaboom" } };
    expect(await api.wait({ assistant_id: "error", input: {} })).toEqual(error);
    const { path } = await api.background({ assistant_id: "error", input: {} });
    expect(await api.get(`${path}/join`)).toEqual(error);
    expect(await api.get(`${path}/join`)).toEqual(error);
  });

  test("a joiner that asked for other modes still gets it", async () => {
    const { path } = await api.background({ assistant_id: "error", input: {}, stream_mode: "values" });
    expect(names(await api.frames(`${path}/stream?stream_mode=updates`))).toEqual(["metadata", "error"]);
  });
});

describe("heartbeats", () => {
  const quiet = async (name: string, extra = {}): Promise<[string, Gate]> => {
    const gate = new Gate(temp.dir, name);
    return [JSON.stringify({ assistant_id: "slow", input: gate.input, stream_mode: "updates", ...extra }), gate];
  };
  const parsed = (body: string): unknown => JSON.parse(body);

  test.concurrent("every five seconds of silence, without a blank line", async () => {
    const [body, gate] = await quiet("quiet");
    const start = performance.now();
    let beat = 0;
    const text = await bytes("/runs/stream", parsed(body), (sofar) => {
      if (beat === 0 && heartbeats(1)(sofar)) {
        beat = performance.now() - start;
        gate.openAll();
      }
      return false;
    });
    expect(beat).toBeGreaterThan(4500);
    expect(beat).toBeLessThan(7500);
    expect(text).toMatch(/^event: metadata\n.*\nid: 0\n\n: heartbeat\nevent: updates\n/);
    expect(text.replaceAll(": heartbeat\n", "")).not.toContain("heartbeat");
  });

  test.concurrent("while the run waits for its time: in the first second, then every five", async () => {
    const [body] = await quiet("later", { after_seconds: 600, on_disconnect: "cancel" });
    const times: number[] = [performance.now()];
    const text = await bytes("/runs/stream", parsed(body), (sofar) => {
      if (heartbeats(times.length)(sofar)) times.push(performance.now());
      return times.length === 3;
    });
    expect(text).toBe(": heartbeat\n: heartbeat\n");
    const [start = 0, first = 0, second = 0] = times;
    expect(first - start).toBeLessThan(3000);
    expect(second - first).toBeGreaterThan(3500);
    expect(second - first).toBeLessThan(7500);
  });

  test.concurrent("while the run waits for its thread", async () => {
    const [body, gate] = await quiet("busy");
    const { path, thread_id } = await api.background(parsed(body) as Any);
    const second = bytes(`/threads/${thread_id}/runs/stream`, parsed(body), heartbeats(1));
    expect(await second).toBe(": heartbeat\n");
    gate.openAll();
    await api.get(`${path}/join`);
  });

  test.concurrent("to somebody who joins", async () => {
    const [body, gate] = await quiet("joined");
    const { path } = await api.background(parsed(body) as Any);
    expect(await bytes(`${path}/stream`, undefined, heartbeats(1))).toContain(": heartbeat\n");
    gate.openAll();
  });

  test.concurrent("wait and join keep alive by whitespace before the JSON", async () => {
    const [body, gate] = await quiet("whitespace");
    const { path } = await api.background(parsed(body) as Any);
    let opened = false;
    const text = await bytes(`${path}/join`, undefined, (sofar) => {
      expect(sofar.trim() === "" || sofar.trim().startsWith("{")).toBe(true);
      if (sofar !== "" && !opened) gate.openAll();
      opened ||= sofar !== "";
      return false;
    });
    expect(text).toMatch(/^\s+\{/);
    expect(JSON.parse(text).steps).toEqual([1, 2, 3]);
  });
});

describe("everything is settled before the last byte", () => {
  const settled = async (thread_id: string, run_id: string, run: string, thread: string): Promise<void> => {
    const [now, its] = await Promise.all([
      api.get(`/threads/${thread_id}/runs/${run_id}`),
      api.get(`/threads/${thread_id}`),
    ]);
    expect([now.status, its.status]).toEqual([run, thread]);
  };
  const CASES = [
    ["plain", "success", "idle"],
    ["error", "error", "error"],
    ["hitl", "interrupted", "interrupted"],
  ] as const;

  test.each(CASES)(
    "of %s: %s, thread %s; by stream, wait, join, and join of the stream",
    async (graph, run, thread) => {
      const body = { assistant_id: graph, input: {} };
      for (let round = 0; round < 5; round++) {
        const thread_id = await api.thread();
        const runs = `/threads/${thread_id}/runs`;
        const streamed = await api.stream(body, `${runs}/stream`);
        await settled(thread_id, json(streamed[0]).run_id, run, thread);

        const waited = await api.http.post(`${runs}/wait`, body);
        const run_id = waited.headers.get("content-location")?.split("/").at(-1) ?? "";
        await settled(thread_id, run_id, run, thread);

        const joined = await api.background(body);
        await api.get(`${joined.path}/join`);
        await settled(joined.thread_id, joined.run_id, run, thread);

        const followed = await api.background(body);
        await api.frames(`${followed.path}/stream`);
        await settled(followed.thread_id, followed.run_id, run, thread);
      }
    },
  );

  test("values and interrupts stand on the thread, and in its state", async () => {
    const thread_id = await api.thread();
    const body = { assistant_id: "hitl", input: { question: "Sure?" } };
    const { __interrupt__: asked, ...values } = await api.wait(body, `/threads/${thread_id}/runs/wait`);
    const thread = await api.get(`/threads/${thread_id}`);
    expect(thread.values).toEqual(values);
    expect(Object.values(thread.interrupts).flat()).toEqual(asked);
    const state = await api.get(`/threads/${thread_id}/state`);
    expect(state).toMatchObject({ values, next: ["ask"], tasks: [{ name: "ask", interrupts: asked }] });
    expect(state.checkpoint).toMatchObject({ thread_id, checkpoint_id: expect.any(String), checkpoint_ns: "" });
  });

  test("the next run on the thread finds it free at once", async () => {
    const thread_id = await api.thread();
    const body = { ...plain, multitask_strategy: "reject" };
    for (let round = 0; round < 10; round++) await api.stream(body, `/threads/${thread_id}/runs/stream`);
    expect((await api.get(`/threads/${thread_id}`)).values.steps).toHaveLength(20);
  });
});

describe("readers", () => {
  const openEach = (path: string, count: number, api_: Api = api) =>
    Promise.all(numbers(count).map(() => api_.open(path)));

  test("however late one joins, nothing is lost, resumable or not", async () => {
    for (const stream_resumable of [false, true]) {
      const gate = new Gate(temp.dir, `late-${stream_resumable}`);
      const body = { assistant_id: "slow", input: gate.input, stream_mode: ["values", "updates"], stream_resumable };
      const { path } = await api.background(body);
      const readers = await openEach(`${path}/stream`, 3);
      gate.open(1);
      await eventually(() => gate.log.includes("start 2"));
      readers.push(...(await openEach(`${path}/stream`, 3)));
      gate.open(2, 3);
      await api.get(`${path}/join`);
      readers.push(...(await openEach(`${path}/stream`, 3)));
      const all = await Promise.all(readers.map((reader) => reader.rest()));
      const first = all[0]?.map(({ raw }) => raw);
      expect(ids(all[0] ?? [])).toEqual(numbers(first?.length ?? 0));
      expect(names(all[0] ?? [])).toContain("metadata");
      for (const one of all) expect(one.map(({ raw }) => raw)).toEqual(first);
    }
  });

  test("one that leaves does not disturb the others, nor the run", async () => {
    const gate = new Gate(temp.dir, "leaver");
    const body = { assistant_id: "slow", input: gate.input, stream_mode: "updates" };
    const { path } = await api.background(body);
    const [leaver, stayer] = await openEach(`${path}/stream`, 2);
    await leaver?.next();
    leaver?.close();
    gate.openAll();
    expect(ids((await stayer?.rest()) ?? [])).toEqual(numbers(4));
    expect((await api.get(path)).status).toBe("success");
  });

  test("stream_mode of a joiner picks events of the run, and keeps their ids", async () => {
    const { path } = await api.background({ ...plain, stream_mode: ["values", "updates", "custom"] });
    const all = await api.frames(`${path}/stream`);
    const some = await api.frames(`${path}/stream?stream_mode=updates`);
    const wanted = all.filter(({ event }) => event === "metadata" || event === "updates");
    expect(some.map(({ raw }) => raw)).toEqual(wanted.map(({ raw }) => raw));
  });

  test("twenty joiners of a long chat each see all of it", async () => {
    const config = { configurable: { tokens: 300 } };
    const input = { messages: [{ role: "user", content: "hi" }] };
    const { path } = await api.background({ assistant_id: "chat", input, config, stream_mode: "messages-tuple" });
    const all = await Promise.all(numbers(20).map(() => api.frames(`${path}/stream`)));
    for (const frames of all) {
      expect(ids(frames)).toEqual(numbers(frames.length));
      expect(frames.length).toBeGreaterThan(300);
    }
  });

  test("a run that is not there: 404, before any stream begins", async () => {
    const nobody = "01a20228-0000-7000-8000-000000000000";
    const thread_id = await api.thread();
    for (const path of [`/runs/${nobody}`, `/threads/${thread_id}/runs/${nobody}`]) {
      for (const how of ["stream", "join"]) {
        const { status, body } = await api.http.get(`${path}/${how}`);
        expect([status, typeof body.detail]).toEqual([404, "string"]);
      }
    }
    const { run_id, path } = await api.background(plain);
    expect((await api.http.get(`/threads/${thread_id}/runs/${run_id}/stream`)).status).toBe(404);
    await api.get(`${path}/join`);
  });
});
