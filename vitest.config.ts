import { defineConfig } from "vitest/config";

const common = { pool: "forks", testTimeout: 60_000, hookTimeout: 60_000 } as const;

export default defineConfig({
  test: {
    maxWorkers: 2,
    projects: [
      {
        test: {
          ...common,
          name: "tests",
          include: ["test/**/*.test.ts", "src/**/*.test.ts"],
          exclude: ["test/faults/**"],
        },
      },
      {
        // Processes are killed, frozen and starved here: slow by nature, and one at a time so that
        // a test's clock measures the server and not its neighbours.
        test: {
          ...common,
          name: "faults",
          include: ["test/faults/**/*.test.ts"],
          testTimeout: 300_000,
          hookTimeout: 120_000,
          fileParallelism: false,
          maxWorkers: 1,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
