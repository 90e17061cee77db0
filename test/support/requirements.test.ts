import { afterEach, expect, test, vi } from "vitest";
import { requireOrSkip } from "./requirements.ts";

afterEach(() => vi.unstubAllEnvs());

const skip = (note?: string | boolean): never => {
  throw new Error(`skipped: ${note}`);
};
const missing = () => "nobody answers";

test("goes on when nothing is missing", async () => {
  await requireOrSkip("a thing", () => undefined, { skip: skip as never });
});

test("skips on a developer's machine and says why", async () => {
  vi.stubEnv("CI", "");
  const warn = vi.spyOn(console, "warn").mockReturnValue();
  await expect(requireOrSkip("PostgreSQL", missing, { skip: skip as never })).rejects.toThrow(
    "skipped: PostgreSQL is missing",
  );
  await expect(requireOrSkip("PostgreSQL", missing, { skip: skip as never })).rejects.toThrow("skipped");
  expect(warn).toHaveBeenCalledTimes(1);
});

test("fails in CI", async () => {
  vi.stubEnv("CI", "true");
  await expect(requireOrSkip("Redis", missing, { skip: skip as never })).rejects.toThrow("CI must run every test");
});
