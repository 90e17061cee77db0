/** Real Redis for tests: `SKEIN_TEST_REDIS`, or the one on this machine; and servers of one's own, to be killed and frozen. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import getPort from "get-port";
import { Redis } from "ioredis";
import type { TestContext } from "vitest";
import { type TempDir, tempDir } from "./project.ts";
import { requireOrSkip } from "./requirements.ts";
import { eventually } from "./server.ts";

export const REDIS = process.env.SKEIN_TEST_REDIS ?? "redis://127.0.0.1:6379";

async function missing(): Promise<string | undefined> {
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

/** Skips the test where `redis-server` is not installed; fails it in CI. */
export const requireRedisServer = (context: Pick<TestContext, "skip">): Promise<void> =>
  requireOrSkip(
    "redis-server",
    () => (spawnSync("redis-server", ["--version"]).status === 0 ? undefined : "it is not installed"),
    context,
  );

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

/** A Redis server of this test's own; it forgets everything when it is killed. */
export class RedisServer implements AsyncDisposable {
  readonly port: number;
  readonly #args: readonly string[];
  readonly #dir: TempDir;
  #child: ChildProcess | undefined;

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
    this.#child = spawn("redis-server", args, { stdio: "ignore" });
    await eventually(() => this.ask((client) => client.ping()).catch(() => undefined));
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

  /** SIGKILL is the end; SIGSTOP leaves connections open and answers nothing, until SIGCONT. */
  async kill(signal: "SIGKILL" | "SIGSTOP" | "SIGCONT" = "SIGKILL"): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    child.kill(signal);
    if (signal === "SIGKILL" && child.exitCode === null && child.signalCode === null) {
      await new Promise((resolve) => child.once("exit", resolve));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    await this.#dir[Symbol.asyncDispose]();
  }
}

export async function startRedis(...args: readonly string[]): Promise<RedisServer> {
  const server = new RedisServer(await getPort(), await tempDir("skein-redis-"), args);
  await server.start();
  return server;
}
