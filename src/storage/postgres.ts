/**
 * Storage on PostgreSQL, shared by many processes.
 *
 * A write is one transaction (READ COMMITTED, with the locks of `locks.ts`). What it promises:
 *
 * - The promise settles after COMMIT was confirmed; also with `durable: false`. The server can crash and
 *   come back under processes that live on: if it forgot a claim, another process would get the same token; if it forgot a
 *   checkpoint, the next one would name a parent that is not there.
 * - When the transaction breaks before COMMIT (a deadlock, a restart, a cut line), nothing of it is there and the work is done
 *   again, for `RETRY_MS` at most; then the error is `unavailable`.
 * - When the line breaks during COMMIT, the server is asked what became of the transaction (`pg_xact_status` of the number it had
 *   told at its beginning). Committed counts as committed, aborted is done again. Only when the server has crashed meanwhile, or
 *   cannot be asked for `RETRY_MS`, is the answer `unavailable` although the write may be there: a client that repeats with an
 *   Idempotency-Key gets what the first request made.
 *
 * BEGIN, that number and the locks are sent together with the first statement, without waiting for each other (node-postgres'
 * pipelining): a transaction costs a round trip for each statement and one for COMMIT.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { type Kysely, PostgresAdapter, type PostgresPoolClient, sql } from "kysely";
import pg from "pg";
import { unavailable } from "../errors.ts";
import type { Database } from "./database.ts";
import { kyselyOver } from "./dialect.ts";
import { agreeOnKeys } from "./encryption-keys.ts";
import { locksBy } from "./locks.ts";
import { migratePostgres } from "./migrate.ts";
import { Plans, STALE_PLAN } from "./plans.ts";
import { asSkeinError, codeOf, isLost, isPassing } from "./postgres-errors.ts";
import { StorageRefused } from "./refused.ts";
import { opener, refuseSearch, type Sealing } from "./sealing.ts";
import { SharedClock } from "./shared-clock.ts";
import type { Search, Storage, Tx, WriteOptions } from "./storage.ts";

/**
 * SQLSTATE of a question about a transaction number that lies in the future: a server that has crashed forgot that it gave it out, so
 * nothing under it ever reached its log.
 */
const NOT_GIVEN_OUT = "22023";

export interface PostgresOptions {
  /** `postgres://user:password@host:port/database`, with the parameters that libpq knows. */
  readonly uri: string;
  /** Connections at most. */
  readonly poolMax?: number;
  /** A statement that takes longer is ended and its caller told `unavailable`, milliseconds. */
  readonly statementTimeoutMs?: number;
  /** How long a write or a read is tried again while the server is away, milliseconds. */
  readonly retryMs?: number;
  /** Trouble that no caller can be told about, such as an idle connection that broke. */
  readonly onError?: (error: unknown) => void;
  /** Names of the migrations that were applied, when any were. */
  readonly onMigrated?: (names: readonly string[]) => void;
  /** Nothing is migrated or agreed on: for looking at a database. Default false. */
  readonly asItIs?: boolean;
  /** Encrypts what holds state; data is plain when it is not given. */
  readonly sealing?: Sealing | null;
}

const POOL_MAX = 20;
const STATEMENT_TIMEOUT_MS = 30_000;
/** How long trouble that may pass is waited for. */
const RETRY_MS = 8000;
/** Our idea of the database's clock is not further off. */
const CLOCK_MARGIN_MS = 2000;
const FIRST_PAUSE_MS = 20;
const LONGEST_PAUSE_MS = 1000;
/** A free connection, or a new one, comes within this time. */
const CONNECT_MS = 10_000;
/** A process that was frozen in a transaction must not keep others waiting for its locks. */
const IDLE_IN_TRANSACTION_MS = 10_000;
const IDLE_CONNECTION_MS = 60_000;
/** The oldest server that has all we use. */
const OLDEST = 140_000;

/** A buffer of its own: a slice of the pool would be sent to an executor thread with all the pool. */
function bytesOf(hex: string): Buffer {
  const bytes = Buffer.allocUnsafeSlow((hex.length - 2) / 2);
  bytes.write(hex.slice(2), "hex");
  return bytes;
}

/** int8 and numeric as numbers, for what we store stays below 2^53; bytea. */
const PARSERS: Readonly<Record<number, (text: string) => unknown>> = { 20: Number, 1700: Number, 17: bytesOf };

/** How values of columns are read. */
export const types = {
  getTypeParser: ((oid: number, format?: "text" | "binary") =>
    PARSERS[oid] ?? pg.types.getTypeParser(oid, format)) as typeof pg.types.getTypeParser,
};

/** Connects, brings the schema up to date and returns the storage. Rejects with StorageRefused when it cannot be used. */
export async function openPostgres(options: PostgresOptions): Promise<Storage> {
  const storage = new PostgresStorage(options);
  try {
    await storage.open();
    return storage;
  } catch (error) {
    await storage.close();
    throw error;
  }
}

interface Attempted<T> {
  readonly result: T;
  readonly number: string | undefined;
  readonly since: number;
  readonly lost: unknown;
}

/** The error of a connection that is gone; any other is thrown on. */
function onlyLost(error: unknown): unknown {
  if (isLost(error)) return error;
  throw error;
}

class PostgresStorage implements Storage {
  readonly dialect = "postgres";
  readonly isShared = true;
  readonly location: string;
  readonly #options: PostgresOptions;
  readonly #config: pg.PoolConfig;
  readonly #pool: pg.Pool;
  /** One connection that nobody but heartbeats uses. */
  readonly #urgent: pg.Pool;
  readonly #adapter = new PostgresAdapter();
  readonly #db: Kysely<Database>;
  readonly #transactions = new WeakMap<pg.PoolClient, Transaction>();
  readonly #plans = new Plans();
  readonly #clock: SharedClock;
  readonly #open: ((value: unknown) => unknown) | undefined;
  /** Works in hand: closing waits for them. */
  readonly #working = new Set<Promise<unknown>>();
  #closing: Promise<void> | null = null;

  constructor(options: PostgresOptions) {
    const { uri, poolMax = POOL_MAX, sealing = null, onError = () => undefined } = options;
    this.#options = options;
    this.location = withoutPassword(uri);
    this.#open = sealing === null ? undefined : opener(sealing);
    const statement_timeout = options.statementTimeoutMs ?? STATEMENT_TIMEOUT_MS;
    const common: pg.PoolConfig = {
      connectionString: uri,
      types,
      pipeline: true,
      statement_timeout,
      // The server ends the statement; this is for a server that is not there any more.
      query_timeout: statement_timeout + 5000,
      idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_MS,
      connectionTimeoutMillis: CONNECT_MS,
      idleTimeoutMillis: IDLE_CONNECTION_MS,
      keepAlive: true,
      application_name: "skein",
    };
    this.#config = common;
    this.#pool = poolOf({ ...common, max: poolMax }, onError);
    this.#urgent = poolOf({ ...common, max: 1 }, onError);
    // Those who only look are not looked for.
    if (options.asItIs !== true) for (const pool of [this.#pool, this.#urgent]) nameSessions(pool);
    this.#db = kyselyOver(async () => this.#reader(), this.#adapter, sealing);
    this.#clock = new SharedClock(() => this.#databaseTime(), onError);
  }

  async open(): Promise<void> {
    if (this.#options.asItIs === true) await this.#refuseOld();
    else {
      await this.#migrate();
      await agreeOnKeys(this.location, this, this.#options.sealing ?? null);
    }
    await this.#clock.start();
  }

  /** Any number of processes may do this at once. */
  async #migrate(): Promise<void> {
    await this.#refuseOld();
    // It may take long on large tables, and so may those who wait for it.
    const patient = poolOf({ ...this.#config, max: 1, statement_timeout: 0, query_timeout: 0 }, () => undefined);
    const migrated = this.#insist(() => this.#transact((tx) => migratePostgres(tx, this.location), {}, patient));
    const applied = await migrated.finally(() => patient.end());
    await this.#installVectors();
    if (applied.length > 0) this.#options.onMigrated?.(applied);
  }

  now(): number {
    return this.#clock.now();
  }

  read<T>(work: (db: Tx) => Promise<T>): Promise<T> {
    if (this.#closing !== null) return Promise.reject(unavailable("the database is closed"));
    return this.#tracked(this.#insist(() => work(this.#db)));
  }

  write<T>(work: (tx: Tx) => Promise<T>, options: WriteOptions = {}): Promise<T> {
    if (this.#closing !== null) return Promise.reject(unavailable("the database is closed"));
    const pool = options.urgent === true ? this.#urgent : this.#pool;
    return this.#tracked(this.#insist(() => this.#transact(work, options, pool)));
  }

  checkSearch(search: Search): void {
    const { sealing = null } = this.#options;
    if (sealing !== null) refuseSearch(sealing, search);
  }

  /** Autovacuum does it. */
  async reclaim(): Promise<void> {}

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#clock.stop();
    await Promise.allSettled(this.#working);
    await Promise.all([this.#pool.end(), this.#urgent.end()]);
  }

  async #tracked<T>(work: Promise<T>): Promise<T> {
    this.#working.add(work);
    try {
      return await work;
    } finally {
      this.#working.delete(work);
    }
  }

  /** Until it is done, has failed for a reason of its own, or time is up. */
  async #insist<T>(attempt: () => Promise<T>): Promise<T> {
    const end = performance.now() + (this.#options.retryMs ?? RETRY_MS);
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
      try {
        return await attempt();
      } catch (error) {
        if (codeOf(error) === STALE_PLAN) this.#plans.forget();
        if (!isPassing(error) || performance.now() + pause > end) throw asSkeinError(error);
        // Two that got in each other's way do not come back at the same time.
        await sleep(pause * (0.5 + Math.random() / 2));
      }
    }
  }

  async #transact<T>(work: (tx: Tx) => Promise<T>, { onCommitted }: WriteOptions, pool: pg.Pool): Promise<T> {
    const { result, number, since, lost } = await this.#attempt(work, pool);
    // The connection is given back by now: where all have broken at once, none would be left to ask.
    if (lost !== undefined && (await this.#becameOf(number, since)) !== "committed") throw lost;
    onCommitted?.();
    return result;
  }

  /** Does the work and commits it. `lost` is the error when the connection broke while it did. */
  async #attempt<T>(work: (tx: Tx) => Promise<T>, pool: pg.Pool): Promise<Attempted<T>> {
    const client = await pool.connect();
    let broken = false;
    try {
      const transaction = this.#transactionOn(client);
      transaction.begin();
      const since = this.#clock.now();
      let result: T;
      try {
        result = await work(transaction.tx);
      } catch (error) {
        await transaction.rollback();
        throw error;
      }
      const lost = await transaction.commit().then(() => undefined, onlyLost);
      broken = lost !== undefined;
      return { result, number: transaction.number, since, lost };
    } catch (error) {
      broken = isLost(error);
      throw error;
    } finally {
      client.release(broken);
    }
  }

  /**
   * What became of a transaction, begun at `since` by the database's clock, whose COMMIT was not confirmed. Rejects with
   * `unavailable` when nobody can say.
   */
  async #becameOf(number: string | undefined, since: number): Promise<"committed" | "aborted"> {
    if (number === undefined) return "aborted";
    const end = performance.now() + (this.#options.retryMs ?? RETRY_MS);
    for (let pause = FIRST_PAUSE_MS; performance.now() < end; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
      const status = await this.#statusOf(number, since);
      if (status === "committed" || status === "aborted") return status;
      if (status === "ambiguous") break;
      await sleep(pause);
    }
    throw unavailable("the connection to the database broke while it was storing; it may or may not have stored it");
  }

  /**
   * Undefined when the server cannot be asked now. A server that crashed may give the number of a transaction it has forgotten to
   * another: a commit under that number says nothing. Recovery begins the statistics anew, which is how we know of it.
   */
  async #statusOf(number: string, since: number): Promise<string | null | undefined> {
    try {
      const { rows } = await this.#pool.query(
        `select case when stats_reset >= to_timestamp($2::double precision / 1000) and status = 'committed'
          then 'ambiguous' else status end as status
          from pg_stat_bgwriter, pg_xact_status($1::text::xid8) as status`,
        [number, since - CLOCK_MARGIN_MS],
      );
      return rows[0]?.status;
    } catch (error) {
      if (isPassing(error)) return undefined;
      if (codeOf(error) === NOT_GIVEN_OUT) return "aborted";
      throw error;
    }
  }

  #transactionOn(client: pg.PoolClient): Transaction {
    const known = this.#transactions.get(client);
    if (known !== undefined) return known;
    const made = new Transaction(client, this.#plans, this.#open, (connect) =>
      kyselyOver(connect, this.#adapter, this.#options.sealing ?? null),
    );
    this.#transactions.set(client, made);
    return made;
  }

  /** A connection for one query outside of transactions. */
  async #reader(): Promise<PostgresPoolClient> {
    const client = await this.#pool.connect();
    let broken = false;
    const query = async (text: string, values: readonly unknown[]) => {
      try {
        return opened(await client.query(this.#plans.query(text, values)), this.#open);
      } catch (error) {
        broken = isLost(error);
        throw error;
      }
    };
    return { query, release: () => client.release(broken) } as never;
  }

  async #databaseTime(): Promise<number> {
    const { rows } = await this.#pool.query(
      "select cast(extract(epoch from clock_timestamp()) * 1000 as double precision) as now",
    );
    return rows[0].now;
  }

  async #refuseOld(): Promise<void> {
    try {
      const { rows } = await this.read((db) =>
        sql<{ version: string; user: string }>`
        select current_setting('server_version_num') as version`.execute(db),
      );
      const version = Number(rows[0]?.version);
      if (version < OLDEST) {
        throw new StorageRefused(
          `The database ${this.location} is PostgreSQL ${Math.floor(version / 10_000)}; at least 14 is needed.`,
        );
      }
    } catch (error) {
      if (error instanceof StorageRefused) throw error;
      const reason =
        error instanceof Error && error.cause instanceof Error ? error.cause.message : String((error as Error).message);
      throw new StorageRefused(`The database ${this.location} cannot be used: ${reason}`, { cause: error });
    }
  }

  /** pgvector compares vectors where it is installed, or may be by us; else a sum in SQL does. */
  async #installVectors(): Promise<void> {
    await this.write(async (tx) => {
      await sql`select pg_advisory_xact_lock(hashtextextended('skein vectors', 0))`.execute(tx);
      const { rows } = await sql<{
        available: boolean;
      }>`select exists (select 1 from pg_available_extensions where name = 'vector')
        and (has_database_privilege(current_database(), 'create')
          or exists (select 1 from pg_extension where extname = 'vector')) as available`.execute(tx);
      if (rows[0]?.available === true) {
        // Whoever may not install it goes on without.
        await sql
          .raw(`do $$ begin create extension if not exists vector;
          exception when insufficient_privilege or feature_not_supported then null; end $$`)
          .execute(tx);
      }
      const found = await sql<{ schema: string }>`select quote_ident(nspname) as schema from pg_extension
        join pg_namespace on pg_namespace.oid = extnamespace where extname = 'vector'`.execute(tx);
      const wanted = distanceFunction(found.rows[0]?.schema);
      const now = await sql<{ body: string }>`select prosrc as body from pg_proc
        where oid = to_regprocedure('skein_cosine_distance(real[], real[])')`.execute(tx);
      if (now.rows[0]?.body === wanted) return;
      await sql
        .raw(`create or replace function skein_cosine_distance(a real[], b real[]) returns double precision
        language sql immutable parallel safe as $$${wanted}$$`)
        .execute(tx);
    });
  }
}

function poolOf(config: object, onError: (error: unknown) => void): pg.Pool {
  const pool = new pg.Pool(config as pg.PoolConfig);
  pool.on("error", onError);
  // A connection that breaks while we hold it tells its query; what is told beside that would end the process.
  pool.on("connect", (client) => client.on("error", () => undefined));
  return pool;
}

/** Other schemas of the database may have servers of their own. A name has 63 bytes. */
const SESSION_NAME = `left(current_setting('application_name'), greatest(62 - octet_length(current_schema()), 0))
  || ' ' || current_schema()`;

/**
 * True for a session, as `pg_stat_activity` shows it, of a server on the schema of the one that asks. A server asks for due work
 * every few seconds, so it always has one.
 */
export const IS_OF_SERVER = `datname = current_database() and pid <> pg_backend_pid()
  and right(application_name, length(current_schema()) + 1) = ' ' || current_schema()`;

function nameSessions(pool: pg.Pool): void {
  pool.on("connect", (client) => {
    // Sent ahead of the first statement; a connection that breaks tells that one.
    client.query(`select set_config('application_name', ${SESSION_NAME}, false)`).catch(() => undefined);
  });
}

/** The body of the function that compares vectors. pgvector holds up to 16,000 dimensions. */
function distanceFunction(schema: string | undefined): string {
  const summed = `(select coalesce(1 - sum(x::float8 * y) / nullif(sqrt(sum(x::float8 * x)) * sqrt(sum(y::float8 * y)), 0), 1)
    from unnest(a, b) as pair (x, y))`;
  if (schema === undefined) return `select ${summed}`;
  const compared = `coalesce(nullif(a::${schema}.vector operator(${schema}.<=>) b::${schema}.vector, 'NaN'), 1)`;
  return `select case when cardinality(a) <= 16000 then ${compared} else ${summed} end`;
}

/** A transaction on one connection; used again for the next one on it. */
class Transaction {
  readonly tx: Tx;
  readonly #client: pg.PoolClient;
  readonly #plans: Plans;
  readonly #open: ((value: unknown) => unknown) | undefined;
  /** Sent together with the next statement. */
  #ahead: { readonly text: string; readonly values: readonly unknown[] }[] = [];
  #begun = false;
  /** A work that goes on behind its transaction's back must not write into the next one's. */
  #isOver = true;
  #number: string | undefined;

  constructor(
    client: pg.PoolClient,
    plans: Plans,
    open: ((value: unknown) => unknown) | undefined,
    handle: (connect: () => Promise<PostgresPoolClient>) => Tx,
  ) {
    this.#client = client;
    this.#plans = plans;
    this.#open = open;
    const connection = {
      query: (text: string, values: readonly unknown[]) => this.#query(text, values),
      release: () => undefined,
    } as unknown as PostgresPoolClient;
    this.tx = handle(async () => connection);
    locksBy(this.tx, (text, values) => this.#ahead.push({ text, values }));
  }

  /** The server's number of this transaction; undefined when it never began. */
  get number(): string | undefined {
    return this.#number;
  }

  /** Nothing is sent yet. */
  begin(): void {
    this.#begun = false;
    this.#isOver = false;
    this.#number = undefined;
    this.#ahead = [];
  }

  /** A transaction that asked for nothing has nothing to commit. */
  async commit(): Promise<void> {
    this.#isOver = true;
    if (!this.#begun) return;
    const { command } = await this.#client.query("commit");
    if (command !== "COMMIT")
      throw Object.assign(new Error("the transaction had failed before its end"), { code: "25P02" });
  }

  /** After an error of a work. What this meets itself has taken the transaction back as well. */
  async rollback(): Promise<void> {
    this.#isOver = true;
    if (!this.#begun) return;
    await this.#client.query("rollback").catch(() => undefined);
  }

  async #query(text: string, values: readonly unknown[]): Promise<pg.QueryResult> {
    if (this.#isOver) throw new Error("the transaction of this query is over");
    const before = this.#sendAhead();
    const result = this.#client.query(this.#plans.query(text, values));
    if (before === undefined) return opened(await result, this.#open);
    // The first error is the one that says why.
    result.catch(() => undefined);
    await before;
    return opened(await result, this.#open);
  }

  #sendAhead(): Promise<unknown> | undefined {
    const ahead = this.#ahead;
    if (this.#begun && ahead.length === 0) return undefined;
    this.#ahead = [];
    const sent: Promise<unknown>[] = [];
    if (!this.#begun) {
      this.#begun = true;
      sent.push(this.#client.query("begin"));
      sent.push(
        this.#client.query("select pg_current_xact_id()::text as number").then(({ rows }) => {
          this.#number = rows[0].number;
        }),
      );
    }
    for (const { text, values } of ahead) sent.push(this.#client.query(this.#plans.query(text, values)));
    return Promise.all(sent);
  }
}

function opened(result: pg.QueryResult, open: ((value: unknown) => unknown) | undefined): pg.QueryResult {
  if (open === undefined) return result;
  for (const row of result.rows) for (const column of Object.keys(row)) row[column] = open(row[column]);
  return result;
}

/** For logs and messages. */
export function withoutPassword(uri: string): string {
  if (!URL.canParse(uri)) return "postgres";
  const url = new URL(uri);
  url.password = "";
  url.searchParams.delete("password");
  return url.href;
}
