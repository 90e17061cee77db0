/**
 * What a run tells of the state it leaves. The thread's values hold long lists in parts (storage/tables/thread-values.ts),
 * so of a list that has grown only the new items are made text and cross to the main thread.
 */
import type { GrownList, GrownValues, Json, Members } from "./protocol.ts";
import type { SkeinSaver } from "./saver.ts";
import { isPlainRecord, itemsJson, stateJson } from "./serialize.ts";

/** `anew`: nothing is left out, for who wants the values whole. */
export function shownValues(
  state: unknown,
  saver: Pick<SkeinSaver, "longList">,
  { anew }: { readonly anew: boolean },
): Json | GrownValues {
  if (!isPlainRecord(state)) return stateJson(state);
  const lists = Object.entries(state).flatMap(([member, value]) => grownList(member, value, saver, anew) ?? []);
  if (lists.length === 0) return stateJson(state);
  const told = new Set(lists.map(({ member }) => member));
  const rest = Object.fromEntries(Object.entries(state).filter(([member]) => !told.has(member)));
  return { rest: stateJson(rest), lists };
}

function grownList(
  member: string,
  value: unknown,
  saver: Pick<SkeinSaver, "longList">,
  anew: boolean,
): GrownList | undefined {
  if (!Array.isArray(value)) return undefined;
  const list = saver.longList(member, value);
  if (list === undefined) return undefined;
  const from = anew ? 0 : list.known;
  return { member, version: list.version, from, length: value.length, items: itemsJson(value, from) };
}

/** Names of the lists that these values tell in parts. */
export function listsInParts(values: Json | GrownValues | null): ReadonlySet<string> {
  if (values === null || typeof values === "string") return new Set();
  return new Set(values.lists.map(({ member }) => member));
}

/** An output as members of the state, when it is nothing else; else undefined. To say a long state twice costs twice. */
export function asMembers(output: unknown, state: unknown): { readonly members: Members } | undefined {
  if (typeof output !== "object" || output === null || typeof state !== "object" || state === null) return undefined;
  const [mine, theirs] = [output as Record<string, unknown>, state as Record<string, unknown>];
  if (Array.isArray(output)) return undefined;
  const names = Object.keys(mine);
  if (!names.every((name) => Object.hasOwn(theirs, name) && sameItems(mine[name], theirs[name]))) return undefined;
  return { members: names.length === Object.keys(theirs).length ? null : names };
}

const sameItems = (a: unknown, b: unknown): boolean =>
  a === b || (Array.isArray(a) && Array.isArray(b) && a.length === b.length && a.every((item, i) => item === b[i]));

/** What an outcome says of an output: nothing that the values beside it say already. */
export function saidOutput(output: unknown, state: unknown, values: Json | GrownValues | null): Json | Members {
  const part = values === null ? undefined : asMembers(output, state);
  if (part === undefined) return stateJson(output);
  // Values that are whole are cut by no one.
  return part.members === null || typeof values !== "string" ? part.members : stateJson(output);
}
