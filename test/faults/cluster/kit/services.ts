/** What a test file of the cluster stands on: a PostgreSQL and a Redis that are its own. */
import { afterAll, beforeAll, beforeEach } from "vitest";
import { type RedisServer, serverMissing, startRedis } from "../../../support/redis.ts";
import { requireOrSkip } from "../../../support/requirements.ts";
import { type Postgres, postgresMissing, startPostgres } from "./postgres.ts";
import { Stack } from "./stack.ts";

export interface Services {
  readonly postgres: Postgres;
  readonly redis: RedisServer;
}

const missing = (): string | undefined => postgresMissing() ?? serverMissing();

/**
 * Services for all tests of a file, and whatever `prepare` makes on them (a cluster, mostly): started before the first
 * test, gone after the last. Where the programs are missing the tests are skipped, and fail in CI.
 */
export function useServices<T extends AsyncDisposable & { heal?(): Promise<void> }>(
  prepare: (services: Services) => Promise<T>,
  settings: Readonly<Record<string, string>> = {},
): () => T {
  const stack = new Stack();
  let prepared: T | undefined;
  beforeAll(async () => {
    if (missing() !== undefined) return;
    const [postgres, redis] = await Promise.all([startPostgres(settings), startRedis()]);
    stack.use(postgres);
    stack.use(redis);
    prepared = stack.use(await prepare({ postgres, redis }));
  });
  beforeEach(async (context) => {
    await requireOrSkip("PostgreSQL and Redis", missing, context);
    await prepared?.heal?.();
  });
  afterAll(() => stack[Symbol.asyncDispose]());
  return () => {
    if (prepared === undefined) throw new Error("nothing was prepared");
    return prepared;
  };
}
