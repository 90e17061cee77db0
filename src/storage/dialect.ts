/** Kysely for PostgreSQL, with the expressions of `expressions.ts` in its words, and columns of bytes that take text. */
import {
  Kysely,
  type KyselyPlugin,
  type PostgresAdapter,
  PostgresDialect,
  type PostgresPoolClient,
  PostgresQueryCompiler,
  type RawNode,
} from "kysely";
import type { Database } from "./database.ts";
import { inPostgres } from "./expressions.ts";
import { postgresPlugin, type Sealing } from "./sealing.ts";

class Compiler extends PostgresQueryCompiler {
  protected override visitRaw(node: RawNode): void {
    const own = inPostgres(node);
    if (own === undefined) super.visitRaw(node);
    else this.visitNode(own);
  }
}

class Dialect extends PostgresDialect {
  readonly #adapter: PostgresAdapter;

  constructor(connect: () => Promise<PostgresPoolClient>, adapter: PostgresAdapter) {
    super({ pool: { connect, end: async () => undefined } as never });
    this.#adapter = adapter;
  }

  override createAdapter(): PostgresAdapter {
    return this.#adapter;
  }

  override createQueryCompiler(): PostgresQueryCompiler {
    return new Compiler();
  }
}

/** Queries run on the connections that `connect` gives. Handles that share the adapter share their prepared queries. */
export function kyselyOver(
  connect: () => Promise<PostgresPoolClient>,
  adapter: PostgresAdapter,
  sealing: Sealing | null,
): Kysely<Database> {
  const plugins: KyselyPlugin[] = [postgresPlugin(sealing)];
  return new Kysely<Database>({ dialect: new Dialect(connect, adapter), plugins });
}
