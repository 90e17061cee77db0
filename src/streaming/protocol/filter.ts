/** Which events a subscription gets. Source: `matchesSubscription` of @langchain/langgraph-sdk. */
import { type ProtocolName, parseProtocolName } from "../../schemas/protocol-events.ts";
import { GAP } from "./frames.ts";

export interface ProtocolFilter {
  readonly channels: ReadonlySet<string>;
  /** Events at or below one of these; null: all. */
  readonly namespaces: readonly (readonly string[])[] | null;
  /** Levels below the namespace that matched; null: all. Without namespaces it has no effect. */
  readonly depth: number | null;
}

/** As a client writes it. */
export interface FilterRequest {
  readonly channels: readonly string[];
  readonly namespaces?: readonly (readonly string[])[] | null | undefined;
  readonly depth?: number | null | undefined;
}

export function filterOf({ channels, namespaces, depth }: FilterRequest): ProtocolFilter {
  return {
    channels: new Set(channels),
    namespaces: namespaces == null || namespaces.length === 0 ? null : namespaces,
    depth: depth ?? null,
  };
}

/** Whether an event of this channel and namespace is wanted. `custom` has every `custom:<name>`. */
export function matches(
  { channels, namespaces, depth }: ProtocolFilter,
  { channel, namespace }: Pick<ProtocolName, "channel" | "namespace">,
): boolean {
  const isWanted = channels.has(channel) || (channel.startsWith("custom:") && channels.has("custom"));
  if (!isWanted) return false;
  if (namespaces === null) return true;
  return namespaces.some(
    (prefix) => isPrefix(prefix, namespace) && (depth === null || namespace.length - prefix.length <= depth),
  );
}

/** A segment without a runtime id stands for all of that name. */
const isPrefix = (prefix: readonly string[], namespace: readonly string[]): boolean =>
  prefix.length <= namespace.length &&
  prefix.every((segment, at) => {
    const given = namespace[at] ?? "";
    return given === segment || (!segment.includes(":") && nameOf(given) === segment);
  });

function nameOf(segment: string): string {
  const colon = segment.indexOf(":");
  return colon === -1 ? segment : segment.slice(0, colon);
}

/** Names come again and again, each task brings new ones: so many are remembered. */
const REMEMBERED = 1000;

/** The filter over names of events in logs. Gaps always pass. */
export function wantsName(filter: ProtocolFilter): (name: string) => boolean {
  return remembering((name) => name === `@${GAP}` || matches(filter, parseProtocolName(name)));
}

/** The same function, which answers for a name it has just seen without working it out again. */
export function remembering<T>(of: (name: string) => T): (name: string) => T {
  const known = new Map<string, T>();
  return (name) => {
    const before = known.get(name);
    if (before !== undefined) return before;
    const now = of(name);
    if (known.size >= REMEMBERED) known.clear();
    known.set(name, now);
    return now;
  };
}
