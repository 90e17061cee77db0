/** Loads that only several processes on one database have: all over HTTP, against the process that serves clients. */
import { randomUUID } from "node:crypto";
import { Agent, request } from "undici";
import { expect, quantile } from "./loads.mjs";

const CLIENTS = 32;
const REQUESTS_MS = { warmUp: 500, measured: 2_000 };
const STARTS = { warmUp: 50, measured: 300 };
const EVENTS = 100;
const EVENT_STREAMS = { warmUp: 1, measured: 3 };
const THREADS = 64;

/** The clock of `graphs/clock.mjs`. */
const now = () => Number(process.hrtime.bigint()) / 1e6;

export function client(url) {
  const dispatcher = new Agent({ headersTimeout: 120_000, bodyTimeout: 120_000 });
  const call = async (method, path, body) => {
    const answer = await request(url + path, {
      dispatcher,
      method,
      headers: { "content-type": "application/json" },
      ...(body && { body: JSON.stringify(body) }),
    });
    if (answer.statusCode === 200) return answer.body;
    throw new Error(`${method} ${path} answered ${answer.statusCode}: ${await answer.body.text()}`);
  };
  return {
    stream: (path, body) => call("POST", path, body),
    post: async (path, body) => (await call("POST", path, body)).json(),
    get: async (path) => (await call("GET", path)).json(),
    close: () => dispatcher.close(),
  };
}

/** From sending the request until the first node runs, wherever that is: milliseconds. */
export async function starts(api) {
  const one = async () => {
    const sent = now();
    const { at } = await api.post("/runs/wait", { assistant_id: "clock", input: { events: 0 } });
    return at - sent;
  };
  const times = await repeated(STARTS, one);
  return { p50: quantile(times, 0.5), p95: quantile(times, 0.95), runs: STARTS.measured };
}

/** From a node's writing of an event until a client of the serving process has it: milliseconds. */
export async function eventDelays(api) {
  const one = async () => {
    const body = { assistant_id: "clock", input: { events: EVENTS }, stream_mode: ["custom"] };
    const delays = [];
    for await (const chunk of await api.stream("/runs/stream", body)) {
      const seen = now();
      for (const [, at] of chunk.toString().matchAll(/^data: \{"at":([\d.]+)\}/gm)) delays.push(seen - Number(at));
    }
    expect(delays.length === EVENTS, `a stream of ${EVENTS} events had ${delays.length}`);
    return delays;
  };
  const all = (await repeated(EVENT_STREAMS, one)).flat();
  return { p50: quantile(all, 0.5), p95: quantile(all, 0.95), events: all.length };
}

async function repeated({ warmUp, measured }, one) {
  const results = [];
  for (let index = -warmUp; index < measured; index++) {
    const result = await one();
    if (index >= 0) results.push(result);
  }
  return results;
}

export const createThread = (api) => api.post("/threads", { metadata: { user: randomUUID().slice(0, 3) } });

/** Threads with a state of ten checkpoints. */
export async function threadsWithState(api) {
  return Promise.all(
    Array.from({ length: THREADS }, async () => {
      const { thread_id } = await createThread(api);
      const body = { assistant_id: "steps", input: { steps: 8 }, config: { recursion_limit: 20 } };
      await api.post(`/threads/${thread_id}/runs/wait`, body);
      return thread_id;
    }),
  );
}

export async function readState(api, threads) {
  const { values } = await api.get(`/threads/${threads[Math.floor(Math.random() * threads.length)]}/state`);
  expect(values.count === 8, `a state counted ${values.count}, not 8`);
}

/** Of 32 clients that never pause. */
export async function rateOf(work, ms) {
  const started = performance.now();
  let requests = 0;
  const loop = async () => {
    while (performance.now() - started < ms) {
      await work();
      requests++;
    }
  };
  await Promise.all(Array.from({ length: CLIENTS }, loop));
  return { rate: (requests * 1_000) / (performance.now() - started), requests };
}

export async function requestRate(work, measured) {
  await rateOf(work, REQUESTS_MS.warmUp);
  return measured(() => rateOf(work, REQUESTS_MS.measured));
}

/** So many streams of runs that wait; resolves when all have begun. `end` resolves when all have ended well. */
export async function holdStreams(api, count, ms) {
  const streams = Array.from({ length: count }, async () => {
    const body = await api.stream("/runs/stream", { assistant_id: "hold", input: { ms }, stream_mode: ["values"] });
    const chunks = [];
    let begun;
    const first = new Promise((resolve) => {
      begun = resolve;
    });
    const ended = (async () => {
      for await (const chunk of body) {
        chunks.push(chunk);
        begun();
      }
      const text = Buffer.concat(chunks).toString();
      expect((text.match(/^event: values$/gm) ?? []).length === 2, `a held stream ended with ${text.slice(-200)}`);
    })();
    ended.catch(() => undefined);
    await Promise.race([first, ended]);
    // In an object: a promise alone would be waited for.
    return { ended };
  });
  const held = await Promise.all(streams);
  return { end: () => Promise.all(held.map(({ ended }) => ended)) };
}
