/**
 * Events of stream modes as events of streaming v2: for runs that were made before streaming v2 had to do with their thread. There
 * is less in them than in a run made for it: no messages, no beginnings and ends of subgraphs.
 */
import type { Json } from "../../executor/protocol.ts";
import { type ProtocolMethod, paramsText, protocolName } from "../../schemas/protocol-events.ts";
import type { RunEvent } from "../events.ts";
import { remembering } from "./filter.ts";
import { eventId, type ProtocolFrame, rootEventId, seqOf } from "./frames.ts";

export interface PlainRun {
  readonly run_id: string;
  readonly place: number;
  readonly graph_name: string;
}

/** What one event becomes. */
interface Made {
  readonly method: ProtocolMethod;
  readonly data: Json;
  readonly node?: string;
}

type Members = Readonly<Record<string, unknown>>;

const text = (value: unknown): Json => JSON.stringify(value) ?? "null";
const membersOf = (data: Json): Members => (JSON.parse(data) as Members | null) ?? {};
const asItIs =
  (method: ProtocolMethod) =>
  (data: Json): readonly Made[] => [{ method, data }];

/** By the name of the mode's event; those that are not here become nothing. */
const MADE: Readonly<Record<string, (data: Json, run: PlainRun) => readonly Made[]>> = {
  metadata: (_, { graph_name }) => [{ method: "lifecycle", data: text({ event: "running", graph_name }) }],
  values: (data) => {
    if (!data.startsWith('{"__interrupt__":')) return [{ method: "values", data }];
    return interruptsOf(membersOf(data)).map((asked) => ({ method: "input.requested", data: text(asked) }));
  },
  updates: (data) =>
    Object.entries(membersOf(data)).flatMap(([node, values]) =>
      node === "__interrupt__" ? [] : [{ method: "updates" as const, node, data: text({ node, values }) }],
    ),
  tasks: asItIs("tasks"),
  custom: (data) => [{ method: "custom", data: `{"payload":${data}}` }],
  checkpoints: (data) => {
    const { id, parent_id, step, source } = membersOf(data);
    // With `stream_mode: checkpoints` they are whole checkpoints, which do not say their ids.
    if (typeof id !== "string") return [];
    return [{ method: "checkpoints", data: text({ id, parent_id, step, source }) }];
  },
  tools: (data) => toolEvent(membersOf(data)),
};

/** The names under which a filter knows what an event of this name may become. */
const POSSIBLE: Readonly<Record<string, readonly ProtocolMethod[]>> = {
  metadata: ["lifecycle"],
  values: ["values", "input.requested"],
  updates: ["updates"],
  tasks: ["tasks"],
  custom: ["custom"],
  checkpoints: ["checkpoints"],
  tools: ["tools"],
};

function interruptsOf(values: Members): readonly Members[] {
  const interrupts = Array.isArray(values.__interrupt__) ? (values.__interrupt__ as Members[]) : [];
  return interrupts.flatMap(({ id, value }) =>
    typeof id === "string" ? [{ interrupt_id: id, payload: value ?? null, value: value ?? null }] : [],
  );
}

function toolEvent({ event, toolCallId, name, input, data, output, error }: Members): readonly Made[] {
  const tool_call_id = toolCallId;
  const made = (members: Members): readonly Made[] => [{ method: "tools", data: text({ ...members, tool_call_id }) }];
  switch (event) {
    case "on_tool_start":
      return made({ event: "tool-started", tool_name: name, input });
    case "on_tool_event":
      return made({ event: "tool-output-delta", delta: data });
    case "on_tool_end":
      return made({ event: "tool-finished", output });
    case "on_tool_error":
      return made({ event: "tool-error", message: (error as Members | null | undefined)?.message ?? String(error) });
    default:
      return [];
  }
}

interface PlainName {
  readonly mode: string;
  readonly namespace: readonly string[];
}

const parse = remembering((name: string): PlainName => {
  const [mode = "", ...namespace] = name.split("|");
  return { mode, namespace };
});

/** A filter over names of plain events: whether any of what it may become is wanted. */
export function wantsPlain(wants: (name: string) => boolean): (name: string) => boolean {
  return remembering((name) => {
    const { mode, namespace } = parse(name);
    return (POSSIBLE[mode] ?? []).some((method) => wants(protocolName(method, namespace)));
  });
}

/** All that a plain event becomes: none, one or several frames, which share a number. */
export function fromModes({ id, event, data }: RunEvent, run: PlainRun): readonly ProtocolFrame[] {
  const { mode, namespace } = parse(event);
  const { run_id, place } = run;
  const made = MADE[mode]?.(data, run) ?? [];
  // When it was made is not known; the place of its run is the same in each replay.
  const at = Math.floor(place / 1000);
  return made.map((one, part) => {
    const own = mode === "metadata" ? rootEventId(run_id, place, id) : eventId(place, id);
    return {
      seq: seqOf(place, id),
      event_id: part === 0 ? own : `${own}.${part}`,
      ...(made.length > 1 ? { isPart: true } : {}),
      method: one.method,
      name: protocolName(one.method, namespace),
      params: paramsText(namespace, at, one.node, one.data),
    };
  });
}
