/** A PostgreSQL of a test file's own: to be stopped, broken and thrown away. It commits as a real one does (fsync stays on). */
import { execFile } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { chown } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import getPort from "get-port";
import pg from "pg";
import { Daemon } from "../../../support/daemon.ts";
import { type TempDir, tempDir } from "../../../support/project.ts";

const run = promisify(execFile);
const VERSIONS = "/usr/lib/postgresql";
const ADMIN = "postgres";
/** Who the server processes are: an ordinary role, so that PostgreSQL keeps some connections for the administrator. */
const USER = "skein";
/** Numbers as numbers. */
const types = {
  getTypeParser: ((oid: number, format?: "text" | "binary") =>
    oid === pg.types.builtins.INT8 ? Number : pg.types.getTypeParser(oid, format)) as typeof pg.types.getTypeParser,
};
let databases = 0;

/** Where `initdb` and `postgres` are; undefined when this machine has none. */
function binaries(): string | undefined {
  const versions = existsSync(VERSIONS) ? readdirSync(VERSIONS).sort((a, b) => Number(b) - Number(a)) : [];
  const places = [...versions.map((version) => join(VERSIONS, version, "bin")), "/usr/local/bin", "/usr/bin"];
  return places.find((place) => existsSync(join(place, "initdb")) && existsSync(join(place, "postgres")));
}

/** For `requireOrSkip`. */
export const postgresMissing = (): string | undefined =>
  binaries() === undefined ? `no initdb in ${VERSIONS}/*/bin` : undefined;

type User = { readonly uid: number; readonly gid: number } | undefined;

/** PostgreSQL refuses to run as root. */
async function serverUser(): Promise<User> {
  if (process.getuid?.() !== 0) return undefined;
  const [uid, gid] = await Promise.all(
    ["-u", "-g"].map(async (flag) => Number((await run("id", [flag, ADMIN])).stdout)),
  );
  return uid === undefined || gid === undefined ? undefined : { uid, gid };
}

export async function startPostgres(settings: Readonly<Record<string, string>> = {}): Promise<Postgres> {
  const bin = binaries();
  if (bin === undefined) throw new Error("PostgreSQL is not installed");
  const [temp, user, port] = await Promise.all([tempDir("skein-postgres-"), serverUser(), getPort()]);
  if (user !== undefined) await chown(temp.dir, user.uid, user.gid);
  const postgres = new Postgres(bin, temp, user, port, settings);
  try {
    await run(join(bin, "initdb"), ["-D", postgres.data, "-U", ADMIN, "-A", "trust", "--no-sync", "--encoding=UTF8"], {
      cwd: temp.dir,
      ...user,
    });
    await postgres.start();
    await postgres.query(`create role ${USER} login`);
    return postgres;
  } catch (error) {
    await postgres[Symbol.asyncDispose]();
    throw error;
  }
}

export class Postgres implements AsyncDisposable {
  readonly port: number;
  readonly data: string;
  readonly #bin: string;
  readonly #temp: TempDir;
  readonly #user: User;
  readonly #settings: Readonly<Record<string, string>>;
  #daemon: Daemon | undefined;

  constructor(bin: string, temp: TempDir, user: User, port: number, settings: Readonly<Record<string, string>>) {
    this.#bin = bin;
    this.#temp = temp;
    this.#user = user;
    this.port = port;
    this.data = join(temp.dir, "data");
    this.#settings = { max_connections: "200", shared_buffers: "64MB", ...settings };
  }

  async start(): Promise<void> {
    const settings = Object.entries({ ...this.#settings, listen_addresses: "127.0.0.1", unix_socket_directories: "" });
    const args = [
      "-D",
      this.data,
      "-p",
      `${this.port}`,
      ...settings.flatMap(([name, value]) => ["-c", `${name}=${value}`]),
    ];
    this.#daemon = new Daemon(join(this.#bin, "postgres"), args, { cwd: this.#temp.dir, ...this.#user });
    await this.#daemon.ready(async () => {
      try {
        await this.query("select 1");
        return true;
      } catch {
        return false;
      }
    });
  }

  /** SIGINT asks every backend to go; SIGQUIT is a crash: the next start recovers from the log. */
  async stop(signal: "SIGINT" | "SIGQUIT" = "SIGINT"): Promise<void> {
    await this.#daemon?.kill(signal);
  }

  /** Runs, whatever a test has left it in. */
  async heal(): Promise<void> {
    if (this.#daemon?.isRunning !== true) await this.start();
  }

  uri(database: string, port = this.port): string {
    return `postgres://${USER}@127.0.0.1:${port}/${database}`;
  }

  /** An empty database; returns its name. */
  async createDatabase(): Promise<string> {
    databases += 1;
    await this.query(`create database test_${databases} owner ${USER}`);
    return `test_${databases}`;
  }

  /** Rows of one statement, as the administrator, on a connection of its own and straight to the server, past every wire. */
  async query<T extends object = Record<string, unknown>>(sql: string, database = ADMIN): Promise<T[]> {
    const client = new pg.Client({ host: "127.0.0.1", port: this.port, user: ADMIN, database, types });
    client.on("error", () => undefined);
    await client.connect();
    try {
      return (await client.query<T>(sql)).rows;
    } finally {
      await client.end();
    }
  }

  /** Ends every connection to the database, as an administrator or a failover does. Returns how many there were. */
  async terminateBackends(database: string): Promise<number> {
    const rows = await this.query(
      `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${database}' and pid <> pg_backend_pid()`,
    );
    return rows.length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop("SIGQUIT");
    await this.#temp[Symbol.asyncDispose]();
  }
}
