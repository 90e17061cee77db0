/**
 * The server on PostgreSQL and Redis: one process, and one that serves clients with two that execute runs. The loads of the
 * other sections on both, as ratios to in-process and to the embedded server of the same round; then what a run, an event, a
 * request and an idle stream cost each part (docs/scaling.md is built on these numbers).
 *
 * Counting (statements, round trips, commands) is a pass of its own on servers behind counting proxies; it is not timed.
 */
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { missing, POSTGRES, REDIS, startCluster } from "./cluster.mjs";
import { loads } from "./loads.mjs";
import { cpuMeter, findServers, perUnit, redisCommands, sum } from "./meters.mjs";
import { JOBS, residentMb, startInProcess, startServer } from "./processes.mjs";
import { printProfiles, profiled } from "./profile.mjs";
import {
  client,
  createThread,
  eventDelays,
  holdStreams,
  readState,
  requestRate,
  starts,
  threadsWithState,
} from "./shared-loads.mjs";
import { counterOf } from "./wire-counter.mjs";

const SHAPES = ["one", "split"];
const IDLE = { holdMs: 18_000, settleMs: 3_000, watchMs: 6_000 };
const SETTLE_MS = 1_000;

/** What each load is counted in. */
const UNITS = {
  latency: ({ runs }) => runs,
  throughput: ({ runs }) => runs,
  tokens: ({ events }) => events,
  held: ({ runs }) => runs,
  steps: ({ supersteps }) => supersteps,
};

/** Undefined, and said loudly, when PostgreSQL or Redis is not there. */
export async function shared({ rounds: count, profiles }) {
  const reason = await missing();
  if (reason !== undefined) {
    console.log(`\n!!! shared: SKIPPED, ${reason} (SKEIN_TEST_POSTGRES, SKEIN_TEST_REDIS say where they are)\n`);
    return undefined;
  }
  const cpu = cpuMeter(await findServers());
  const rounds = [];
  for (let index = 0; index < count; index++) {
    rounds.push(await round(index, { cpu, profiles: profiles && join(profiles, `shared-${index + 1}`) }));
  }
  if (profiles) return { rounds, costs: {}, counts: {} };
  // Once: they are no ratios, and each is the work of hundreds of requests.
  return { rounds, costs: [await eachShape((shape) => costsOf(shape, cpu))], counts: await eachShape(countsOf) };
}

async function eachShape(work) {
  const results = {};
  for (const shape of SHAPES) results[shape] = await work(shape);
  return results;
}

/* ------------------------------------------------------------------- the loads of all servers */

async function round(index, { cpu, profiles }) {
  const profile = profiles !== undefined;
  const sides = {};
  try {
    sides.inProcess = await startInProcess();
    sides.embedded = await startServer({ profile });
    for (const shape of SHAPES) sides[shape] = await startCluster(shape, { profile });
    console.log(`shared, round ${index + 1}: ${Object.keys(sides).join(", ")} are up`);
    const results = {};
    for (const load of Object.keys(loads)) results[load] = await measure(load, { sides, index, cpu, profiles });
    return results;
  } finally {
    await Promise.all(Object.values(sides).map((side) => side.stop()));
  }
}

/** Who goes first rotates, in case a load leaves the machine warm or busy. */
async function measure(load, { sides, index, cpu, profiles }) {
  const names = Object.keys(sides);
  const order = names.map((_, at) => names[(at + index) % names.length]);
  const result = {};
  for (const name of order) {
    const side = sides[name];
    await side.run(load, "warmUp");
    const run = () => metered(cpu, processesOf(side), () => side.run(load, "measure"), UNITS[load]);
    result[name] = profiles ? await withProfiles(side, join(profiles, `${load}-${name}`), run) : await run();
  }
  const text = names.map((name) => `${name} ${headline(result[name].numbers)}`);
  console.log(`  ${load}: ${text.join("   ")}`);
  return result;
}

const processesOf = ({ processes, pid }) => processes ?? { server: [pid], workers: [] };

async function metered(cpu, processes, work, unitsOf) {
  const before = cpu(processes);
  const numbers = await work();
  return { numbers, cpu: perUnit(before, cpu(processes), unitsOf(numbers)) };
}

async function withProfiles({ servers, child }, folder, run) {
  if (child.send === undefined || servers === undefined) return run();
  const nested = servers.reduceRight(
    (inner, server, at) => () => profiled(server, join(folder, String(at)), inner),
    run,
  );
  const result = await nested();
  for (const at of servers.keys()) printProfiles(`${folder}, process ${at}`, join(folder, String(at)));
  return result;
}

const headline = (numbers) =>
  Object.entries(numbers)
    .filter(([name]) => ["p50", "rate", "ms", "async", "sync", "failures"].includes(name))
    .map(([name, value]) => `${name} ${Number(value.toFixed(2))}`)
    .join(" ");

/* --------------------------------------------------------------- what only many processes have */

async function costsOf(shape, cpu) {
  const cluster = await startCluster(shape);
  const api = client(cluster.url);
  try {
    const { processes } = cluster;
    const idleMb = await memoryOf(processes);
    const requests = (work) => requestRate(work, (run) => metered(cpu, processes, run, ({ requests }) => requests));
    const idle = await idleStreams(cluster, api, cpu, idleMb);
    const threads = await threadsWithState(api);
    const result = {
      idleMb,
      idle,
      starts: await metered(
        cpu,
        processes,
        () => starts(api),
        ({ runs }) => runs,
      ),
      eventDelays: await metered(
        cpu,
        processes,
        () => eventDelays(api),
        ({ events }) => events,
      ),
      createThread: await requests(() => createThread(api)),
      readState: await requests(() => readState(api, threads)),
    };
    console.log(
      `costs, ${shape}: start ${result.starts.numbers.p50.toFixed(2)} ms, event ${result.eventDelays.numbers.p50.toFixed(2)} ms, POST /threads ${result.createThread.numbers.rate.toFixed(0)}/s, state ${result.readState.numbers.rate.toFixed(0)}/s`,
    );
    return result;
  } finally {
    await api.close();
    await cluster.stop();
  }
}

async function memoryOf({ server, workers }) {
  await delay(SETTLE_MS);
  return { server: sum(server.map(residentMb)), workers: sum(workers.map(residentMb)) };
}

/** Streams of runs that wait: what they cost while nothing happens. Their memory is what the processes have grown since they started, warm code included. */
async function idleStreams({ processes, database }, api, cpu, idleMb) {
  // As many as can be executed at once.
  const streams = JOBS * Math.max(processes.workers.length, 1);
  const quiet = await metered(
    cpu,
    processes,
    () => delay(IDLE.watchMs),
    () => IDLE.watchMs / 1_000,
  );
  const held = await holdStreams(api, streams, IDLE.holdMs);
  await delay(IDLE.settleMs);
  const busy = await metered(
    cpu,
    processes,
    () => delay(IDLE.watchMs),
    () => IDLE.watchMs / 1_000,
  );
  const during = await memoryOf(processes);
  const redisBytes = await database.redisBytes();
  await held.end();
  const perStream = (part) => ((during[part] - idleMb[part]) * 1_024) / streams;
  return {
    streams,
    kb: { server: perStream("server"), workers: perStream("workers"), redis: redisBytes / 1_024 / streams },
    quiet: quiet.cpu,
    cpuPerThousand: perUnit(quiet.cpu, busy.cpu, streams / 1_000),
  };
}

/* ----------------------------------------------------------------------------------- counting */

const COUNTED = { runs: 200, requests: 200, idleMs: 5_000 };

async function countsOf(shape) {
  const [postgres, redis] = [await counterOf(POSTGRES), await counterOf(REDIS)];
  const cluster = await startCluster(shape, { through: { postgres: postgres.uri, redis: redis.uri } });
  const api = client(cluster.url);
  try {
    const threads = await threadsWithState(api);
    const turned = await threadsWithState(api);
    const wait = (assistant_id, input, more = {}) => api.post("/runs/wait", { assistant_id, input, ...more });
    const streamed = async (assistant_id, input, mode) => {
      for await (const _ of await api.stream("/runs/stream", { assistant_id, input, stream_mode: [mode] }));
    };
    const kept = async (durability) => {
      const { thread_id } = await createThread(api);
      const config = { recursion_limit: 70 };
      await api.post(`/threads/${thread_id}/runs/wait`, {
        assistant_id: "steps",
        input: { steps: 60 },
        config,
        durability,
      });
    };
    const oneByOne = (count, work) => async () => {
      for (let index = 0; index < count; index++) await work(index);
    };
    const atOnce = (count, work) => async () => {
      const left = Array.from({ length: count }, (_, index) => index);
      const loop = async () => {
        while (left.length > 0) await work(left.pop());
      };
      await Promise.all(Array.from({ length: 32 }, loop));
    };
    const tokens = () =>
      streamed("tokens", { messages: [{ role: "user", content: "Talk." }], tokens: 2_000 }, "messages-tuple");
    const turn = (index) =>
      api.post(`/threads/${turned[index % turned.length]}/runs/wait`, {
        assistant_id: "steps",
        input: { steps: 2, count: 0 },
      });
    const counted = [
      [
        "stateless run, one by one",
        COUNTED.runs,
        oneByOne(COUNTED.runs, (n) => streamed("two-nodes", { value: n }, "values")),
      ],
      ["stateless run, 32 at once", COUNTED.runs, atOnce(COUNTED.runs, (n) => wait("two-nodes", { value: n }))],
      ["run on a thread, one by one", COUNTED.runs, oneByOne(COUNTED.runs, turn)],
      ["token", 2 * 2_000, oneByOne(2, tokens)],
      ["superstep, async", 2 * 60, oneByOne(2, () => kept("async"))],
      ["superstep, sync", 2 * 60, oneByOne(2, () => kept("sync"))],
      ["POST /threads", COUNTED.requests, oneByOne(COUNTED.requests, () => createThread(api))],
      ["GET /threads/{id}/state", COUNTED.requests, oneByOne(COUNTED.requests, () => readState(api, threads))],
      ["second with nothing to do", COUNTED.idleMs / 1_000, () => delay(COUNTED.idleMs)],
      [
        "second with 100 idle streams",
        COUNTED.idleMs / 1_000,
        () => delay(COUNTED.idleMs),
        () => holdStreams(api, 100, COUNTED.idleMs + 3_000),
      ],
    ];
    const results = {};
    for (const [name, units, work, prepare] of counted) {
      const held = await prepare?.();
      if (!held) await work();
      results[name] = await countedFor(units, work, { postgres, redis });
      await held?.end();
    }
    const connections = { postgres: postgres.counts.connections, redis: redis.counts.connections };
    return { results, connections };
  } finally {
    await api.close();
    await cluster.stop();
    postgres.close();
    redis.close();
  }
}

/** The counters of Redis itself also know what scripts do; they are of all its clients. */
async function countedFor(units, work, counters) {
  const before = { postgres: copy(counters.postgres), redis: copy(counters.redis), inside: await redisCommands() };
  await work();
  // What nobody waits for (ends of logs, expiries) belongs to it too.
  await delay(200);
  const inside = await redisCommands();
  return {
    units,
    postgres: difference(before.postgres, counters.postgres.counts, units),
    redis: difference(before.redis, counters.redis.counts, units),
    redisInside: perUnitOf(before.inside, inside, units),
  };
}

const copy = ({ counts }) => ({ ...counts, byText: new Map(counts.byText) });

function difference(before, after, units) {
  const per = (name) => (after[name] - before[name]) / units;
  const texts = perUnitOf(Object.fromEntries(before.byText), Object.fromEntries(after.byText), units);
  return {
    calls: per("calls"),
    roundTrips: per("roundTrips"),
    bytes: per("bytes"),
    bytesBack: per("bytesBack"),
    texts,
  };
}

/** What was counted more than nearly never, most first. */
function perUnitOf(before, after, units) {
  const all = Object.entries(after).map(([name, calls]) => [name, (calls - (before[name] ?? 0)) / units]);
  return Object.fromEntries(all.filter(([, calls]) => calls > 0).sort(([, a], [, b]) => b - a));
}
