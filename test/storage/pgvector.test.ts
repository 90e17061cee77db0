/** pgvector, as PGlite has it: a PostgreSQL in this process, behind a socket like any other. */
import { PGlite } from "@electric-sql/pglite";
import { vector } from "@electric-sql/pglite-pgvector";
import { PGLiteSocketServer } from "@electric-sql/pglite-socket";
import getPort from "get-port";
import { sql } from "kysely";
import { expect, onTestFinished, test } from "vitest";
import type { StoreItem } from "../../src/executor/protocol.ts";
import { openPostgres } from "../../src/storage/postgres.ts";
import { makeStore } from "./make-store.ts";
import { NOW } from "./support.ts";

test("where pgvector is installed it compares the vectors, and finds what the sum in SQL finds", async () => {
  const db = await PGlite.create({ extensions: { vector } });
  const port = await getPort();
  const server = new PGLiteSocketServer({ db, port, host: "127.0.0.1", maxConnections: 10 });
  await server.start();
  onTestFinished(async () => {
    await server.stop();
    await db.close();
  });
  const storage = await openPostgres({ uri: `postgres://postgres:x@127.0.0.1:${port}/postgres`, poolMax: 1 });
  onTestFinished(() => storage.close());
  const { rows } = await storage.read((tx) =>
    sql<{ body: string }>`select prosrc as body from pg_proc where proname = 'skein_cosine_distance'`.execute(tx),
  );
  expect(rows[0]?.body).toContain("<=>");
  const store = makeStore(storage, { embedder: "e 3" });
  const texts = {
    same: [1, 2, 3],
    twice: [2, 4, 6],
    near: [1, 2, 2],
    across: [3, 0, -1],
    opposite: [-1, -2, -3],
    none: [0, 0, 0],
  };
  await store.run(
    Object.entries(texts).map(([key, numbers]) => {
      const vectors = [{ path: "$", vector: new Float32Array(numbers) }];
      return { op: "put", namespace: ["n"], key, value: "{}", vectors };
    }),
    NOW,
  );
  const search = {
    op: "search",
    prefix: [],
    filter: null,
    limit: 10,
    offset: 0,
    query: "q",
    vector: new Float32Array([1, 2, 3]),
  } as const;
  const near = async () => {
    const [found] = (await store.run([search], NOW)) as [StoreItem[]];
    return found.map(({ key, score }) => [key, Math.round((score ?? 9) * 1e5) / 1e5]);
  };
  expect(await near()).toEqual(
    Object.entries(texts)
      .map(([key, numbers]) => [key, Math.round(likeness(numbers, [1, 2, 3]) * 1e5) / 1e5] as const)
      .sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1)),
  );
});

function likeness(a: readonly number[], b: readonly number[]): number {
  const dot = (x: readonly number[], y: readonly number[]): number =>
    x.reduce((sum, each, n) => sum + each * (y[n] ?? 0), 0);
  // A vector of zeros is like none.
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b) || Number.POSITIVE_INFINITY);
}
