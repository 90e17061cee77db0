/**
 * Loaded into a measured process and each of its threads (NODE_OPTIONS=--require): a CPU profile of exactly the time that
 * run.mjs asks for. `--cpu-prof` would not do: it profiles the whole life of the main thread and no executor thread.
 *
 * run.mjs talks to the main thread over IPC, the main thread to the others over a broadcast channel.
 */
const { writeFileSync } = require("node:fs");
const { Session } = require("node:inspector");
const { basename, join } = require("node:path");
const { BroadcastChannel, isMainThread, threadId } = require("node:worker_threads");

const SAMPLE_MICROSECONDS = 500;
/** Time for the other threads to write; nothing says how many there are. */
const WRITE_MS = 1_500;

const channel = new BroadcastChannel("skein-bench-profiler");
channel.unref();
const session = new Session();
session.connect();
let profiling = false;

if (isMainThread) {
  process.on("message", (message) => {
    if (message.type !== "profile") return;
    channel.postMessage(message);
    obey(message);
    if (message.folder) setTimeout(() => process.send({ type: "profiled" }), WRITE_MS);
  });
} else {
  channel.onmessage = ({ data }) => obey(data);
}

/** Without a folder: start. With one: stop, and write there. */
function obey({ folder }) {
  if (folder) return finish(folder);
  profiling = true;
  session.post("Profiler.enable");
  session.post("Profiler.setSamplingInterval", { interval: SAMPLE_MICROSECONDS });
  session.post("Profiler.start");
}

function finish(folder) {
  // A thread started in the middle has nothing to tell.
  if (!profiling) return;
  profiling = false;
  session.post("Profiler.stop", (error, result) => {
    if (error) return;
    writeFileSync(join(folder, `${threadName()}.cpuprofile`), JSON.stringify(result.profile));
  });
}

function threadName() {
  if (isMainThread) return "main thread";
  const file = process.argv[1] ?? "";
  return `thread ${threadId} (${basename(join(file, ".."))} ${basename(file)})`;
}
