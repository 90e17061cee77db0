/** Which events a joiner sees who asks for some stream modes. */
import type { StreamMode } from "../schemas/runs.ts";

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
