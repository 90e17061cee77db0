/**
 * Streaming v2 beside v1: the same graphs on one server, told over each transport in turn, so that a noisy machine hits all alike.
 * Then what a connection costs that only waits. Ratios are to v1's plain stream.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { Agent, request } from "undici";
import { WebSocket } from "ws";
import { median } from "./loads.mjs";
import { cpuMs, residentMb, startServer } from "./processes.mjs";

const TOKENS = 2_000;
const ROUNDS = { warmUp: 3, measured: 7 };
const IDLE = { sse: 5_000, websocket: 2_000, ms: 30_000, settleMs: 2_000 };
const OPENED_AT_ONCE = 100;

/** Rows `{ label, unit, value }` for the report. */
export async function protocol() {
  const rows = [];
  const server = await startServer();
  const dispatcher = new Agent({ bodyTimeout: 0, headersTimeout: 120_000, connections: null });
  try {
    const results = Object.fromEntries(WAYS.map(({ name }) => [name, []]));
    for (let round = 0; round < ROUNDS.warmUp + ROUNDS.measured; round++) {
      for (const { name, run } of WAYS) {
        const result = await run(server.url, dispatcher);
        if (round >= ROUNDS.warmUp) results[name].push(result);
      }
    }
    const base = median(results.v1.map(({ rate }) => rate));
    for (const [name, runs] of Object.entries(results)) {
      const rate = median(runs.map((run) => run.rate));
      rows.push({ label: `${name}: tokens`, unit: "1/s", value: rate });
      rows.push({ label: `${name}: tokens, to v1`, unit: "ratio", value: rate / base });
      rows.push({ label: `${name}: first event`, unit: "ms", value: median(runs.map((run) => run.firstMs)) });
      rows.push({ label: `${name}: first token`, unit: "ms", value: median(runs.map((run) => run.tokenMs)) });
    }
  } finally {
    await dispatcher.destroy();
    await server.stop();
  }
  for (const [label, open, count, threads] of [
    ["SSE, each on its thread", openSse, IDLE.sse, IDLE.sse],
    ["SSE, all on one thread", openSse, IDLE.sse, 1],
    ["WebSocket, each on its thread", openSocket, IDLE.websocket, IDLE.websocket],
  ]) {
    rows.push(...(await idle(label, open, count, threads)));
  }
  return rows;
}

const input = { messages: [{ role: "user", content: "talk" }], tokens: TOKENS };
const CHANNELS = ["lifecycle", "messages", "values"];
const ENDS = new Set(["completed", "failed", "interrupted"]);

/** Times of one stream: `sees` is told each event and says `token`, `end` or nothing. */
function meter() {
  const began = performance.now();
  let firstMs;
  let tokenMs;
  let tokens = 0;
  return {
    sees(kind) {
      firstMs ??= performance.now() - began;
      if (kind !== "token") return;
      tokenMs ??= performance.now() - began;
      tokens += 1;
    },
    result() {
      if (tokens < TOKENS) throw new Error(`${tokens} of ${TOKENS} tokens came`);
      return { firstMs, tokenMs, rate: (tokens / (performance.now() - began - tokenMs)) * 1_000 };
    },
  };
}

const kindOfEvent = ({ method, params: { namespace, data } }) => {
  if (method === "messages") return data.event === "content-block-delta" ? "token" : undefined;
  return method === "lifecycle" && namespace.length === 0 && ENDS.has(data.event) ? "end" : undefined;
};

async function post(url, path, body, dispatcher) {
  const headers = { "content-type": "application/json" };
  const answer = await request(url + path, { dispatcher, method: "POST", headers, body: JSON.stringify(body) });
  if (answer.statusCode !== 200) throw new Error(`${path} answered ${answer.statusCode}: ${await answer.body.text()}`);
  return answer.body;
}

/** Frames of an SSE body as `[event, data text]`. */
async function* frames(body) {
  let rest = "";
  body.setEncoding("utf8");
  for await (const chunk of body) {
    const parts = (rest + chunk).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const [, event, data] = /event: (.*)\ndata: (.*)/.exec(part) ?? [];
      if (event !== undefined) yield [event, data];
    }
  }
}

const overV1 = (stream_resumable) => async (url, dispatcher) => {
  const times = meter();
  const body = { assistant_id: "tokens", input, stream_mode: ["messages-tuple", "values"], stream_resumable };
  const thread_id = randomUUID();
  const asked = { ...body, if_not_exists: "create" };
  for await (const [event, data] of frames(await post(url, `/threads/${thread_id}/runs/stream`, asked, dispatcher))) {
    if (event === "error") throw new Error(data);
    JSON.parse(data);
    times.sees(event === "messages" ? "token" : undefined);
  }
  return times.result();
};

async function overSse(url, dispatcher) {
  const thread_id = randomUUID();
  const body = await post(url, `/threads/${thread_id}/stream/events`, { channels: CHANNELS }, dispatcher);
  const times = meter();
  const command = { id: 1, method: "run.start", params: { assistant_id: "tokens", input } };
  const started = post(url, `/threads/${thread_id}/commands`, command, dispatcher).then((answer) => answer.dump());
  for await (const [, data] of frames(body)) {
    const kind = kindOfEvent(JSON.parse(data));
    times.sees(kind);
    if (kind === "end") break;
  }
  await started;
  return times.result();
}

async function overWebSocket(url) {
  const socket = await openSocket(url, randomUUID());
  const times = meter();
  const ended = new Promise((resolve, reject) => {
    socket.on("message", (text) => {
      const frame = JSON.parse(text);
      if (frame.type === "error") reject(new Error(frame.message));
      if (frame.type !== "event") return;
      const kind = kindOfEvent(frame);
      times.sees(kind);
      if (kind === "end") resolve();
    });
    socket.once("close", () => reject(new Error("the WebSocket was closed")));
  });
  socket.send(JSON.stringify({ id: 2, method: "run.start", params: { assistant_id: "tokens", input } }));
  await ended;
  const result = times.result();
  socket.terminate();
  return result;
}

const WAYS = [
  { name: "v1", run: overV1(false) },
  { name: "v1, resumable", run: overV1(true) },
  { name: "v2 over SSE", run: overSse },
  { name: "v2 over WebSocket", run: overWebSocket },
];

/* ---------------------------------------------------------------------------- idle connections */

/** Resolves when its subscription is answered. */
async function openSocket(url, thread_id) {
  const socket = new WebSocket(`${url.replace("http", "ws")}/threads/${thread_id}/stream/events`);
  socket.on("error", () => undefined);
  await new Promise((resolve, reject) => socket.once("open", resolve).once("close", reject));
  const answered = new Promise((resolve) => socket.once("message", resolve));
  socket.send(JSON.stringify({ id: 1, method: "subscription.subscribe", params: { channels: CHANNELS } }));
  await answered;
  return socket;
}

async function openSse(url, thread_id, dispatcher) {
  const body = await post(url, `/threads/${thread_id}/stream/events`, { channels: CHANNELS }, dispatcher);
  body.on("error", () => undefined).resume();
  return body;
}

async function idle(label, open, count, threads) {
  const server = await startServer();
  const dispatcher = new Agent({ bodyTimeout: 0, headersTimeout: 120_000, connections: null });
  const ids = Array.from({ length: threads }, () => randomUUID());
  try {
    // The first ones grow heaps and compile code.
    const openMany = async (from, to) => {
      for (let at = from; at < to; at += OPENED_AT_ONCE) {
        const lot = Array.from({ length: Math.min(OPENED_AT_ONCE, to - at) }, (_, n) => ids[(at + n) % threads]);
        await Promise.all(lot.map((id) => open(server.url, id, dispatcher)));
      }
    };
    const warm = Math.floor(count / 10);
    await openMany(0, warm);
    await delay(IDLE.settleMs);
    const before = residentMb(server.pid);
    await openMany(warm, count);
    await delay(IDLE.settleMs);
    const kilobytes = ((residentMb(server.pid) - before) * 1_024) / (count - warm);
    const cpu = cpuMs(server.pid);
    await delay(IDLE.ms);
    const share = ((cpuMs(server.pid) - cpu) / IDLE.ms) * 100;
    return [
      { label: `${label} (${count.toLocaleString("en-US")}): memory of one`, unit: "KB", value: kilobytes },
      { label: `${label} (${count.toLocaleString("en-US")}): CPU of all`, unit: "%", value: share },
    ];
  } finally {
    await dispatcher.destroy();
    await server.stop();
  }
}
