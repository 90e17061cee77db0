import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { flagFor } from "../src/early-optimization.ts";

test("the Node that runs here knows the flag it gets", () => {
  const flag = flagFor(process.versions.v8);
  const code = "process.stdout.write('up')";
  const answer = execFileSync(process.execPath, [...(flag === undefined ? [] : [flag]), "-e", code], {
    encoding: "utf8",
  });
  expect(answer).toBe("up");
});

test("each version of V8 is asked in its own words, one that was not measured is left alone", () => {
  expect(flagFor("11.3.244.8-node.30")).toMatch(/^--interrupt-budget=\d+$/);
  expect(flagFor("12.4.254.21-node.35")).toMatch(/^--invocation-count-for-turbofan=\d+$/);
  expect(flagFor("13.6.233.17-node.40")).toBeUndefined();
});
