/**
 * Events of streaming v2 as a run's log has them. Their names begin with `@`, which no mode of v1 does: `@method|ns|ns`, and
 * `@custom:name|ns` for a named custom event. Their data is the JSON text of the event's `params`, made once, in the executor.
 */

/** The method of an event on the wire. Source: protocol `Event`. */
export const PROTOCOL_METHODS = [
  "values",
  "updates",
  "messages",
  "tools",
  "lifecycle",
  "input.requested",
  "input.answered",
  "checkpoints",
  "tasks",
  "custom",
] as const;
export type ProtocolMethod = (typeof PROTOCOL_METHODS)[number];

export interface ProtocolName {
  readonly method: ProtocolMethod;
  /** What a subscription names to get it: the method, `input`, or `custom:<name>`. */
  readonly channel: string;
  /** `name:runtime_id` segments; empty at the root. */
  readonly namespace: readonly string[];
}

const AT = 64;

export const isProtocolEvent = (name: string): boolean => name.charCodeAt(0) === AT;

/** The name in a log of an event of `method`; `custom:<name>` for a named custom one. */
export function protocolName(method: ProtocolMethod | `custom:${string}`, namespace: readonly string[]): string {
  const named = method.startsWith("custom:") ? `custom:${encodeURIComponent(method.slice("custom:".length))}` : method;
  return `@${[named, ...namespace].join("|")}`;
}

/** The reverse of `protocolName`. Throws for a name that is none. */
export function parseProtocolName(name: string): ProtocolName {
  const [head = "", ...namespace] = name.slice(1).split("|");
  const [text, label] = head.split(":", 2);
  const method = PROTOCOL_METHODS.find((known) => known === text);
  if (!isProtocolEvent(name) || method === undefined) throw new Error(`${name} is no name of a protocol event`);
  if (label !== undefined) return { method, channel: `custom:${decodeURIComponent(label)}`, namespace };
  return { method, channel: method.startsWith("input.") ? "input" : method, namespace };
}

/**
 * The text of an event's `params`. `timestamp`: ms since 1970, of when it was made, so that a replay says the same. `data` is JSON
 * text and comes last, so that `dataOf` finds it without parsing.
 */
export function paramsText(
  namespace: readonly string[],
  timestamp: number,
  node: string | undefined,
  data: string,
): string {
  const from = node === undefined ? "" : `,"node":${JSON.stringify(node)}`;
  return `{"namespace":${JSON.stringify(namespace)},"timestamp":${timestamp}${from},"data":${data}}`;
}

const DATA = ',"data":';

/** The JSON text of `data` in the text of `params`. Quotes within strings are escaped, so the first match is the member. */
export const dataOf = (params: string): string => params.slice(params.indexOf(DATA) + DATA.length, -1);
