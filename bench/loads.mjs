/**
 * The loads, written once and put on both targets: the server over HTTP and the graphs in-process.
 *
 * A target has `stream(graph, input, { mode })` → { ms, firstMs, events }, by its own clock from the request to the last byte, and `invoke(graph, input, options)` → values; both
 * reject when the run fails. A load warms up, then measures and returns plain numbers, `turns` times, if it says so.
 */
const TOKENS = 2_000;
const CLIENTS = 32;
const HELD = 500;
const STEPS = 60;

/** Each kept small enough that three rounds of all of them stay under three minutes. */
const LATENCY_RUNS = { warmUp: 200, measured: 150 };
const THROUGHPUT_MS = { warmUp: 700, measured: 1_000 };
const TOKEN_STREAMS = { warmUp: 20, measured: 3 };
const STEP_RUNS = { warmUp: 4, measured: 8 };
/** The first hold only opens connections and compiles code. */
const HOLD_MS = { warmUp: 100, measured: 1_000 };

export const loads = {
  latency: {
    turns: 5,
    warmUp: (target) => streamOneByOne(target, LATENCY_RUNS.warmUp),
    measure: async (target) => {
      const runs = await streamOneByOne(target, LATENCY_RUNS.measured);
      const whole = runs.map(({ ms }) => ms);
      const first = runs.map(({ firstMs }) => firstMs);
      return { p50: quantile(whole, 0.5), p95: quantile(whole, 0.95), first: quantile(first, 0.5), runs: runs.length };
    },
  },
  throughput: {
    turns: 2,
    warmUp: (target) => runsPerSecond(target, THROUGHPUT_MS.warmUp),
    measure: (target) => runsPerSecond(target, THROUGHPUT_MS.measured),
  },
  tokens: {
    turns: 5,
    warmUp: (target) => tokenRates(target, TOKEN_STREAMS.warmUp),
    measure: async (target) => ({
      rate: median(await tokenRates(target, TOKEN_STREAMS.measured)),
      events: TOKEN_STREAMS.measured * TOKENS,
    }),
  },
  held: {
    warmUp: (target) => holdAll(target, HOLD_MS.warmUp),
    measure: (target) => holdAll(target, HOLD_MS.measured),
  },
  steps: {
    warmUp: async (target) => {
      await stepTimes(target, "async", STEP_RUNS.warmUp);
      await stepTimes(target, "sync", STEP_RUNS.warmUp);
    },
    measure: async (target) => ({
      async: median(await stepTimes(target, "async", STEP_RUNS.measured)),
      sync: median(await stepTimes(target, "sync", STEP_RUNS.measured)),
      supersteps: 2 * STEP_RUNS.measured * STEPS,
    }),
  },
};

async function streamOneByOne(target, count) {
  const runs = [];
  for (let index = 0; index < count; index++) {
    const { ms, firstMs, events } = await target.stream("two-nodes", { value: index }, { mode: "values" });
    // The input's values and one per node: a fast stream that lost an event must not count.
    expect(events === 3, `a stream of two-nodes had ${events} values events, not 3`);
    runs.push({ ms, firstMs });
  }
  return runs;
}

async function runsPerSecond(target, ms) {
  const started = performance.now();
  let runs = 0;
  const client = async () => {
    while (performance.now() - started < ms) {
      const { value } = await target.invoke("two-nodes", { value: 1 });
      expect(value === 4, `two-nodes answered ${value}, not 4`);
      runs++;
    }
  };
  await Promise.all(Array.from({ length: CLIENTS }, client));
  return { rate: (runs * 1_000) / (performance.now() - started), runs };
}

async function tokenRates(target, count) {
  const rates = [];
  for (let index = 0; index < count; index++) {
    const input = { messages: [{ role: "user", content: "Talk." }], tokens: TOKENS };
    const { ms, events } = await target.stream("tokens", input, { mode: "messages" });
    expect(events >= TOKENS, `a stream of ${TOKENS} tokens had ${events} messages events`);
    rates.push((TOKENS * 1_000) / ms);
  }
  return rates;
}

async function holdAll(target, holdMs) {
  const { ms, value: streams } = await timed(() =>
    Promise.allSettled(
      Array.from({ length: HELD }, async () => {
        const { events } = await target.stream("hold", { ms: holdMs }, { mode: "values" });
        expect(events === 2, `a held stream had ${events} values events, not 2`);
      }),
    ),
  );
  const failed = streams.filter(({ status }) => status === "rejected");
  return { ms, runs: HELD, failures: failed.length, firstFailure: failed[0] && String(failed[0].reason) };
}

async function stepTimes(target, durability, count) {
  const times = [];
  for (let index = 0; index < count; index++) {
    const { ms, value } = await timed(() =>
      target.invoke("steps", { steps: STEPS }, { durability, recursionLimit: STEPS + 10, kept: true }),
    );
    expect(value.count === STEPS, `a run of ${STEPS} steps counted to ${value.count}`);
    times.push(ms / STEPS);
  }
  return times;
}

export async function timed(action) {
  const started = performance.now();
  const value = await action();
  return { ms: performance.now() - started, value };
}

export function expect(condition, message) {
  if (!condition) throw new Error(message);
}

export function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
