/** What creating a run means for the runs already in flight on its thread. Pure. */
import type { CancelAction } from "../executor/protocol.ts";
import type { MultitaskStrategy } from "../schemas/runs.ts";

export type MultitaskDecision =
  | { readonly kind: "start" }
  | { readonly kind: "refuse"; readonly busyWith: string }
  | { readonly kind: "replace"; readonly action: CancelAction };

/** `busyWith`: a pending or running run of the thread, when there is one. */
export function decide(strategy: MultitaskStrategy, busyWith: string | undefined): MultitaskDecision {
  if (busyWith === undefined) return { kind: "start" };
  switch (strategy) {
    case "enqueue":
      return { kind: "start" };
    case "reject":
      return { kind: "refuse", busyWith };
    case "interrupt":
    case "rollback":
      return { kind: "replace", action: strategy };
    default:
      return strategy satisfies never;
  }
}
