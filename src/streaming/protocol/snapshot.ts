/** What a reader is told first when events it should have had cannot be had any more. Decisions and texts; no storage. */
import type { Json } from "../../executor/protocol.ts";
import { paramsText, protocolName } from "../../schemas/protocol-events.ts";
import type { ProtocolFrame } from "./frames.ts";

/** A run that has begun and ended. */
export interface EndedRun {
  readonly run_id: string;
  /** Epoch milliseconds. */
  readonly ended_at: number;
  /** Number of its last event; null where that is not known. */
  readonly told_to: number | null;
}

/** How a stream of a thread's events begins. */
export interface Opening {
  /** Nothing before this number is sent. */
  readonly resumes_at: number;
  /** The reader has seen something, and what followed it may be missing. */
  readonly isGap: boolean;
}

/**
 * Null: everything the reader asks for can be had. `ended`: newest first, at least all that ended after `since`; `kept`: runs whose
 * events can be had; `created_at`: of a thread that has a state which no run left (null: it has none).
 */
export function openingOf(
  ended: readonly EndedRun[],
  kept: ReadonlySet<string>,
  since: number | null,
  created_at: number | null,
): Opening | null {
  if (since === null) {
    const [newest] = ended;
    if (newest !== undefined) return kept.has(newest.run_id) ? null : { resumes_at: behind(newest), isGap: false };
    return created_at === null || kept.size > 0 ? null : { resumes_at: created_at * 1000, isGap: false };
  }
  const missing = ended.find((run) => lastOf(run) > since && !kept.has(run.run_id));
  return missing === undefined ? null : { resumes_at: behind(missing), isGap: true };
}

/** A run that begins in the millisecond in which another ends has its numbers behind what is told of that one. */
const lastOf = ({ told_to, ended_at }: EndedRun): number => told_to ?? ended_at * 1000 - 4;

/**
 * What is told instead of a run stands where the run ended: who has seen it, and comes again, has missed nothing of that run. Between
 * the end and this number is one for the gap; a snapshot has this one and the next.
 */
const behind = (run: EndedRun): number => lastOf(run) + 2;

/** The state of a thread's root, as the snapshot has it. */
export interface RootState {
  readonly checkpoint: {
    readonly id: string;
    readonly parent_id?: string | undefined;
    readonly step: number;
    readonly source: string;
  };
  readonly values: Json;
  /** Epoch milliseconds. */
  readonly at: number;
}

/** The two events that show a state: from `seq` on. */
export function snapshotFrames({ checkpoint, values, at }: RootState, seq: number): readonly ProtocolFrame[] {
  const event_id = `synth:snapshot:${checkpoint.id}`;
  return [
    {
      seq,
      event_id: `${event_id}:checkpoints`,
      method: "checkpoints",
      name: protocolName("checkpoints", []),
      params: paramsText([], at, undefined, JSON.stringify(checkpoint)),
    },
    {
      seq: seq + 1,
      event_id,
      method: "values",
      name: protocolName("values", []),
      params: paramsText([], at, undefined, values),
    },
  ];
}
