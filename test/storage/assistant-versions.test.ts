import path from "node:path";
import { Kysely, SqliteDialect } from "kysely";
import { expect, test } from "vitest";
import type { Database } from "../../src/storage/database.ts";
import { LibsqlConnection } from "../../src/storage/libsql.ts";
import { init } from "../../src/storage/migrations/0001_init.ts";
import { assistantVersions } from "../../src/storage/migrations/0002_assistant_versions.ts";
import * as assistants from "../../src/storage/tables/assistants.ts";
import { NOW, tempDir } from "./support.ts";

test("assistants of a database without versions get what they are as their only version", async () => {
  const database = new LibsqlConnection(path.join(tempDir(), "old.db"));
  const db = new Kysely<Database>({ dialect: new SqliteDialect({ database }) });
  await init.up(db);
  const row = { assistant_id: "a", graph_id: "g", name: "ÄGYPTEN", description: "d", version: 1 };
  const json = { config: '{"tags":["t"]}', context: '{"a":1}', metadata: '{"created_by":"system"}' };
  const old = { ...row, ...json, created_at: NOW, updated_at: NOW + 1 };
  await db
    .insertInto("assistants")
    .values(old as never)
    .execute();
  await assistantVersions.up(db);
  const [version] = await assistants.versions(db, "a", { metadata: {}, limit: 10, offset: 0 });
  expect(version).toEqual({
    ...row,
    config: { tags: ["t"] },
    context: { a: 1 },
    metadata: { created_by: "system" },
    created_at: NOW + 1,
  });
  expect((await assistants.search(db, { name: "ägypten" })).map(({ assistant_id }) => assistant_id)).toEqual(["a"]);
  database.close();
});
