/** The store against the simplest thing that could be it: a list of items. */
import { toUSVString } from "node:util";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { StoreItem, StoreOperation } from "../../src/executor/protocol.ts";
import { makeStore } from "./make-store.ts";
import { eachDialect, NOW } from "./support.ts";

interface ModelItem {
  readonly namespace: readonly string[];
  readonly key: string;
  readonly value: Record<string, unknown>;
  readonly created_at: number;
  readonly updated_at: number;
  readonly ttl: number | null;
  expires_at: number;
}

type Match = Extract<StoreOperation, { op: "list_namespaces" }>["conditions"][number];

class Model {
  #items: ModelItem[] = [];

  run(operation: StoreOperation, now: number): unknown {
    const live = this.#items.filter((item) => item.expires_at > now);
    switch (operation.op) {
      case "put": {
        const before = live.find((item) => isAt(item, operation));
        this.#items = live.filter((item) => item !== before);
        if (operation.value === null) return null;
        const { namespace, key, ttl = null } = operation;
        const value = JSON.parse(operation.value) as Record<string, unknown>;
        const expires_at = ttl === null ? Number.POSITIVE_INFINITY : now + ttl * 60_000;
        const created_at = before?.created_at ?? now;
        this.#items.push({ namespace, key, value, ttl, expires_at, created_at, updated_at: now });
        return null;
      }
      case "get": {
        const item = live.find((item) => isAt(item, operation));
        if (item === undefined) return null;
        refresh([item], operation.refresh_ttl, now);
        return shown(item);
      }
      case "search": {
        const found = live
          .filter((item) => matches(item.namespace, { match: "prefix", path: operation.prefix }, false))
          .filter(({ value }) =>
            Object.entries(operation.filter ?? {}).every(([key, wanted]) => fits(value[key], wanted)),
          )
          .sort((a, b) => b.updated_at - a.updated_at)
          .slice(operation.offset, operation.offset + operation.limit);
        refresh(found, operation.refresh_ttl, now);
        return found.map(shown);
      }
      default: {
        const { conditions, max_depth, limit, offset } = operation;
        const all = live
          .map(({ namespace }) => namespace)
          .filter((namespace) => conditions.every((condition) => matches(namespace, condition, true)))
          .map((namespace) => JSON.stringify(namespace.slice(0, max_depth ?? namespace.length)));
        // In the order of their JSON text, a namespace before those below it.
        const sorted = [...new Set(all)].map((text) => text.slice(0, -1)).sort(byBytes);
        return sorted.slice(offset, offset + limit).map((text) => JSON.parse(`${text}]`) as string[]);
      }
    }
  }
}

const byBytes = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));

const isAt = (item: ModelItem, place: { namespace: readonly string[]; key: string }): boolean =>
  item.key === place.key && JSON.stringify(item.namespace) === JSON.stringify(place.namespace);

function refresh(items: readonly ModelItem[], wanted: boolean | undefined, now: number): void {
  for (const item of items) if (wanted !== false && item.ttl !== null) item.expires_at = now + item.ttl * 60_000;
}

function matches(namespace: readonly string[], { match, path }: Match, wildcards: boolean): boolean {
  if (path.length > namespace.length) return false;
  const part = match === "prefix" ? namespace.slice(0, path.length) : namespace.slice(namespace.length - path.length);
  return path.every((label, i) => (wildcards && label === "*") || label === part[i]);
}

function fits(value: unknown, wanted: unknown): boolean {
  if (typeof wanted !== "object" || wanted === null) return value === wanted;
  return Object.entries(wanted).every(([operator, bound]) => {
    if (operator === "$ne") return value !== bound;
    if (typeof value !== "number" || typeof bound !== "number") return false;
    return operator === "$gte" ? value >= bound : value < bound;
  });
}

const shown = ({ namespace, key, value, created_at, updated_at }: ModelItem): unknown => ({
  namespace,
  key,
  value,
  created_at: new Date(created_at).toISOString(),
  updated_at: new Date(updated_at).toISOString(),
});

const parsed = (answer: unknown): unknown => {
  if (Array.isArray(answer)) return answer.map(parsed);
  if (typeof answer !== "object" || answer === null) return answer;
  const item = answer as StoreItem;
  return { ...item, value: JSON.parse(item.value) as unknown };
};

/** Few enough to meet again, odd enough to be mistaken for one another. */
const LABELS = [
  "a",
  "b",
  "ab",
  "*",
  "-",
  ",",
  '"',
  '","',
  "[",
  "]",
  "%",
  "_",
  "$[0]",
  "'",
  "\\",
  "\n",
  "é",
  "e\u0301",
  "用户",
  "🦜",
  " ",
];
const label = fc.constantFrom(...LABELS);
const namespace = fc.array(label, { minLength: 1, maxLength: 3 });
const key = fc.oneof(
  fc.constantFrom("", "k", "K", "0", "null", "'; drop table store_items; --", "👩‍👩‍👧"),
  fc.string({ unit: "binary", maxLength: 4 }).map((text) => toUSVString(text).replaceAll("\0", "0")),
);
const scalar = fc.constantFrom(0, 1, 2.5, -3, "", "x", "1", true, false, null);
const value = fc
  .record(
    { n: scalar, "odd.key": fc.jsonValue({ maxDepth: 2 }), big: fc.constantFrom("", "ü".repeat(40_000)) },
    { requiredKeys: [] },
  )
  .map((value) => JSON.stringify(value));
const filter = fc.record(
  {
    n: fc.oneof(
      scalar,
      scalar.map(($ne) => ({ $ne })),
      fc.constantFrom({ $gte: 1 }, { $lt: 2 }, { $gte: 0, $lt: 2 }),
    ),
  },
  { requiredKeys: [] },
);
const page = { limit: fc.integer({ min: 0, max: 5 }), offset: fc.integer({ min: 0, max: 3 }) };
const refresh_ttl = fc.constantFrom(undefined, true, false);
const condition = fc.record({
  match: fc.constantFrom("prefix" as const, "suffix" as const),
  path: fc.array(label, { maxLength: 2 }),
});

const operation: fc.Arbitrary<StoreOperation> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant("put" as const),
      namespace,
      key,
      value,
      ttl: fc.constantFrom(undefined, null, 1, 3),
    }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("put" as const), namespace, key, value: fc.constant(null) }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant("get" as const), namespace, key, refresh_ttl }) },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant("search" as const),
      prefix: fc.array(label, { maxLength: 2 }),
      filter,
      ...page,
      refresh_ttl,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant("list_namespaces" as const),
      conditions: fc.array(condition, { maxLength: 2 }),
      max_depth: fc.constantFrom(null, 1, 2),
      ...page,
    }),
  },
);
/** Later ones often name what earlier ones made. */
const step = fc.record({ operation, passed: fc.constantFrom(1, 1, 1, 40_000) });

eachDialect((openTemp) => {
  test("answers as the model does, whatever was put, read, deleted or has expired", async () => {
    const storage = await openTemp();
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 60 }), async (steps) => {
        await storage.write((tx) => tx.deleteFrom("store_items").execute());
        const store = makeStore(storage);
        const model = new Model();
        let now = NOW;
        for (const { operation, passed } of steps) {
          now += passed;
          const [answer] = await store.run([operation], now);
          expect(parsed(answer), JSON.stringify(operation)).toEqual(model.run(operation, now));
        }
        // A sweep changes nothing that anyone can see.
        const everything: StoreOperation = { op: "search", prefix: [], filter: null, limit: 1000, offset: 0 };
        await store.sweep(now);
        expect(parsed((await store.run([everything], now))[0])).toEqual(model.run(everything, now));
        const { live } = await storage.read((db) =>
          db
            .selectFrom("store_items")
            .select((eb) => eb.fn.countAll<number>().as("live"))
            .executeTakeFirstOrThrow(),
        );
        expect(live).toBe((model.run(everything, now) as unknown[]).length);
      }),
      { numRuns: 60 },
    );
  });
});
