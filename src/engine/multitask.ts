/** What creating a run means for the runs already in flight on its thread. Pure. */
import type { CancelAction } from "../executor/protocol.ts";
import type { MultitaskStrategy } from "../schemas/runs.ts";

export type MultitaskDecision =
  | { readonly kind: "start" }
  | { readonly kind: "refuse"; readonly busyWith: string }
  | { readonly kind: "replace"; readonly action: CancelAction; readonly runIds: readonly string[] };

/** `inFlight`: ids of the thread's pending and running runs, oldest first. */
export function decide(strategy: MultitaskStrategy, inFlight: readonly string[]): MultitaskDecision {
  const [oldest] = inFlight;
  if (oldest === undefined) return { kind: "start" };
  switch (strategy) {
    case "enqueue":
      return { kind: "start" };
    case "reject":
      return { kind: "refuse", busyWith: oldest };
    case "interrupt":
    case "rollback":
      return { kind: "replace", action: strategy, runIds: inFlight };
    default:
      return strategy satisfies never;
  }
}
