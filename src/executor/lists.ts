/**
 * Lists that grow. A chat's messages are one channel value that is new with every step, and all but its end has been
 * stored before. Such a list is stored in parts, and this file says what of it is new.
 *
 * An item is the same as before when it is the same object and still says the same. To look at all of a long list each
 * time would cost as much as storing it, so what an item said is compared where a change is to be expected: at the list's
 * end (people edit the last message), and where a node has just returned the item.
 */

/** A list as the parent checkpoint has it. */
export interface StoredList {
  /** Version the list began with. */
  readonly list: string;
  readonly length: number;
  readonly items: readonly unknown[];
  /** What each item said when it was stored; undefined where nobody looked. */
  readonly prints: readonly (string | undefined)[];
}

/** Items at the end that are looked at whatever happens. */
const WATCHED = 4;

/** The list as it has just been stored, after `before` where it has grown. */
export function listAsStored(list: string, items: readonly unknown[], before?: StoredList): StoredList {
  const known = before?.prints ?? [];
  const prints = items.map((item, i) => (i < known.length ? known[i] : print(item)));
  // A copy: the graph may go on with the array it gave.
  return { list, length: items.length, items: [...items], prints };
}

/** The list as it came from storage. */
export function listAsLoaded(list: string, items: readonly unknown[]): StoredList {
  const prints = items.map((item, i) => (i >= items.length - WATCHED ? print(item) : undefined));
  return { list, length: items.length, items: [...items], prints };
}

/**
 * The items to add, when `value` is the stored list with something behind it; undefined when it has changed otherwise.
 * `returned`: what nodes have returned since.
 */
export function appendedItems(
  stored: StoredList,
  value: readonly unknown[],
  returned: ReadonlySet<unknown>,
): readonly unknown[] | undefined {
  if (value.length < stored.length) return undefined;
  for (let i = 0; i < stored.length; i += 1) {
    const item = value[i];
    if (item !== stored.items[i]) return undefined;
    if (typeof item !== "object" || item === null) continue;
    const isWatched = i >= stored.length - WATCHED || returned.has(item);
    if (isWatched && !saysTheSame(item, stored.prints[i])) return undefined;
  }
  return value.slice(stored.length);
}

/** What an item whose text nobody made is taken for. */
const TYPICAL_ITEM = 300;

/** About how many characters of JSON the list has; what is above `enough` may not be counted. */
export function sizeOfList({ prints }: StoredList, enough = Number.POSITIVE_INFINITY): number {
  let size = 0;
  for (let i = 0; i < prints.length && size < enough; i += 1) size += prints[i]?.length ?? TYPICAL_ITEM;
  return size;
}

/** True when these are the items of the list. */
export const hasItems = ({ items, length }: StoredList, value: readonly unknown[]): boolean =>
  value.length === length && value.every((item, i) => item === items[i]);

/** True while the watched end of a list says what it said: nobody has changed it in passing. */
export function isUntouched({ items, prints, length }: StoredList): boolean {
  for (let i = Math.max(length - WATCHED, 0); i < length; i += 1) if (!saysTheSame(items[i], prints[i])) return false;
  return true;
}

/** An item that has no text never does. */
const saysTheSame = (item: unknown, before: string | undefined): boolean =>
  before !== undefined && print(item) === before;

/** The objects among a node's writes: a value, and the items of a value that is a list. */
export function noteReturned(value: unknown, returned: Set<unknown>): void {
  for (const item of Array.isArray(value) ? value : [value]) {
    if (typeof item === "object" && item !== null) returned.add(item);
  }
}

function print(item: unknown): string | undefined {
  try {
    return JSON.stringify(item);
  } catch {
    return undefined;
  }
}
