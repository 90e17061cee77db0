/** Real Redis for tests: `SKEIN_TEST_REDIS`, or the one on this machine; and servers of one's own, to be killed and frozen. */
import { execFile, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { promisify } from "node:util";
import getPort from "get-port";
import { Redis } from "ioredis";
import type { TestContext } from "vitest";
import { accepts, Daemon } from "./daemon.ts";
import { type TempDir, tempDir } from "./project.ts";
import { requireOrSkip } from "./requirements.ts";

export const REDIS = process.env.SKEIN_TEST_REDIS ?? "redis://127.0.0.1:6379";

/** Why there is no Redis; undefined when there is. */
export async function missing(): Promise<string | undefined> {
  const client = new Redis(REDIS, { lazyConnect: true, retryStrategy: null, maxRetriesPerRequest: 0 });
  client.on("error", () => undefined);
  try {
    await client.connect();
    await client.ping();
    return undefined;
  } catch (error) {
    return `nothing answers at ${new URL(REDIS).host}: ${(error as Error).message}`;
  } finally {
    client.disconnect();
  }
}

/** Skips the test where there is no Redis; fails it in CI. */
export const requireRedis = (context: Pick<TestContext, "skip">): Promise<void> =>
  requireOrSkip("Redis", missing, context);

/** Why no Redis can be started; undefined when one can. */
export const serverMissing = (): string | undefined =>
  ["redis-server", "redis-cli"].every((program) => spawnSync(program, ["--version"]).status === 0)
    ? undefined
    : "no redis-server and redis-cli in PATH";

/** Skips the test where `redis-server` is not installed; fails it in CI. */
export const requireRedisServer = (context: Pick<TestContext, "skip">): Promise<void> =>
  requireOrSkip("redis-server", serverMissing, context);

/** A prefix that no other test has. */
export const freshPrefix = (): string => `skein-test-${randomBytes(6).toString("hex")}:`;

/** Removes all keys under a prefix. */
export async function dropKeys(uri: string, prefix: string): Promise<void> {
  const client = new Redis(uri);
  for await (const keys of client.scanStream({ match: `${prefix}*`, count: 1000 })) {
    if ((keys as string[]).length > 0) await client.del(...(keys as string[]));
  }
  client.disconnect();
}

/** A Redis server of this test's own: killed, frozen and flushed at will. It forgets everything when it is killed. */
export class RedisServer implements AsyncDisposable {
  readonly port: number;
  readonly #args: readonly string[];
  readonly #dir: TempDir;
  #daemon: Daemon | undefined;

  constructor(port: number, dir: TempDir, args: readonly string[]) {
    this.port = port;
    this.#dir = dir;
    this.#args = args;
  }

  get uri(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  async start(): Promise<void> {
    const { dir } = this.#dir;
    const args = ["--port", `${this.port}`, "--bind", "127.0.0.1", "--dir", dir, "--save", "", ...this.#args];
    this.#daemon = new Daemon("redis-server", args);
    await this.#daemon.ready(() => accepts(this.port));
  }

  /** Asks on a connection of its own. */
  async ask<T>(question: (client: Redis) => Promise<T>): Promise<T> {
    const options = { lazyConnect: true, retryStrategy: null, maxRetriesPerRequest: 0, protocol: 2 } as const;
    const client = new Redis(this.uri, options);
    client.on("error", () => undefined);
    try {
      await client.connect();
      return await question(client);
    } finally {
      client.disconnect();
    }
  }

  async flush(): Promise<void> {
    await this.ask((client) => client.flushall());
  }

  async kill(): Promise<void> {
    await this.#daemon?.kill("SIGKILL");
  }

  /** Connections stay open and nobody answers, until it is thawed. */
  async freeze(): Promise<void> {
    await this.#daemon?.kill("SIGSTOP");
  }

  async thaw(): Promise<void> {
    await this.#daemon?.kill("SIGCONT");
  }

  /** Runs and answers, whatever a test has left it in. */
  async heal(): Promise<void> {
    if (this.#daemon?.isRunning === true) await this.thaw();
    else await this.start();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    await this.#dir[Symbol.asyncDispose]();
  }
}

/** On a free port; `args` are more settings. */
export async function startRedis(...args: readonly string[]): Promise<RedisServer> {
  const server = new RedisServer(await getPort(), await tempDir("skein-redis-"), args);
  try {
    await server.start();
    return server;
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}

/** A cluster of so many Redis servers, each with its share of the slots; resolves when all of them agree on it. */
export async function startRedisCluster(nodes: number): Promise<readonly RedisServer[]> {
  const settings = ["--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1"];
  const servers: RedisServer[] = [];
  // The bus of a node has a port of its own. One after the other: each port is taken before the next is looked for.
  for (let node = 0; node < nodes; node += 1)
    servers.push(await startRedis(...settings, "--cluster-port", `${await getPort()}`));
  const ports = servers.map(({ port }) => `127.0.0.1:${port}`);
  await promisify(execFile)("redis-cli", ["--cluster", "create", ...ports, "--cluster-yes"]);
  return servers;
}
