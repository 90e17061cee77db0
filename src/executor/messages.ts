/**
 * LangGraph's reducer of messages, for lists that only grow.
 *
 * It looks at every message of the list at each write: coerced? an id? whose id is it? On a thread of two thousand messages
 * that is a millisecond for each step. Here what is known of a list from the last time is checked by identity and id, which
 * costs microseconds, and LangGraph's own reducer sees only what is new. Whatever is not a plain addition (a replaced or
 * removed message, a list that somebody else has made) goes to it whole, so the result is always its result.
 */
import type { ChannelLike, GraphLike, LangGraph } from "./langgraph.ts";

/** A message as LangGraph leaves it: coerced, with an id. */
interface Settled {
  readonly id: string;
}

export type MessagesReducer = (left: unknown, right: unknown) => unknown[];

/** Messages that came out of the reducer as one list. Forks share the beginning of it. */
class Lineage {
  readonly #messages: Settled[];
  readonly #ids: string[];
  readonly #places: Map<string, number>;

  constructor(messages: readonly Settled[]) {
    this.#messages = [...messages];
    this.#ids = messages.map(({ id }) => id);
    this.#places = new Map(this.#ids.map((id, place) => [id, place]));
  }

  /** The list is the beginning of this one, and nobody has changed the id of a message since. */
  begins(list: readonly unknown[]): list is readonly Settled[] {
    const messages = this.#messages;
    if (list.length > messages.length) return false;
    return list.every((message, place) => message === messages[place] && messages[place]?.id === this.#ids[place]);
  }

  /** One of the first `length` messages has this id. */
  has(id: string, length: number): boolean {
    const place = this.#places.get(id);
    return place !== undefined && place < length;
  }

  /** Adds to the first `length` messages; false when others stand there already. */
  append(length: number, added: readonly Settled[]): boolean {
    if (length !== this.#messages.length) return false;
    for (const message of added) {
      this.#places.set(message.id, this.#messages.length);
      this.#messages.push(message);
      this.#ids.push(message.id);
    }
    return true;
  }
}

/** Below this length LangGraph's own way costs next to nothing. */
const LONG = 32;

/** The same results as `reduce`, which must be LangGraph's reducer of messages. */
export function incremental(reduce: MessagesReducer): MessagesReducer {
  /** By the last message of a list. */
  const lineages = new WeakMap<object, Lineage>();

  const note = (merged: unknown[]): unknown[] => {
    const last = merged.at(-1) as Settled | undefined;
    if (last !== undefined && merged.length >= LONG) lineages.set(last, new Lineage(merged as Settled[]));
    return merged;
  };
  const lineageOf = (list: readonly unknown[]): Lineage | undefined => {
    const last = list.at(-1);
    const lineage = typeof last === "object" && last !== null ? lineages.get(last) : undefined;
    return lineage?.begins(list) === true ? lineage : undefined;
  };

  return (left, right) => {
    if (!Array.isArray(left) || left.length < LONG) return note(reduce(left, right));
    const lineage = lineageOf(left);
    const added = lineage === undefined ? undefined : newMessages(reduce, right);
    const isAddition = added?.every(({ id }) => lineage?.has(id, left.length) === false) === true;
    if (lineage === undefined || added === undefined || !isAddition) return note(reduce(left, right));
    const merged = left.concat(added);
    if (!lineage.append(left.length, added)) return note(merged);
    lineages.set(merged.at(-1) as Settled, lineage);
    return merged;
  };
}

/** The messages of a write, when each stands for itself; undefined when one removes or replaces another. */
function newMessages(reduce: MessagesReducer, right: unknown): readonly Settled[] | undefined {
  try {
    const messages = reduce([], right) as readonly Settled[];
    return messages.length === (Array.isArray(right) ? right.length : 1) ? messages : undefined;
  } catch {
    // A removal of what is in the list, or a mistake that the whole list will show again.
    return undefined;
  }
}

const incrementals = new WeakMap<MessagesReducer, MessagesReducer>();

function incrementalOf(reduce: MessagesReducer): MessagesReducer {
  let made = incrementals.get(reduce);
  if (made === undefined) {
    made = incremental(reduce);
    incrementals.set(reduce, made);
  }
  return made;
}

type Channels = GraphLike["channels"];
const quick = new WeakMap<Channels, Channels>();

/** The graph's channels, those that LangGraph's reducer of messages serves with ours in its place. */
export function quickChannels(channels: Channels, { messagesStateReducer: reduce }: LangGraph): Channels {
  if (reduce === undefined) return channels;
  let made = quick.get(channels);
  if (made === undefined) {
    const entries = Object.entries(channels).map(([name, channel]) => [name, quickChannel(channel, reduce)] as const);
    made = Object.fromEntries(entries);
    quick.set(channels, made);
  }
  return made;
}

function quickChannel(channel: ChannelLike, reduce: MessagesReducer): ChannelLike {
  if (channel.lc_graph_name !== "BinaryOperatorAggregate" || channel.operator !== reduce) return channel;
  const copy = Object.create(Object.getPrototypeOf(channel) as object) as ChannelLike;
  return Object.assign(copy, channel, { operator: incrementalOf(reduce) });
}
