import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { thresholdOf } from "../src/early-optimization.ts";

test("the Node that runs here knows the flag, with both values", () => {
  const threshold = thresholdOf(process.versions.v8);
  const values = threshold === undefined ? [] : [threshold.early, threshold.usual];
  for (const value of values) {
    const answer = execFileSync(process.execPath, [`${threshold?.flag}=${value}`, "-e", "process.stdout.write('up')"]);
    expect(answer.toString()).toBe("up");
  }
});

test("each version of V8 is asked in its own words, one that was not measured is left alone", () => {
  expect(thresholdOf("11.3.244.8-node.30")).toMatchObject({ flag: "--interrupt-budget" });
  expect(thresholdOf("12.4.254.21-node.35")).toMatchObject({ flag: "--invocation-count-for-turbofan" });
  expect(thresholdOf("13.6.233.17-node.40")).toBeUndefined();
});
