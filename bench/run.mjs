/**
 * `npm run bench`: what does it cost that a graph is served? The built server against the same graphs called in-process
 * with LangGraph's MemorySaver. See docs/benchmarks.md.
 *
 * A round is a fresh server and a fresh in-process program. They are measured in turns, one right after the other while the
 * other is idle: a noisy machine hits both. Each number is the median of the rounds, and of a round that of its turns.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { loads } from "./loads.mjs";
import { cpuMs, JOBS, residentMb, startInProcess, startServer, tempFolder } from "./processes.mjs";
import { printProfiles, profiled } from "./profile.mjs";
import { protocol } from "./protocol.mjs";
import { plainTableOf, rowsOf, scaleTableOf, tableOf } from "./report.mjs";
import { scale } from "./scale.mjs";
import { shared } from "./shared.mjs";
import { sharedTablesOf } from "./shared-report.mjs";

const SIDES = ["server", "inProcess"];
const SECTIONS = [...Object.keys(loads), "memory", "start", "scale", "shared", "v2"];
/** After the start, until memory counts as idle. */
const SETTLE_MS = 1_000;

const USAGE = `npm run bench -- [options]
  --only ${SECTIONS.join(",")}
  --rounds <n>     default 3; 1 with --profile
  --json <file>    the numbers, all rounds
  --profile        CPU profiles of each load, all threads: top functions by self time
  --profiles <dir> keep the .cpuprofile files there (implies --profile)`;

try {
  const options = readOptions();
  if (options === undefined) console.log(USAGE);
  else await bench(options);
} catch (error) {
  console.error(`bench: ${error.message}`);
  process.exitCode = 1;
}
// Keep-alive connections would hold the process for seconds.
process.exit();

async function bench({ sections, rounds: count, json, profiles }) {
  const started = performance.now();
  describeMachine(count);
  if (profiles) console.log("Profiling: the profiler slows both sides, so do not quote these numbers.\n");
  const rounds = [];
  const compared = sections.filter((section) => !["scale", "shared", "v2"].includes(section));
  for (let index = 0; compared.length > 0 && index < count; index++) {
    rounds.push(await round(index, compared, profiles && join(profiles, `round-${index + 1}`)));
  }
  const rows = rounds.length > 0 ? rowsOf(rounds) : [];
  if (rows.length > 0) console.log(`\n${tableOf(rows)}\n`);
  const scaled = sections.includes("scale") ? await scale() : [];
  if (scaled.length > 0) console.log(`\n${scaleTableOf(scaled)}\n`);
  const streamed = sections.includes("v2") ? await protocol() : [];
  if (streamed.length > 0) console.log(`\n${plainTableOf(streamed)}\n`);
  const onServers = sections.includes("shared") ? await shared({ rounds: count, profiles }) : undefined;
  if (onServers && !profiles) console.log(`\n${sharedTablesOf(onServers)}\n`);
  for (const failure of firstFailures(rounds)) console.log(`a held stream failed: ${failure}`);
  console.log(`load average ${loadText()}, ${((performance.now() - started) / 1_000).toFixed(0)} s in all`);
  if (json)
    writeJson(json, {
      ...machine(),
      rounds: count,
      profiled: profiles !== undefined,
      rows,
      scale: scaled,
      shared: onServers,
      v2: streamed,
    });
}

function writeJson(file, value) {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify(value, null, 2)}\n`);
}

/** One after the other also at the start: two that start at once would slow each other. */
async function round(index, sections, profiles) {
  const profile = profiles !== undefined;
  const server = await startServer({ profile });
  const inProcess = await startInProcess({ profile });
  const both = { server, inProcess };
  try {
    console.log(`round ${index + 1}: server up in ${server.startMs.toFixed(0)} ms`);
    const start = [mapBoth(both, ({ startMs }) => ({ ms: startMs }))];
    const memory = sections.includes("memory") ? await idleMemory(both) : undefined;
    const results = {};
    for (const load of loadsOf(sections)) {
      results[load] = await measure(load, both, index, profiles);
    }
    if (memory) results.memory = [mapBoth(both, ({ pid }, side) => ({ ...memory[side], loaded: residentMb(pid) }))];
    if (sections.includes("start")) results.start = start;
    return onlyAsked(results, sections);
  } finally {
    await Promise.all([server.stop(), inProcess.stop()]);
  }
}

/** "RSS after the load" needs a load, even when only memory was asked for. */
function loadsOf(sections) {
  const asked = Object.keys(loads).filter((load) => sections.includes(load));
  return asked.length === 0 && sections.includes("memory") ? ["throughput"] : asked;
}

function onlyAsked(results, sections) {
  return Object.fromEntries(Object.entries(results).filter(([section]) => sections.includes(section)));
}

/** Who goes first alternates, in case a load leaves the machine warm or busy. */
async function measure(load, both, index, profiles) {
  for (const side of SIDES) await both[side].run(load, "warmUp");
  const turns = [];
  // One is enough to read.
  const count = profiles ? 1 : (loads[load].turns ?? 1);
  for (let turn = 0; turn < count; turn++) {
    const order = (index + turn) % 2 === 0 ? SIDES : SIDES.toReversed();
    const result = {};
    for (const side of order) {
      const name = side === "server" ? "server" : "in-process";
      const folder = profiles && join(profiles, `${load}-${name}`);
      const run = () => withCpu(both[side], load);
      result[side] = folder ? await profiled(both[side], folder, run) : await run();
      if (folder) printProfiles(`${load}, ${name}`, folder);
    }
    console.log(`  ${load}: ${SIDES.map((side) => `${side} ${shown(result[side])}`).join("   ")}`);
    turns.push(result);
  }
  return turns;
}

/** Also what a run cost in CPU, of the process and not of the client: a busy machine changes that least. */
async function withCpu(side, load) {
  const before = cpuMs(side.pid);
  const numbers = await side.run(load, "measure");
  return { ...numbers, ...(numbers.runs && { cpu: (cpuMs(side.pid) - before) / numbers.runs }) };
}

function mapBoth(both, pick) {
  return Object.fromEntries(SIDES.map((side) => [side, pick(both[side], side)]));
}

async function idleMemory(both) {
  await delay(SETTLE_MS);
  return mapBoth(both, ({ pid }) => ({ idle: residentMb(pid) }));
}

function firstFailures(rounds) {
  const turns = rounds.flatMap(({ held = [] }) => held);
  return turns.flatMap((turn) => SIDES.map((side) => turn[side].firstFailure)).filter(Boolean);
}

function shown(numbers) {
  const shownOnes = Object.entries(numbers).filter(([, value]) => typeof value === "number");
  return shownOnes.map(([name, value]) => `${name} ${Number(value.toFixed(2))}`).join(", ");
}

function describeMachine(count) {
  const { node, cpu, cores } = machine();
  console.log(`Node ${node}, ${cores} cores (${cpu}), load average ${loadText()}`);
  console.log(
    `${count} ${count === 1 ? "round" : "rounds"}, medians; server with --jobs ${JOBS}, other settings default`,
  );
  console.log("HTTP client: undici, keep-alive, in this process: it shares the cores with the server\n");
}

function machine() {
  const cpu = cpus()[0]?.model.trim() ?? "unknown";
  return { date: new Date().toISOString(), node: process.version, cpu, cores: availableParallelism() };
}

function loadText() {
  return loadavg()
    .slice(0, 2)
    .map((value) => value.toFixed(1))
    .join(" ");
}

function readOptions() {
  const { values } = parseArgs({
    options: {
      only: { type: "string" },
      rounds: { type: "string" },
      json: { type: "string" },
      profile: { type: "boolean" },
      profiles: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) return undefined;
  const profiles = values.profiles ?? (values.profile ? tempFolder("skein-bench-profiles-") : undefined);
  return {
    sections: values.only ? values.only.split(",").map(known) : SECTIONS,
    rounds: positive(values.rounds ?? (profiles ? "1" : "3")),
    json: values.json,
    profiles,
  };
}

function known(section) {
  if (SECTIONS.includes(section)) return section;
  throw new Error(`--only ${section}: must be of ${SECTIONS.join(", ")}`);
}

function positive(text) {
  const count = Number(text);
  if (Number.isInteger(count) && count > 0) return count;
  throw new Error(`--rounds ${text}: must be a positive integer`);
}
