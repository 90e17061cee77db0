import { defineConfig } from "vitest/config";
import { missing as postgresMissing } from "./test/support/postgres.ts";
import { missing as redisMissing } from "./test/support/redis.ts";
import { isCi } from "./test/support/requirements.ts";

const common = { pool: "forks", testTimeout: 60_000, hookTimeout: 60_000 } as const;
const slow = { ...common, testTimeout: 300_000, hookTimeout: 120_000 } as const;

/** Servers of these keep their data on PostgreSQL and tell each other by Redis: the same files again. */
const postgres = { SKEIN_TEST_DIALECT: "postgres" } as const;

/** What a clock or the memory measures to the limit: alone on the machine. */
const ALONE = ["test/faults/{held-cpu,slow-client,slow-watcher}.test.ts", "test/faults/cluster/scale.test.ts"];
/** These are about the command line, or have servers on PostgreSQL anyway. */
const ONE_DIALECT = ["test/faults/{cli,kill-rounds}.test.ts", "test/faults/cluster/**"];

/** Most tests wait more than they compute, so there is one worker more than this machine's two cores. */
const fast = { maxWorkers: 3, sequence: { groupOrder: 0 } } as const;
/** Processes are killed, frozen and starved here: slow by nature. Most of their time they wait, too. */
const faults = { ...slow, maxWorkers: 3, sequence: { groupOrder: 1 } } as const;
const alone = { ...slow, fileParallelism: false, maxWorkers: 1, sequence: { groupOrder: 2 } } as const;

const embedded = [
  {
    test: {
      ...common,
      ...fast,
      name: "tests",
      include: ["test/**/*.test.ts", "src/**/*.test.ts"],
      exclude: ["test/faults/**"],
    },
  },
  { test: { ...faults, name: "faults", include: ["test/faults/**/*.test.ts"], exclude: ALONE } },
  { test: { ...alone, name: "alone", include: ALONE } },
];

const onPostgres = [
  {
    test: {
      ...common,
      ...fast,
      name: "tests on postgres",
      include: ["test/conformance/{conformance,bad-input}.test.ts", "test/auth/{auth,table}.test.ts"],
      env: postgres,
    },
  },
  {
    test: {
      ...faults,
      name: "faults on postgres",
      include: ["test/faults/*.test.ts"],
      exclude: [...ALONE, ...ONE_DIALECT],
      env: postgres,
    },
  },
  {
    test: {
      ...alone,
      name: "alone on postgres",
      include: ALONE,
      exclude: ONE_DIALECT,
      env: postgres,
    },
  },
];

export default defineConfig({ test: { projects: [...embedded, ...((await isSkipped()) ? [] : onPostgres)] } });

/** Where a server is missing its tests are skipped, and it is said; in CI they run, and fail. */
async function isSkipped(): Promise<boolean> {
  const why = (await postgresMissing()) ?? (await redisMissing());
  if (why === undefined || isCi()) return false;
  console.warn(`\n*** SKIPPED: all tests of servers on PostgreSQL and Redis (${why}) ***\n`);
  return true;
}
