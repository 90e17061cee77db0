/**
 * Events of streaming v2 as those of stream modes: for those who follow a run that a command of streaming v2 made, and know modes
 * only. Each event becomes one or none and keeps its index.
 */
import type { Json } from "../../executor/protocol.ts";
import { dataOf, isProtocolEvent, parseProtocolName } from "../../schemas/protocol-events.ts";
import type { RunEvent } from "../events.ts";
import { follow } from "../follow.ts";
import type { RunLog } from "../run-log.ts";
import { remembering } from "./filter.ts";

type Members = Readonly<Record<string, unknown>>;

/** Null: no mode has such events. */
const modeName = remembering((name: string): string | null => {
  const { method, namespace } = parseProtocolName(name);
  switch (method) {
    case "lifecycle":
    case "input.answered":
      return null;
    // A graph shows the interrupts of those below it as its own: who reads modes looks for them at the root.
    case "input.requested":
      return "values";
    default:
      return [method, ...namespace].join("|");
  }
});

export interface FollowModesOptions {
  /** Index of the last event the reader has; -1 from the start. */
  readonly after: number;
  readonly signal: AbortSignal;
  /** By the names that events of modes have. */
  readonly wants: (event: string) => boolean;
  /** Whether the run has events of streaming v2 instead of those of modes, and not beside them. Asked when there are any. */
  readonly isNative: (run_id: string) => Promise<boolean>;
}

/** As `follow`, whatever the run was made for. */
export async function* followModes(
  log: RunLog,
  { after, signal, wants, isNative }: FollowModesOptions,
): AsyncGenerator<readonly RunEvent[], void> {
  let native: boolean | undefined;
  const project = asModes();
  const wantsEither = (name: string): boolean => {
    if (!isProtocolEvent(name)) return wants(name);
    const mode = native === false ? null : modeName(name);
    return mode !== null && wants(mode);
  };
  for await (const events of follow(log, { after, signal, wants: wantsEither })) {
    if (events.some(({ event }) => isProtocolEvent(event))) native ??= await isNative(log.run_id);
    const shown = events.flatMap((event) => {
      if (!isProtocolEvent(event.event)) return [event];
      return native === true ? (project(event) ?? []) : [];
    });
    if (shown.length > 0) yield shown;
  }
}

/** The projection of one run's events, in order. It remembers how much of each content block has been said. */
export function asModes(): (event: RunEvent) => RunEvent | undefined {
  const messages = messagePieces();
  return ({ id, event, data: params }) => {
    const name = modeName(event);
    if (name === null) return undefined;
    const data = shaped(event, params, messages);
    return data === undefined ? undefined : { id, event: name, data };
  };
}

function shaped(event: string, params: Json, messages: (said: Members) => Json | undefined): Json | undefined {
  const { method, channel } = parseProtocolName(event);
  const data = dataOf(params);
  switch (method) {
    case "updates": {
      const { node, values } = JSON.parse(data) as Members;
      return JSON.stringify({ [String(node)]: values });
    }
    case "custom":
      return channel === "custom" || channel.startsWith("custom:")
        ? JSON.stringify((JSON.parse(data) as Members).payload)
        : undefined;
    case "input.requested": {
      const { interrupt_id, payload } = JSON.parse(data) as Members;
      return JSON.stringify({ __interrupt__: [{ id: interrupt_id, value: payload }] });
    }
    case "tools":
      return toolEvent(JSON.parse(data) as Members);
    case "messages":
      return messages({ ...(JSON.parse(data) as Members), node: (JSON.parse(params) as Members).node });
    default:
      return data;
  }
}

function toolEvent({ event, tool_call_id, tool_name, input, delta, output, message }: Members): Json | undefined {
  const made = (members: Members): Json => JSON.stringify({ ...members, toolCallId: tool_call_id });
  switch (event) {
    case "tool-started":
      return made({ event: "on_tool_start", name: tool_name, input });
    case "tool-output-delta":
      return made({ event: "on_tool_event", data: delta });
    case "tool-finished":
      return made({ event: "on_tool_end", output });
    case "tool-error":
      return made({ event: "on_tool_error", error: { message } });
    default:
      return undefined;
  }
}

interface Said {
  readonly role: unknown;
  /** By the block's index: characters of text that have been said. */
  readonly text: Map<unknown, number>;
}

/** Events of messages → `[message, metadata]`, pieces that add up to the message. */
function messagePieces(): (event: Members) => Json | undefined {
  const open = new Map<unknown, Said>();
  return ({ event, id, run_id, node, role, index, content, delta, usage }) => {
    const said = open.get(id) ?? { role: role ?? "ai", text: new Map<unknown, number>() };
    open.set(id, said);
    const piece = (members: Members): Json =>
      JSON.stringify([
        { id, type: said.role, content: "", ...EMPTY, ...members },
        { langgraph_node: node, run_id },
      ]);
    switch (event) {
      case "content-block-start":
        if (!said.text.has(index)) said.text.set(index, 0);
        return undefined;
      case "content-block-delta": {
        const { type, text, reasoning } = delta as Members;
        if (type === "text-delta") {
          said.text.set(index, (said.text.get(index) ?? 0) + String(text).length);
          return piece({ content: text });
        }
        if (type !== "reasoning-delta") return undefined;
        said.text.set(index, (said.text.get(index) ?? 0) + String(reasoning).length);
        return piece({ content: [{ type: "reasoning", reasoning, index }] });
      }
      case "content-block-finish":
        return finished(content as Members, index, said, piece);
      case "message-finish":
        open.delete(id);
        return usage === undefined ? undefined : piece({ usage_metadata: usage });
      case "error":
        open.delete(id);
        return undefined;
      default:
        return undefined;
    }
  };
}

const EMPTY = { additional_kwargs: {}, response_metadata: {}, tool_calls: [], invalid_tool_calls: [] };

/** What a block that is whole has that its pieces did not. */
function finished(block: Members, index: unknown, { text }: Said, piece: (members: Members) => Json): Json | undefined {
  const { type } = block;
  const before = text.get(index);
  if (type === "tool_call") {
    const { id, name, args } = block;
    const chunk = { index, id, name, args: JSON.stringify(args ?? {}), type: "tool_call_chunk" };
    return piece({ tool_calls: [{ id, name, args, type }], tool_call_chunks: [chunk] });
  }
  if (type === "invalid_tool_call") return piece({ invalid_tool_calls: [block] });
  if (type !== "text" && type !== "reasoning") return piece({ content: [{ ...block, index }] });
  const whole = String(block[type] ?? "");
  // A reader that came in the middle of the block does not know how much it has missed.
  if (before === undefined || whole.length <= before) return undefined;
  text.set(index, whole.length);
  const rest = whole.slice(before);
  return piece({ content: type === "text" ? rest : [{ type, reasoning: rest, index }] });
}
