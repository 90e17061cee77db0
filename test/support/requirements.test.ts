import { afterEach, expect, test, vi } from "vitest";
import { requireOrSkip } from "./requirements.ts";

afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
});

const skip = (note?: string | boolean): never => {
  throw new Error(`skipped: ${note}`);
};
const missing = () => "nobody answers";
// Names of their own: what is answered is remembered, also for files that share the process.

test("goes on when nothing is missing", async () => {
  await requireOrSkip("a thing", () => undefined, { skip: skip as never });
});

test("skips on a developer's machine and says why", async () => {
  vi.stubEnv("CI", "");
  const warn = vi.spyOn(console, "warn").mockReturnValue();
  await expect(requireOrSkip("a second thing", missing, { skip: skip as never })).rejects.toThrow(
    "skipped: a second thing is missing",
  );
  await expect(requireOrSkip("a second thing", missing, { skip: skip as never })).rejects.toThrow("skipped");
  expect(warn).toHaveBeenCalledTimes(1);
});

test("fails in CI", async () => {
  vi.stubEnv("CI", "true");
  await expect(requireOrSkip("a third thing", missing, { skip: skip as never })).rejects.toThrow(
    "CI must run every test",
  );
});
