/**
 * Servers on PostgreSQL and Redis: a schema and a key prefix of the bench's own for each, dropped afterwards, and the processes that share them.
 * Where the two servers are is said as the tests say it: `SKEIN_TEST_POSTGRES`, `SKEIN_TEST_REDIS`.
 */
import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { fileURLToPath } from "node:url";
import { Redis } from "ioredis";
import pg from "pg";
import { httpTarget } from "./http-target.mjs";
import { loads } from "./loads.mjs";
import { startServer } from "./processes.mjs";

export const POSTGRES = process.env.SKEIN_TEST_POSTGRES ?? "postgres://root@127.0.0.1:5432/postgres";
const DROP = fileURLToPath(new URL("./drop.mjs", import.meta.url));
export const REDIS = process.env.SKEIN_TEST_REDIS ?? "redis://127.0.0.1:6379";

export const onPostgres = (statement) => withPostgres(async (client) => (await client.query(statement)).rows);

/** Asks on a connection of its own. */
export async function withPostgres(question) {
  const client = new pg.Client({ connectionString: POSTGRES });
  await client.connect();
  try {
    return await question(client);
  } finally {
    await client.end();
  }
}

export async function onRedis(question) {
  const client = new Redis(REDIS, { lazyConnect: true, retryStrategy: null, maxRetriesPerRequest: 0 });
  client.on("error", () => undefined);
  try {
    await client.connect();
    return await question(client);
  } finally {
    client.disconnect();
  }
}

/** Why there is nothing to measure on; undefined when there is. */
export async function missing() {
  const reason = async (uri, ask) => {
    try {
      await ask();
    } catch (error) {
      return `nothing answers at ${new URL(uri).host}: ${error.message}`;
    }
  };
  return (
    (await reason(POSTGRES, () => onPostgres("select 1"))) ??
    (await reason(REDIS, () => onRedis((redis) => redis.ping())))
  );
}

/** An empty database. `through` are other addresses of the two servers. */
async function freshDatabase({ postgres = POSTGRES, redis = REDIS } = {}) {
  const name = `skein_bench_${randomBytes(6).toString("hex")}`;
  const prefix = `${name}:`;
  await onPostgres(`create schema ${name}`);
  left.add(name);
  const uri = new URL(postgres);
  uri.searchParams.set("options", `-c search_path=${name}`);
  uri.searchParams.set("application_name", name);
  return {
    name,
    prefix,
    env: { DATABASE_URI: uri.href, REDIS_URI: redis, REDIS_KEY_PREFIX: prefix },
    /** What the keys take in Redis, their names included. */
    redisBytes: () =>
      onRedis(async (client) => {
        let bytes = 0;
        for await (const keys of client.scanStream({ match: `${prefix}*`, count: 1_000 })) {
          const sizes = await Promise.all(keys.map((key) => client.call("MEMORY", "USAGE", key)));
          bytes += sizes.reduce((total, size) => total + (size ?? 0), 0);
        }
        return bytes;
      }),
    async drop() {
      await dropDatabase(name);
      left.delete(name);
    },
  };
}

/** The schema, and the keys under the prefix of that name. */
export async function dropDatabase(name) {
  await onPostgres(`drop schema ${name} cascade`);
  await onRedis(async (client) => {
    for await (const keys of client.scanStream({ match: `${name}:*`, count: 1_000 })) {
      if (keys.length > 0) await client.del(...keys);
    }
  });
}

/** Not dropped yet. The processes that use them are killed by the handler of processes.mjs, which comes before this one. */
const left = new Set();
process.on("exit", () => {
  if (left.size > 0) spawnSync(process.execPath, [DROP, ...left], { stdio: "inherit" });
});

const SHAPES = {
  one: { api: ["start"], workers: [] },
  split: { api: ["start", "--no-worker"], workers: [["worker"], ["worker"]] },
};

/** `one` process that does all, or `split`: one that serves clients and two that execute runs. Loads go to the one that serves. */
export async function startCluster(shape, { profile = false, through } = {}) {
  const database = await freshDatabase(through);
  const started = [];
  const stop = async () => {
    await Promise.all(started.map((server) => server.stop()));
    await database.drop();
  };
  try {
    const start = async (command) => {
      const server = await startServer({ profile, command, env: database.env });
      started.push(server);
      return server;
    };
    // One after the other: each with the cores for itself, and the first makes the schema.
    const api = await start(SHAPES[shape].api);
    for (const command of SHAPES[shape].workers) await start(command);
    return {
      url: api.url,
      database,
      startMs: api.startMs,
      pid: api.pid,
      child: api.child,
      processes: { server: [api.pid], workers: started.slice(1).map(({ pid }) => pid) },
      servers: started,
      run: (load, phase) => onTarget(api, (target) => loads[load][phase](target)),
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function onTarget({ url, child }, work) {
  const target = httpTarget(url);
  try {
    return await Promise.race([work(target), child.ended]);
  } finally {
    void target.close();
  }
}
