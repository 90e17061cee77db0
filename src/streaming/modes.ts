/** Which events a joiner sees who asks for some stream modes, of a run or of a thread. */
import type { StreamMode, ThreadStreamMode } from "../schemas/runs.ts";

/** Event names that a mode produces, without the namespace suffix. */
const NAMES: Readonly<Record<StreamMode, readonly string[]>> = {
  values: ["values"],
  updates: ["updates"],
  messages: ["messages/metadata", "messages/partial", "messages/complete"],
  "messages-tuple": ["messages"],
  tasks: ["tasks"],
  checkpoints: ["checkpoints"],
  events: ["events"],
  debug: ["debug"],
  custom: ["custom"],
  tools: ["tools"],
};

const ALWAYS = ["metadata", "error"];

/** A filter over SSE event names (`values`, `values|ns:…`); `metadata` and `error` always pass. */
export function eventFilter(modes: readonly StreamMode[] | null): (event: string) => boolean {
  if (modes === null) return () => true;
  const names = new Set([...ALWAYS, ...modes.flatMap((mode) => NAMES[mode])]);
  return (event) => {
    const bar = event.indexOf("|");
    return names.has(bar === -1 ? event : event.slice(0, bar));
  };
}

/** What a watcher of a thread sees. */
export interface ThreadFilter {
  readonly runEvents: (event: string) => boolean;
  /** That a run has ended. */
  readonly ends: boolean;
  /** The state a run has left. */
  readonly states: boolean;
}

/** `run_modes`: all of the runs; `lifecycle`: their beginnings and ends; `state_update`: the state after each. */
export function threadFilter(modes: readonly ThreadStreamMode[]): ThreadFilter {
  const all = modes.includes("run_modes");
  const lifecycle = modes.includes("lifecycle");
  return {
    runEvents: (event) => all || (lifecycle && event === "metadata"),
    ends: all || lifecycle,
    states: modes.includes("state_update"),
  };
}
