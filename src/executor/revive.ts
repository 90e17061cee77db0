/**
 * Stored values → values, faster than the serde does it and with the same outcome.
 *
 * The serde walks every value asynchronously and builds each message from JSON text of its own. Text without a record of
 * the serde's (`"lc"`) is plain JSON and needs no walk. For states that are only shown, what has been built is kept and
 * shared: histories repeat each message in every state after it, and clients ask for the same states again and again.
 */
import type { Serialized } from "./protocol.ts";

interface Serde {
  loadsTyped(type: string, data: Uint8Array | string): Promise<unknown>;
}

/** A value of its own: who gets it may change it. */
export function revive(serde: Serde, [type, data]: Serialized): Promise<unknown> | unknown {
  if (type !== "json") return serde.loadsTyped(type, data);
  const text = textOf(data);
  return text.includes('"lc"') ? serde.loadsTyped(type, text) : (JSON.parse(text) as unknown);
}

/** Characters of stored text whose values are kept. */
const SHARED_LIMIT = 16 * 1024 * 1024;

/** Values by their stored text, newest use last. One for each copy of LangGraph: another copy has other classes. */
export class SharedValues {
  readonly #values = new Map<string, unknown>();
  #size = 0;

  /** A value that others have too: nobody may change it. */
  async revive(serde: Serde, [type, data]: Serialized): Promise<unknown> {
    if (type !== "json") return serde.loadsTyped(type, data);
    const text = textOf(data);
    if (this.#values.has(text)) return this.#known(text);
    const value = text.includes('"lc"') ? await this.#build(serde, text) : (JSON.parse(text) as unknown);
    this.#keep(text, value);
    return value;
  }

  /** Each message in it is one of those that are kept. */
  async #build(serde: Serde, text: string): Promise<unknown> {
    const parsed = JSON.parse(text) as unknown;
    const records: string[] = [];
    if (!collect(parsed, records)) return serde.loadsTyped("json", text);
    const built = await Promise.all(records.map((record) => this.#message(serde, record)));
    let next = 0;
    return replaced(parsed, () => built[next++]);
  }

  async #message(serde: Serde, record: string): Promise<unknown> {
    if (this.#values.has(record)) return this.#known(record);
    const value = await serde.loadsTyped("json", record);
    this.#keep(record, value);
    return value;
  }

  #known(text: string): unknown {
    const value = this.#values.get(text);
    this.#values.delete(text);
    this.#values.set(text, value);
    return value;
  }

  #keep(text: string, value: unknown): void {
    if (text.length > SHARED_LIMIT || this.#values.has(text)) return;
    this.#values.set(text, value);
    this.#size += text.length;
    for (const oldest of this.#values.keys()) {
      if (this.#size <= SHARED_LIMIT) return;
      this.#values.delete(oldest);
      this.#size -= oldest.length;
    }
  }
}

function textOf(data: Uint8Array | string): string {
  if (typeof data === "string") return data;
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("utf8");
}

/** The serialised objects in a value, as JSON text, in the order of a walk. False: it has records of another kind. */
function collect(value: unknown, records: string[]): boolean {
  if (typeof value !== "object" || value === null) return true;
  if (Array.isArray(value)) return value.every((item) => collect(item, records));
  if (isRecord(value)) {
    records.push(JSON.stringify(value));
    return true;
  }
  if ("lc" in value) return false;
  return Object.values(value).every((item) => collect(item, records));
}

/** The value with each serialised object replaced by what `next` gives, in the same order. */
function replaced(value: unknown, next: () => unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (isRecord(value)) return next();
  const container = value as Record<string, unknown>;
  for (const key of Object.keys(container)) container[key] = replaced(container[key], next);
  return container;
}

const isRecord = (value: object): boolean => {
  const { lc, type, id } = value as { lc?: unknown; type?: unknown; id?: unknown };
  return lc === 1 && type === "constructor" && Array.isArray(id);
};
