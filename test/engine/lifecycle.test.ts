/** The table of the run engine: what each end means, with each cancel that was promised meanwhile. */
import { expect, test } from "vitest";
import { type AttemptEnd, type AttemptFacts, afterAttempt } from "../../src/engine/lifecycle.ts";
import type { Snapshot } from "../../src/executor/protocol.ts";

const calm: Snapshot = { values: "{}", interrupts: "{}", interrupted: false, checkpoint_id: "1" };
const asking: Snapshot = { ...calm, interrupts: `{"t":[{"id":"q"}]}`, interrupted: true };
const error = { error: "E", message: "m" };

const ENDS: Readonly<Record<string, AttemptEnd>> = {
  success: { kind: "success", snapshot: calm, output: "1" },
  interrupted: { kind: "interrupted", snapshot: asking, output: "1" },
  error: { kind: "error", error, snapshot: calm },
  refused: { kind: "error", error, snapshot: asking, untouched: true },
  cancelled: { kind: "cancelled", snapshot: calm },
  "cancelled at a question": { kind: "cancelled", snapshot: asking },
  drained: { kind: "drained" },
  lost: { kind: "lost", reason: "gone" },
};

function said(end: AttemptEnd | undefined, facts: Partial<AttemptFacts>): string {
  if (end === undefined) throw new Error("no such end");
  const step = afterAttempt(end, { attempt: 1, maxAttempts: 3, cancel: null, timedOut: null, ...facts });
  if (step.kind === "erase") return "erase";
  if (step.kind === "requeue") return step.spendAttempt ? "again" : "again, free";
  return `${step.ending.status}, thread ${step.ending.thread}`;
}

test.each([
  ["success", "success, thread idle", "interrupted, thread idle", "erase"],
  ["interrupted", "interrupted, thread interrupted", "interrupted, thread interrupted", "erase"],
  ["error", "error, thread error", "error, thread error", "erase"],
  ["refused", "error, thread interrupted", "error, thread interrupted", "erase"],
  ["cancelled", "interrupted, thread idle", "interrupted, thread idle", "erase"],
  ["cancelled at a question", "interrupted, thread interrupted", "interrupted, thread interrupted", "erase"],
  ["drained", "again, free", "interrupted, thread idle", "erase"],
  ["lost", "again", "interrupted, thread idle", "erase"],
])("%s: %s; with an interrupt %s; with a rollback %s", (name, alone, interrupt, rollback) => {
  const end = ENDS[name];
  expect([null, "interrupt" as const, "rollback" as const].map((cancel) => said(end, { cancel }))).toEqual([
    alone,
    interrupt,
    rollback,
  ]);
});

test("a lost run is tried so often, and no more", () => {
  expect([1, 2, 3].map((attempt) => said(ENDS.lost, { attempt }))).toEqual(["again", "again", "error, thread error"]);
});

test.each(["cancelled", "lost"])("%s after its time limit: an error", (name) => {
  expect(said(ENDS[name], { timedOut: error })).toBe("error, thread error");
});
