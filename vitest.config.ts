import { defineConfig } from "vitest/config";
import { missing as postgresMissing } from "./test/support/postgres.ts";
import { missing as redisMissing } from "./test/support/redis.ts";
import { isCi } from "./test/support/requirements.ts";
import { SlowestFirst } from "./test/support/slowest-first.ts";

/**
 * The files of a project share their worker processes, and with them what they import: a third of what a small file costs. A module's
 * state outlives a file, so modules that tests share keep none that a file could trip over, and register no hooks.
 */
const common = {
  pool: "forks",
  isolate: false,
  testTimeout: 120_000,
  hookTimeout: 120_000,
  globalSetup: "test/support/packed-setup.ts",
} as const;
const slow = { ...common, testTimeout: 300_000, hookTimeout: 120_000 } as const;

/** Servers of these keep their data on PostgreSQL and tell each other by Redis: the same files again. */
const postgres = {
  env: { SKEIN_TEST_DIALECT: "postgres" },
  setupFiles: ["test/support/drop-databases.ts"],
};

/** What a clock or the memory measures to the limit: alone on the machine. */
const ALONE = ["test/faults/{held-cpu,slow-client,slow-watcher}.test.ts", "test/faults/cluster/scale.test.ts"];
/** These are about the command line, or have servers on PostgreSQL anyway. */
const ONE_DIALECT = ["test/faults/{cli,kill-rounds}.test.ts", "test/faults/cluster/**"];

/** Tests wait about as long as they compute, so there are more workers than this machine's two cores. */
const together = { maxWorkers: 3, sequence: { groupOrder: 0 } } as const;
/** Processes are killed, frozen and starved here: slow by nature. */
const faults = { ...slow, ...together } as const;
const alone = { ...slow, fileParallelism: false, maxWorkers: 1, sequence: { groupOrder: 1 } } as const;

const embedded = [
  {
    test: {
      ...common,
      ...together,
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
      ...together,
      name: "tests on postgres",
      include: ["test/conformance/{conformance,bad-input}.test.ts", "test/auth/{auth,table}.test.ts"],
      ...postgres,
    },
  },
  {
    test: {
      ...faults,
      name: "faults on postgres",
      include: ["test/faults/*.test.ts"],
      exclude: [...ALONE, ...ONE_DIALECT],
      ...postgres,
    },
  },
  {
    test: {
      ...alone,
      name: "alone on postgres",
      include: ALONE,
      exclude: ONE_DIALECT,
      ...postgres,
    },
  },
];

export default defineConfig({
  test: {
    projects: [...embedded, ...((await isSkipped()) ? [] : onPostgres)],
    sequence: { sequencer: SlowestFirst },
  },
});

/** Where a server is missing its tests are skipped, and it is said; in CI they run, and fail. */
async function isSkipped(): Promise<boolean> {
  const why = (await postgresMissing()) ?? (await redisMissing());
  if (why === undefined || isCi()) return false;
  console.warn(`\n*** SKIPPED: all tests of servers on PostgreSQL and Redis (${why}) ***\n`);
  return true;
}
