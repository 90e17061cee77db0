/** What a load cost, and whom: CPU time of every process that had a part in it, and what the servers' own counters say. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { onRedis, withPostgres } from "./cluster.mjs";
import { cpuMs } from "./processes.mjs";

const MS_PER_TICK = 10;

/** Milliseconds of CPU used so far, by part. NaN for a server that runs elsewhere. */
export function cpuMeter({ postgres, redis }) {
  return ({ server, workers }) => {
    const { user, system } = process.cpuUsage();
    return {
      server: sum(server.map(cpuMs)),
      workers: sum(workers.map(cpuMs)),
      postgres: postgres === undefined ? Number.NaN : treeCpuMs(postgres),
      redis: redis === undefined ? Number.NaN : cpuMs(redis),
      client: (user + system) / 1_000,
    };
  };
}

/** The processes of PostgreSQL and Redis, where they run on this machine. */
export async function findServers() {
  const info = await onRedis((redis) => redis.info("server"));
  const redis = Number(/^process_id:(\d+)/m.exec(info)?.[1]);
  return { postgres: await postmaster(), redis: isNamed(redis, /redis|valkey/) ? redis : undefined };
}

/** A backend of ours is asked while it lives: its parent is the postmaster. */
const postmaster = () =>
  withPostgres(async (client) => {
    const { rows } = await client.query("select pg_backend_pid() as pid");
    return isNamed(rows[0].pid, /postgres/) ? Number(fieldsOf(rows[0].pid)[1]) : undefined;
  });

const isNamed = (pid, name) => existsSync(`/proc/${pid}/comm`) && name.test(readFileSync(`/proc/${pid}/comm`, "utf8"));

/** All of PostgreSQL: the postmaster, its children, and those of its children that have ended. */
function treeCpuMs(pid) {
  const [utime, stime, cutime, cstime] = fieldsOf(pid).slice(11, 15).map(Number);
  const children = childrenOf(pid).map(ownTicks);
  return (utime + stime + cutime + cstime + sum(children)) * MS_PER_TICK;
}

function childrenOf(pid) {
  const all = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return all.filter((name) => Number(tryFields(name)?.[1]) === pid);
}

function ownTicks(pid) {
  const fields = tryFields(pid);
  return fields === undefined ? 0 : Number(fields[11]) + Number(fields[12]);
}

/** Fields of `stat` after the name, which is in parentheses and may hold anything. */
const fieldsOf = (pid) => readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1).split(" ");

/** Undefined for a process that has just ended. */
function tryFields(pid) {
  try {
    return fieldsOf(pid);
  } catch (error) {
    if (error.code === "ENOENT" || error.code === "ESRCH") return undefined;
    throw error;
  }
}

/** What each part used between two readings, for each of so many units. */
export const perUnit = (before, after, units) =>
  Object.fromEntries(Object.entries(after).map(([part, ms]) => [part, (ms - before[part]) / units]));

/** Commands that Redis has done so far, those of scripts included. */
export async function redisCommands() {
  const text = await onRedis((redis) => redis.info("commandstats"));
  return Object.fromEntries(
    [...text.matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm)].map(([, name, calls]) => [name, Number(calls)]),
  );
}

export const sum = (values) => values.reduce((total, value) => total + value, 0);
