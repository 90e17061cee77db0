/** What an attempt's end means for its run and thread. Pure: the table of the run engine. */
import type { ErrorBody } from "../errors.ts";
import type { CancelAction, Json, Members, Outcome, Snapshot } from "../executor/protocol.ts";
import type { RunStatus } from "../schemas/runs.ts";
import type { ThreadStatus } from "../schemas/threads.ts";
import type { RunOutput } from "../streaming/run-log.ts";

/** How an attempt can end, seen from the main thread: as the executor says, or because the executor died. */
export type AttemptEnd = Outcome | { readonly kind: "lost"; readonly reason: string };

export type NextStep =
  /** The run has ended. */
  | { readonly kind: "settle"; readonly ending: Ending }
  /** Another attempt follows; `spendAttempt` false takes this one back. */
  | { readonly kind: "requeue"; readonly spendAttempt: boolean }
  /** The run and its checkpoints go as if it had never been. */
  | { readonly kind: "erase" };

export interface Ending {
  readonly status: Extract<RunStatus, "success" | "error" | "interrupted">;
  /** Status of the thread when no other run is in flight. */
  readonly thread: Exclude<ThreadStatus, "busy">;
  readonly snapshot: Snapshot | null;
  /** Names of the snapshot's values, or null for all of them, where these are the output. */
  readonly output: Json | Members;
  readonly error: ErrorBody | null;
}

export interface AttemptFacts {
  readonly attempt: number;
  readonly maxAttempts: number;
  /** The intent recorded on the run, if any: whoever recorded it was promised that it counts, however the graph ended. */
  readonly cancel: CancelAction | null;
  /** Set when the run had outlived its time limit. */
  readonly timedOut: ErrorBody | null;
}

export function afterAttempt(end: AttemptEnd, facts: AttemptFacts): NextStep {
  switch (end.kind) {
    case "success": {
      const status = facts.cancel === "interrupt" ? "interrupted" : "success";
      return unlessErased(facts, settle(status, "idle", end.snapshot, end.output, null));
    }
    case "interrupted":
      return unlessErased(facts, settle("interrupted", "interrupted", end.snapshot, end.output, null));
    case "error":
      return unlessErased(facts, settle("error", restAfterError(end), end.snapshot, null, end.error));
    case "cancelled":
      return afterCancel(end.snapshot, facts);
    case "drained":
      return facts.cancel === null ? { kind: "requeue", spendAttempt: false } : afterCancel(null, facts);
    case "lost":
      return afterLoss(end.reason, facts);
    default:
      return end satisfies never;
  }
}

/** Who was refused leaves a question where it was. */
function restAfterError({ snapshot, untouched }: Extract<Outcome, { kind: "error" }>): Ending["thread"] {
  if (untouched !== true) return "error";
  return snapshot?.interrupted === true ? "interrupted" : "idle";
}

/** The graph came to its end while its rollback was being asked for. */
const unlessErased = ({ cancel }: AttemptFacts, step: NextStep): NextStep =>
  cancel === "rollback" ? { kind: "erase" } : step;

function afterCancel(snapshot: Snapshot | null, facts: AttemptFacts): NextStep {
  if (facts.timedOut !== null) return settle("error", "error", snapshot, null, facts.timedOut);
  if (facts.cancel === "rollback") return { kind: "erase" };
  return settle("interrupted", waits(snapshot) ? "interrupted" : "idle", snapshot, null, null);
}

function afterLoss(reason: string, facts: AttemptFacts): NextStep {
  if (facts.timedOut !== null) return settle("error", "error", null, null, facts.timedOut);
  if (facts.cancel === "rollback") return { kind: "erase" };
  if (facts.cancel === "interrupt") return settle("interrupted", "idle", null, null, null);
  if (facts.attempt < facts.maxAttempts) return { kind: "requeue", spendAttempt: true };
  return settle("error", "error", null, null, lostError(reason, facts));
}

/** The client's answer when the last attempt was lost: it says why, and that there were several. */
export function lostError(reason: string, facts: Pick<AttemptFacts, "attempt" | "maxAttempts">): ErrorBody {
  return { error: "RunLostError", message: `${reason} (attempt ${facts.attempt} of ${facts.maxAttempts})` };
}

/** What `wait` answers: the output; the error in `__error__`; for a cancelled run the values it left. */
export function finalOutput({ output, error, snapshot }: Ending): RunOutput | null {
  if (error !== null) return errorOutput(error);
  if (typeof output === "string") return output;
  const { values, checkpoint_id } = snapshot ?? { values: null, checkpoint_id: null };
  if (values === null || typeof values === "string") return values;
  return checkpoint_id === null ? null : { members: output, checkpoint_id };
}

export const errorOutput = (error: ErrorBody): Json => `{"__error__":${JSON.stringify(error)}}`;

/** A cancelled run leaves its thread waiting only when a dynamic interrupt was already pending. */
const waits = (snapshot: Snapshot | null): boolean =>
  snapshot?.interrupted === true && /"\s*:\s*\[\s*\{/.test(snapshot.interrupts);

function settle(
  status: Ending["status"],
  thread: Ending["thread"],
  snapshot: Snapshot | null,
  output: Json | Members,
  error: ErrorBody | null,
): NextStep {
  return { kind: "settle", ending: { status, thread, snapshot, output, error } };
}
