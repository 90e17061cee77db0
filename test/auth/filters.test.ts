/** Filters of handlers: how they are read, and that both databases answer them as the words say. */
import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FilterError, parseFilter } from "../../src/auth/filter.ts";
import type { MetadataFilter } from "../../src/storage/filter.ts";
import * as threadSearch from "../../src/storage/tables/thread-search.ts";
import * as threads from "../../src/storage/tables/threads.ts";
import * as visible from "../../src/storage/tables/visible.ts";
import { eachDialect, newThread } from "../storage/support.ts";

type Members = Record<string, unknown>;

describe("reading", () => {
  test.each<[Members, MetadataFilter]>([
    [{ owner: "a" }, { kind: "equals", key: "owner", value: "a" }],
    [{ owner: { $eq: null } }, { kind: "equals", key: "owner", value: null }],
    [{ teams: { $contains: "x" } }, { kind: "contains", key: "teams", values: ["x"] }],
    [{ teams: { $contains: ["x", 1] } }, { kind: "contains", key: "teams", values: ["x", 1] }],
    [
      { a: 1, $or: [{ b: true }, { $and: [{ c: "c" }] }] },
      {
        kind: "all",
        of: [
          { kind: "equals", key: "a", value: 1 },
          {
            kind: "any",
            of: [
              { kind: "equals", key: "b", value: true },
              { kind: "all", of: [{ kind: "equals", key: "c", value: "c" }] },
            ],
          },
        ],
      },
    ],
  ])("%j", (given, filter) => expect(parseFilter(given)).toEqual(filter));

  test.each<[Members, string]>([
    [{ owner: undefined }, "owner is undefined"],
    [{ owner: { $eq: undefined } }, "owner.$eq is undefined"],
    [{ owner: {} }, "owner takes a value"],
    [{ owner: [] }, "owner is"],
    [{ owner: { $ne: "a" } }, "one of $eq and $contains"],
    [{ owner: { $eq: "a", $contains: "a" } }, "one of $eq and $contains"],
    [{ teams: { $contains: [] } }, "teams.$contains names nothing"],
    [{ teams: { $contains: [undefined] } }, "teams.$contains is undefined"],
    [{ $or: [] }, "$or takes a list"],
    [{ $and: {} }, "$and takes a list"],
    [{ $or: [{}] }, "$or.0 is no filter"],
    [{ $or: [{ a: 1 }, null] }, "$or.1 is no filter"],
    [{ $not: [{ a: 1 }] }, "$not: there is no such operator"],
    [{ owner: Number.NaN }, "owner is a number"],
    [JSON.parse(`${'{"$and":['.repeat(20)}{"a":1}${"]}".repeat(20)}`), "nested too deep"],
  ])("%j is refused", (given, why) => {
    expect(() => parseFilter(given)).toThrow(FilterError);
    expect(() => parseFilter(given)).toThrow(why);
  });
});

/* ---------------------------------------------------------------- what the words say, as a model */

function holds(metadata: Members, filter: MetadataFilter): boolean {
  switch (filter.kind) {
    case "equals":
      return Object.hasOwn(metadata, filter.key) && isDeepStrictEqual(metadata[filter.key], filter.value);
    case "contains": {
      const list = metadata[filter.key];
      return Array.isArray(list) && filter.values.every((value) => list.includes(value));
    }
    case "all":
      return filter.of.every((each) => holds(metadata, each));
    case "any":
      return filter.of.some((each) => holds(metadata, each));
  }
}

const key = fc.constantFrom("a", "b", "it's", '"', "a.b");
const atom = fc.constantFrom("x", "y", "it's", '["x"]', "", "1", 1, 0, 1.5, true, false, null);
const value = fc.oneof(
  atom,
  fc.array(fc.oneof(atom, fc.array(atom, { maxLength: 1 })), { maxLength: 3 }),
  fc.dictionary(key, atom, { maxKeys: 1 }),
);
const metadata = fc.dictionary(key, value, { maxKeys: 4, noNullPrototype: true });
const { filter } = fc.letrec<{ filter: MetadataFilter }>((tie) => ({
  filter: fc.oneof(
    { maxDepth: 3 },
    fc.record({ kind: fc.constant("equals" as const), key, value: atom }),
    fc.record({ kind: fc.constant("contains" as const), key, values: fc.array(atom, { minLength: 1, maxLength: 2 }) }),
    fc.record({
      kind: fc.constantFrom("all" as const, "any" as const),
      of: fc.array(tie("filter"), { minLength: 1, maxLength: 3 }),
    }),
  ),
}));

eachDialect((open) => {
  test("a thread is there, hidden, found and counted as the model says", async () => {
    const storage = await open();
    const samples = fc.sample(metadata, { numRuns: 60, seed: 7 });
    await storage.write(async (tx) => {
      for (const [i, each] of samples.entries()) await threads.insert(tx, { ...newThread(`t${i}`), metadata: each });
    });
    const ids = samples.map((_, i) => `t${i}`);
    const check = fc.asyncProperty(filter, fc.option(metadata, { freq: 4 }), async (wanted, asked) => {
      const passing = ids.filter((_, i) => holds(samples[i] ?? {}, wanted));
      await storage.read(async (db) => {
        for (const id of [ids[0] ?? "", ids.at(-1) ?? "", passing[0] ?? ids[1] ?? ""]) {
          expect([id, await visible.thread(db, id, wanted)]).toEqual([id, passing.includes(id)]);
          expect([id, await visible.hiddenThread(db, id, wanted)]).toEqual([id, !passing.includes(id)]);
        }
        expect([await visible.thread(db, "none", wanted), await visible.hiddenThread(db, "none", wanted)]).toEqual([
          false,
          false,
        ]);
        const totals = new threadSearch.KnownTotals();
        const query = { metadata: asked, limit: 1000 };
        const all = await threadSearch.search(db, query, { values: false, totals });
        const seen = await threadSearch.search(db, { ...query, visible: wanted }, { values: false, totals });
        const known = all.items.map(({ thread_id }) => thread_id).filter((id) => passing.includes(id));
        expect(seen.items.map(({ thread_id }) => thread_id)).toEqual(known);
        expect(seen.total).toBe(known.length);
        expect(await threadSearch.count(db, { metadata: asked, visible: wanted }, totals)).toBe(known.length);
      });
    });
    await fc.assert(check, { numRuns: 80, seed: 11 });
  });
});
