/** Logs of runs over Redis: what readers at other processes see, and what becomes of it when Redis does not do its part. */
import { randomBytes, randomUUID } from "node:crypto";
import { type AddressInfo, createServer } from "node:net";
import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { Cipher } from "../../src/storage/cipher.ts";
import * as events from "../../src/storage/tables/events.ts";
import type { StreamEvent } from "../../src/streaming/events.ts";
import { BEGINNING, followThread, parsePosition } from "../../src/streaming/follow-thread.ts";
import { threadFilter } from "../../src/streaming/modes.ts";
import { RedisBroker } from "../../src/streaming/redis-broker.ts";
import {
  dropKeys,
  REDIS,
  type RedisServer,
  requireRedis,
  requireRedisServer,
  startRedis,
  startRedisCluster,
} from "../support/redis.ts";
import { eventually } from "../support/server.ts";
import { collect, type Process, range, type World, worldOf, write, written } from "./support.ts";

beforeEach(async (context) => requireRedis(context));

/** What we ask, all of which Redis 5.0 has in the forms in which we ask it. `client` is the driver's, and may be refused. */
const REDIS_5 = [
  ...["blpop", "client", "del", "eval", "evalsha", "hmget", "hset", "info", "llen", "lpop", "ltrim", "pexpire", "ping"],
  ...["publish", "rpush", "subscribe", "unsubscribe", "xadd", "xlen", "xrange", "xtrim", "zadd", "zrangebyscore"],
  "zremrangebyrank",
];

async function world(options: Partial<Parameters<typeof worldOf>[0]> = {}): Promise<World> {
  const made = await worldOf({ uri: REDIS, ...options });
  if (options.uri === undefined) onTestFinished(() => dropKeys(REDIS, made.prefix));
  return made;
}

/** A Redis of this test's own. */
async function own(...args: string[]): Promise<RedisServer> {
  const server = await startRedis(...args);
  onTestFinished(() => server[Symbol.asyncDispose]());
  return server;
}

describe("readers at other processes", () => {
  test.each([false, true])(
    "see each event once and in order, whenever they come (resumable: %s)",
    async (resumable) => {
      const all = await world();
      const [holder, b, c] = (await Promise.all([all.process(), all.process(), all.process()])) as [
        Process,
        Process,
        Process,
      ];
      const run = await all.run({ resumable });
      const before = [b.read(run), c.read(run)];
      const log = await holder.hold(run);
      const during: Promise<readonly { id: number }[]>[] = [];
      for (let i = 0; i < 40; i += 1) {
        during.push((i % 2 === 0 ? b : c).read(run), holder.read(run));
        await write(log, 50, { from: i * 50 });
      }
      await holder.settle(run, '{"done":true}');
      const after = [b.read(run), c.read(run, 1500)];
      for (const seen of [...before, ...during, after[0]])
        expect((await seen)?.map(({ id }) => id)).toEqual(range(2000));
      expect((await after[1])?.map(({ id }) => id)).toEqual(range(499, 1501));
      expect(written(await (before[0] as (typeof after)[0]))).toEqual(range(2000));
      expect((await b.log(run)).output).toBe('{"done":true}');
    },
  );

  test("who hold no run get its output when its row is gone with it", async () => {
    const all = await world();
    const [holder, b] = [await all.process(), await all.process()];
    const run = await all.run();
    const log = await holder.hold(run);
    await write(log, 3);
    await holder.settle(run, '"out"');
    await eventually(async () => (await b.logs.recall(run.run_id)) !== undefined);
    const recalled = await b.logs.recall(run.run_id);
    expect(recalled?.thread_id).toBe(run.thread_id);
    const there = await b.logs.elsewhere(recalled ?? expect.fail());
    expect((await collect(there)).length).toBe(3);
    expect(there.output).toBe('"out"');
  });

  test("a thousand of them attach during a storm, over three connections", async () => {
    const all = await world();
    const [holder, b] = [await all.process(), await all.process()];
    const run = await all.run();
    const log = await holder.hold(run);
    const storm = write(log, 5000, { size: 100 });
    const readers: Promise<readonly { id: number }[]>[] = [];
    for (let i = 0; i < 1000; i += 1) {
      readers.push(b.read(run));
      if (i % 20 === 0) await new Promise(setImmediate);
    }
    await storm;
    await holder.settle(run);
    for (const seen of await Promise.all(readers)) expect(seen.length).toBe(5000);
    const clients = await import("ioredis").then(async ({ Redis }) => {
      const client = new Redis(REDIS);
      const list = (await client.client("LIST")) as string;
      client.disconnect();
      return list.split("\n").length;
    });
    expect(clients).toBeLessThan(100);
  });

  test("that read slowly cost bounded memory here, there and in Redis, and get all of it", async () => {
    const redis = await own();
    const limit = 256 * 1024;
    const all = await world({ uri: redis.uri, tailLimit: limit });
    const [holder, b] = [await all.process(), await all.process()];
    const run = await all.run();
    const log = await holder.hold(run);
    const remote = await b.log(run);
    const slow = { seen: 0, last: -1 };
    const unsubscribe = remote.subscribe(() => undefined);
    let [most, mostThere] = [0, 0];
    for (let i = 0; i < 40; i += 1) {
      // 20 megabytes.
      await write(log, 512, { size: 1000, from: i * 512 });
      await log.flush();
      await new Promise((resolve) => setTimeout(resolve, 20));
      most = Math.max(most, log.size);
      mostThere = Math.max(mostThere, remote.size);
    }
    expect(most).toBeLessThan(6 * limit);
    expect(mostThere).toBeLessThan(6 * limit);
    const used = await redis.ask(async (client) =>
      Number(await client.memory("USAGE", `${all.prefix}skein:run:{${run.run_id}}:events`, "SAMPLES", 0)),
    );
    expect(used).toBeLessThan(16 * 1024 * 1024);
    await holder.settle(run);
    for (;;) {
      const events = await remote.read(slow.last);
      if (events.length === 0 && remote.ended) break;
      for (const { id } of events) expect(id).toBe(++slow.last);
      slow.seen += events.length;
      if (events.length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    }
    unsubscribe();
    expect(slow.seen).toBe(40 * 512);
  });

  test("get from the database what Redis was too slow for, and whoever writes reads none of it again", async () => {
    const redis = await own();
    const all = await world({ uri: redis.uri, tailLimit: 64 * 1024 });
    const [holder, b] = [await all.process(), await all.process()];
    const run = await all.run();
    const log = await holder.hold(run);
    await write(log, 7);
    await redis.freeze();
    for (let i = 0; i < 10; i += 1) {
      await write(log, 700, { size: 1000, from: 7 + i * 700 });
      await log.room();
    }
    await redis.thaw();
    await holder.settle(run);
    expect(written(await b.read(run))).toEqual(range(7007));
    expect(holder.pagesRead).toBe(0);
    expect(b.pagesRead).toBeGreaterThan(1);
  });
});

describe("an attempt", () => {
  test("follows all of the one before, of which a part is in the database and a part in Redis only", async () => {
    const all = await world({ tailLimit: 16 * 1024 });
    const [a, b, c] = [await all.process(), await all.process(), await all.process()];
    const run = await all.run();
    const first = await a.hold(run);
    await write(first, 70, { size: 1000 });
    await first.room();
    await a.logs.shown(first);
    a.die();
    const second = await b.hold(run);
    await write(second, 70, { size: 1000, from: 70 });
    await second.room();
    await b.settle(run);
    expect(written(await b.read(run))).toEqual(range(140));
    expect(written(await c.read(run))).toEqual(range(140));
    const stored = await all.storage.read((db) => events.last(db, run.run_id));
    expect(stored).toBeGreaterThan(70);
    for (const process of [b, c]) expect(written(await process.read(run, 40))).toEqual(range(99, 41));
  });

  test("of an older token changes nothing once a newer one writes", async () => {
    const all = await world();
    const [old, young, reader] = (await Promise.all([all.process(), all.process(), all.process()])) as [
      Process,
      Process,
      Process,
    ];
    const run = await all.run();
    const stale = await old.hold(run);
    await write(stale, 10);
    const seen = reader.read(run);
    await eventually(async () => (await reader.log(run)).next === 10);
    const log = await young.hold(run);
    await write(log, 5, { from: 100 });
    await eventually(async () => (await reader.log(run)).next > 10);
    await write(stale, 5, { from: 900 });
    await old.settle(run, '"old"');
    await young.settle(run, '"young"');
    expect(written(await seen)).toEqual([...range(10), ...range(5, 100)]);
    expect((await reader.log(run)).output).toBe('"young"');
    expect(written(await (await all.process()).read(run))).toEqual([...range(10), ...range(5, 100)]);
  });

  test.each([false, true])(
    "after the first goes on in the same stream, wherever it is (resumable: %s)",
    async (resumable) => {
      const all = await world();
      const [a, b, c] = (await Promise.all([all.process(), all.process(), all.process()])) as [
        Process,
        Process,
        Process,
      ];
      const run = await all.run({ resumable });
      const first = await a.hold(run);
      const readers = [a.read(run), b.read(run), c.read(run)];
      await write(first, 10);
      await first.flush();
      await a.logs.shown(first);
      const second = await b.hold(run);
      a.logs.handOver(first);
      await write(second, 10, { from: 10 });
      await second.flush();
      await b.logs.shown(second);
      const third = await a.hold(run);
      b.logs.handOver(second);
      await write(third, 10, { from: 20 });
      await a.settle(run, '"end"');
      readers.push(a.read(run), b.read(run), c.read(run));
      for (const seen of await Promise.all(readers)) {
        expect(written(seen)).toEqual(range(30));
        const ids = seen.map(({ id }) => id);
        expect(ids).toEqual([...ids].sort((x, y) => x - y));
        if (resumable) expect(ids).toEqual(range(30));
      }
      expect((await c.log(run)).output).toBe('"end"');
    },
  );

  test("whose process died without a word is followed to the end that the database knows", async () => {
    const all = await world();
    const [holder, b] = [await all.process(), await all.process()];
    const run = await all.run();
    const log = await holder.hold(run);
    const seen = b.read(run);
    await write(log, 10);
    await eventually(async () => (await b.log(run)).next === 10);
    holder.die();
    await holder.settle(run);
    expect(written(await seen)).toEqual(range(10));
  });
});

describe("Redis", () => {
  beforeEach(async (context) => requireRedisServer(context));

  async function trouble(
    harm: (redis: RedisServer) => Promise<void>,
    mend: (redis: RedisServer) => Promise<void>,
    resumable = false,
  ) {
    const redis = await own();
    const all = await world({ uri: redis.uri });
    const [holder, b] = [await all.process(), await all.process()];
    const run = await all.run({ resumable });
    const log = await holder.hold(run);
    const remote = b.read(run);
    await write(log, 100);
    await eventually(async () => (await b.log(run)).next === 100);
    await harm(redis);
    const begin = performance.now();
    await write(log, 100, { from: 100 });
    await log.flush();
    expect(await log.read(199)).toEqual([]);
    expect(log.next).toBe(200);
    // Nobody here has waited for Redis.
    expect(performance.now() - begin).toBeLessThan(1500);
    await mend(redis);
    await write(log, 100, { from: 200 });
    return { redis, holder, b, run, log, remote, all };
  }

  test.each([
    ["killed and started again", (redis: RedisServer) => redis.kill(), (redis: RedisServer) => redis.start()],
    ["flushed", (redis: RedisServer) => redis.flush(), async () => undefined],
    [
      "frozen for longer than commands wait",
      (redis: RedisServer) => redis.freeze(),
      async (redis: RedisServer) => {
        await new Promise((resolve) => setTimeout(resolve, 5000));
        await redis.thaw();
      },
    ],
    [
      "deaf: all its connections cut",
      (redis: RedisServer) =>
        redis.ask((client) => client.call("CLIENT", "KILL", "TYPE", "normal")).then(() => undefined),
      async () => undefined,
    ],
  ])("%s: runs go on, and readers elsewhere miss nothing", async (_, harm, mend) => {
    const { holder, run, remote, all } = await trouble(harm, mend);
    await holder.settle(run, '"out"');
    expect(written(await remote)).toEqual(range(300));
    // Whoever comes now finds it too: it was shown again.
    const late = await all.process();
    expect(written(await late.read(run))).toEqual(range(300));
    expect((await late.log(run)).output).toBe('"out"');
  });

  test("lost for good: kept events and the end come from the database, and the server says so", async () => {
    const { holder, b, run, remote } = await trouble(
      (redis) => redis.kill(),
      async () => undefined,
      true,
    );
    expect([holder.broker.state, b.broker.state]).toEqual(["unreachable", "unreachable"]);
    await holder.settle(run);
    expect(written(await remote)).toEqual(range(300));
  });

  test("lost for good: a reader elsewhere has what it had, and an end", async () => {
    const { holder, b, run, remote } = await trouble(
      (redis) => redis.kill(),
      async () => undefined,
    );
    const followed = await b.log(run);
    await holder.settle(run);
    expect(written(await remote)).toEqual(range(100));
    expect([followed.isCut, followed.lacksEvents]).toEqual([true, true]);
  });

  test("emptied after a run's end: whoever held the run shows it again to who asks", async () => {
    const redis = await own();
    const all = await world({ uri: redis.uri });
    const [holder, b] = [await all.process(), await all.process()];
    const run = await all.run();
    const log = await holder.hold(run);
    await write(log, 50);
    await holder.settle(run, '"out"');
    await eventually(async () => (await b.logs.recall(run.run_id)) !== undefined);
    await holder.logs.shown(log);
    await redis.flush();
    const seen = await b.log(run);
    expect(written(await collect(seen))).toEqual(range(50));
    expect([seen.output, seen.isCut, seen.lacksEvents]).toEqual(['"out"', false, false]);
  });

  test("lost: who follows a run that comes to be held here sees all of it", async () => {
    const redis = await own();
    const all = await world({ uri: redis.uri });
    const holder = await all.process();
    const run = await all.run();
    const seen = holder.read(run);
    await redis.kill();
    const log = await holder.hold(run);
    await write(log, 50);
    await holder.settle(run);
    expect(written(await seen)).toEqual(range(50));
  });

  test("a cluster of three nodes: logs lie on all of them, each on one, and all is as on one node", async () => {
    const nodes = await startRedisCluster(3);
    onTestFinished(async () => void (await Promise.all(nodes.map((node) => node[Symbol.asyncDispose]()))));
    const all = await worldOf({ uri: nodes[0]?.uri ?? "", broker: { cluster: true } });
    const [holder, b] = [await all.process(), await all.process()];
    const heard: unknown[] = [];
    b.broker.hear((signal) => heard.push(signal));
    await eventually(() => {
      holder.broker.tell({ kind: "crons" });
      return heard.length > 0;
    });
    const logsOn = (): Promise<string[][]> =>
      Promise.all(
        nodes.map((node) => node.ask(async (client) => (await client.keys("*")).filter((key) => key.endsWith(":log")))),
      );
    // A log lies where the hash of its run's id says: until each node has one.
    let count = 0;
    do {
      count += 1;
      const run = await all.run();
      const remote = b.read(run);
      const log = await holder.hold(run);
      await write(log, 100);
      await holder.settle(run, "1");
      expect(written(await remote)).toEqual(range(100));
      const late = await all.process();
      expect(written(await late.read(run))).toEqual(range(100));
      late.die();
    } while ((await logsOn()).some((keys) => keys.length === 0));
    expect((await logsOn()).flat()).toHaveLength(count);
    const claims: number[] = [];
    b.broker.work({ free: () => 5, whenFree: async () => undefined, claim: async (runs) => void claims.push(runs) });
    holder.broker.wake(3);
    await eventually(() => claims.reduce((sum, each) => sum + each, 0) === 3);
  });

  test("a cluster that is not said to be one is refused, and so is one that is said to be and is not", async () => {
    const cluster = await own("--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1");
    const start = (uri: string, isCluster: boolean): Promise<unknown> =>
      worldOf({ uri, broker: { cluster: isCluster } }).then((all) => all.process());
    await expect(start(cluster.uri, false)).rejects.toThrow("it is a node of a Redis cluster: set REDIS_CLUSTER=true");
    await expect(start(REDIS, true)).rejects.toThrow("it is no cluster, and REDIS_CLUSTER says that it is");
  });

  test("that has not come up yet is not said to be in a state of our client's", async () => {
    const silent = createServer((socket) => socket.resume());
    onTestFinished(() => void silent.close());
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    const host = `127.0.0.1:${(silent.address() as AddressInfo).port}`;
    const troubles: unknown[] = [];
    const onTrouble = (error: unknown): void => void troubles.push(error);
    const options = {
      uri: `redis://${host}`,
      prefix: "",
      cluster: false,
      seal: null,
      onTrouble,
      onRecovery: () => undefined,
    };
    const broker = new RedisBroker(options);
    await broker.start(0);
    broker.wake(1);
    await eventually(() => troubles.length > 0);
    expect(String(troubles[0])).toBe(`Error: there is no connection to ${host} now`);
    await broker.close();
  });

  test("is asked nothing that Redis 5 does not have", async () => {
    const redis = await own();
    const all = await world({ uri: redis.uri });
    const [holder, b] = [await all.process(), await all.process()];
    const run = await all.run();
    const stop = b.broker.work({ free: () => 20, whenFree: async () => undefined, claim: async () => undefined });
    holder.broker.wake(100);
    holder.broker.tell({ kind: "crons" });
    const watching = new AbortController();
    b.logs.watch(run.thread_id, () => true, watching.signal);
    const remote = b.read(run);
    const log = await holder.hold(run);
    for (let i = 0; i < 10; i += 1) {
      await write(log, 200, { size: 6000 });
      await holder.logs.shown(log);
    }
    const askedFor = async (name: string): Promise<readonly string[] | undefined> => {
      const stats = await redis.ask((client) => client.info("commandstats"));
      const names = [...stats.matchAll(/^cmdstat_([^:|]+)/gm)].map(([, found = ""]) => found);
      return names.includes(name) ? names : undefined;
    };
    await eventually(() => askedFor("xtrim"), { ms: 30_000 });
    await holder.settle(run, "1");
    await remote;
    await b.logs.line(run.thread_id, 0);
    await b.logs.recall(run.run_id);
    holder.logs.drop(run.run_id);
    watching.abort();
    stop();
    const asked = await eventually(() => askedFor("del"));
    expect(asked.filter((name) => !REDIS_5.includes(name))).toEqual([]);
  });

  test("with a key for data at rest, holds nothing that can be read", async () => {
    const redis = await own();
    const seal = new Cipher({ key: randomBytes(32), old: [] });
    const all = await world({ uri: redis.uri, broker: { seal } });
    const [holder, b] = [await all.process(), await all.process()];
    const run = await all.run();
    const remote = b.read(run);
    const log = await holder.hold(run);
    log.append([{ event: "values", data: '"a secret"' }]);
    await holder.settle(run, '"another secret"');
    expect((await remote).map(({ data }) => data)).toEqual(['"a secret"']);
    expect((await b.log(run)).output).toBe('"another secret"');
    const key = `${all.prefix}skein:run:{${run.run_id}}`;
    const kept = await redis.ask(async (client) =>
      JSON.stringify([await client.xrange(`${key}:events`, "-", "+"), await client.hgetall(`${key}:log`)]),
    );
    expect(kept).toContain("skein-aes");
    expect(kept).not.toContain("secret");
  });

  test("everything goes in time: nothing is kept for ever", async () => {
    const redis = await own();
    const all = await world({ uri: redis.uri });
    const holder = await all.process();
    const run = await all.run();
    const log = await holder.hold(run);
    await write(log, 10);
    await holder.settle(run);
    await eventually(async () => (await holder.logs.recall(run.run_id)) !== undefined);
    const ttls = await redis.ask(async (client) => {
      const keys = await client.keys("*");
      return Promise.all(keys.map((key) => client.pttl(key)));
    });
    expect(ttls.length).toBeGreaterThanOrEqual(3);
    for (const ttl of ttls) expect(ttl).toBeGreaterThan(0);
  });
});

describe("a thread", () => {
  const watch = ({ logs }: Process, thread_id: string, after: string | null) => {
    const abort = new AbortController();
    onTestFinished(() => abort.abort());
    return followThread({
      logs,
      thread_id,
      after: after === null ? null : (parsePosition(after) ?? BEGINNING),
      filter: threadFilter(["run_modes"]),
      signal: abort.signal,
      stored: async (place) => (await logs.line(thread_id, place)).map(({ run_id }) => run_id),
      open: async (run_id) => {
        const known = logs.get(run_id) ?? (await logs.recall(run_id).then((which) => which && logs.elsewhere(which)));
        return known;
      },
      stateAfter: () => Promise.resolve(null),
      isNative: () => Promise.resolve(false),
    });
  };
  const take = async (events: AsyncGenerator<readonly StreamEvent[]>, ends: number): Promise<string[]> => {
    const ids: string[] = [];
    for (let done = 0; done < ends; ) {
      const step = await events.next();
      if (step.done) break;
      for (const { id, data } of step.value) {
        ids.push(`${id}`);
        if (data.includes("run_done")) done += 1;
      }
    }
    return ids;
  };

  test("whose runs are held by two processes is one sequence at each, from any id", async () => {
    const all = await world();
    const [a, b, c] = (await Promise.all([all.process(), all.process(), all.process()])) as [Process, Process, Process];
    const thread_id = randomUUID();
    const watchers = [a, b, c].map((each) => take(watch(each, thread_id, null), 10));
    await new Promise((resolve) => setTimeout(resolve, 200));
    for (let i = 0; i < 10; i += 1) {
      const at = i % 2 === 0 ? a : b;
      const run = await all.run({ thread_id });
      const log = await at.hold(run);
      await write(log, 5);
      await at.settle(run);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    const [first, ...others] = await Promise.all(watchers);
    expect(first?.length).toBe(60);
    for (const other of others) expect(other).toEqual(first);
    const places = (first ?? []).map((id) => parsePosition(id)?.place ?? 0);
    expect(places).toEqual([...places].sort((x, y) => x - y));
    for (const at of [3, 17, 41]) {
      const rest = take(watch(c, thread_id, first?.[at] ?? ""), 10 - Math.floor((at + 1) / 6));
      expect(await rest).toEqual(first?.slice(at + 1));
    }
  });
});

test("wake-ups are spread over the workers with free slots, and none is lost", async () => {
  const all = await world();
  const workers = (await Promise.all(range(4).map(() => all.process()))) as Process[];
  const taken = workers.map(() => 0);
  for (const [index, { broker }] of workers.entries()) {
    let busy = 0;
    let freed: (() => void) | undefined;
    const slots = 10;
    broker.work({
      free: () => slots - busy,
      whenFree: async () => {
        while (busy >= slots) await new Promise<void>((resolve) => (freed = resolve));
      },
      claim: async (runs) => {
        taken[index] = (taken[index] ?? 0) + runs;
        busy += runs;
        setTimeout(() => {
          busy -= runs;
          freed?.();
        }, 10);
      },
    });
  }
  const api = await all.process();
  for (let i = 0; i < 100; i += 1) api.broker.wake(10);
  await eventually(() => taken.reduce((sum, each) => sum + each, 0) === 1000, { ms: 20_000 });
  for (const count of taken) expect(count).toBeGreaterThan(150);
});
