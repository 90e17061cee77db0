/** The processes under measurement: how they are started, asked and stopped, and that none is left behind. */
import { fork, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { platform, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { httpTarget } from "./http-target.mjs";
import { loads } from "./loads.mjs";

export const CLI = fileURLToPath(new URL("../dist/cli.js", import.meta.url));
const PROJECT = fileURLToPath(new URL("./graphs", import.meta.url));
const IN_PROCESS = fileURLToPath(new URL("./in-process.mjs", import.meta.url));
const PROFILER = fileURLToPath(new URL("./profiler.cjs", import.meta.url));
const START_MS = 30_000;
const STOP_MS = 10_000;
const LOAD_MS = 120_000;
/** Linux counts CPU time for user space in hundredths of a second. */
const MS_PER_TICK = 10;
/** Enough that 500 held runs never queue. */
export const JOBS = 500;

const children = new Set();
const folders = new Set();
process.on("exit", () => {
  for (const child of children) child.kill("SIGKILL");
  for (const folder of folders) rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
});
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => process.exit(130));

/**
 * The built server on a free port, and an empty database unless `data` names one to keep. Both kinds of process put loads on
 * themselves by `run`. `command` and `env` make it one of several that share a database (cluster.mjs).
 */
export async function startServer({ profile = false, data: given, command = ["start"], env = {} } = {}) {
  if (!existsSync(CLI)) throw new Error(`${CLI} is missing: run \`npm run build\` first`);
  const data = given ?? tempFolder("skein-bench-data-");
  const args = [CLI, ...command, "--config", PROJECT, "--host", "127.0.0.1", "--port", "0", "--data", data];
  const started = performance.now();
  const child = adopt(
    spawn(process.execPath, [...args, "--jobs", String(JOBS)], {
      env: { ...environment(profile), ...env },
      stdio: ["ignore", "pipe", "pipe", profile ? "ipc" : "ignore"],
    }),
  );
  const url = await within(START_MS, "the server to listen", Promise.race([listening(child), child.ended]));
  const startMs = performance.now() - started;

  return {
    pid: child.pid,
    child,
    url,
    startMs,
    async run(load, phase) {
      const target = httpTarget(url);
      try {
        return await within(LOAD_MS, `${load} on the server`, Promise.race([loads[load][phase](target), child.ended]));
      } finally {
        void target.close();
      }
    },
    async stop() {
      await stop(child);
      if (given === undefined) removeFolder(data);
    },
  };
}

/** A fresh Node process with the same graphs and no server. */
export async function startInProcess({ profile = false } = {}) {
  const started = performance.now();
  const child = adopt(fork(IN_PROCESS, { env: environment(profile) }));
  await within(START_MS, "the in-process graphs to load", Promise.race([message(child, "ready"), child.ended]));
  const startMs = performance.now() - started;

  return {
    pid: child.pid,
    child,
    startMs,
    async run(load, phase) {
      const answer = Promise.race([message(child, "done", "failed"), child.ended]);
      child.send({ type: "load", load, phase });
      const { type, value, message: why } = await within(LOAD_MS, `${load} in-process`, answer);
      if (type === "failed") throw new Error(`in-process: ${why}`);
      return value;
    },
    stop: () => stop(child),
  };
}

/** Megabytes of RAM the process holds now. */
export function residentMb(pid) {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(proc(pid, "status"))?.[1]) / 1_024;
}

/** Milliseconds of CPU that all threads of the process have used. */
export function cpuMs(pid) {
  // The name before it is in parentheses and may hold anything; user and system time are fields 14 and 15 of all.
  const fields = proc(pid, "stat").split(") ").at(-1).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * MS_PER_TICK;
}

/** Linux only: elsewhere these two are NaN, and "n/a" in the table. */
function proc(pid, file) {
  return platform() === "linux" ? readFileSync(`/proc/${pid}/${file}`, "utf8") : "";
}

export function tempFolder(prefix) {
  const folder = mkdtempSync(join(tmpdir(), prefix));
  folders.add(folder);
  return folder;
}

function removeFolder(folder) {
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  folders.delete(folder);
}

/** Not the caller's: tracing keys or a server's settings in the shell must not be part of the measurement. */
function environment(profile) {
  const kept = ["PATH", "HOME", "TMPDIR", "LANG", "TZ"].filter((name) => process.env[name] !== undefined);
  return {
    ...Object.fromEntries(kept.map((name) => [name, process.env[name]])),
    // An environment variable and not a flag: executor threads take it over, flags they do not.
    ...(profile && { NODE_OPTIONS: `--require "${PROFILER}"` }),
  };
}

/** `child.ended` rejects when the process ends, with the last it said: nothing that waits for it waits in vain. */
function adopt(child) {
  children.add(child);
  child.tail = [];
  child.ended = new Promise((_, reject) => {
    child.once("exit", (code, signal) => {
      children.delete(child);
      reject(new Error(`A measured process ended (${signal ?? code}). ${child.tail.join("\n")}`));
    });
  });
  // It also ends when it is told to.
  child.ended.catch(() => undefined);
  return child;
}

/** Its log must be read to the end, or a full pipe would block the server. */
function listening(child) {
  return new Promise((resolve) => {
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on("line", (line) => {
        child.tail = [...child.tail, line].slice(-20);
        if (line.startsWith("{") && line.includes('"listening"')) resolve(JSON.parse(line).url);
      });
    }
  });
}

/** The next IPC message of one of these types. */
export function message(child, ...types) {
  return new Promise((resolve) => {
    const take = (received) => {
      if (!types.includes(received.type)) return;
      child.off("message", take);
      resolve(received);
    };
    child.on("message", take);
  });
}

async function stop(child) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  await within(STOP_MS, "a process to stop", gone).catch(() => child.kill("SIGKILL"));
}

async function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`Waited ${ms} ms for ${what}`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
