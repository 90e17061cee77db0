/**
 * Everything the server is told: `langgraph.json`, its `env`, environment variables, flags. Read once, at
 * the rim; the parts below get plain values.
 */
import { existsSync, readFileSync, statSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join, resolve } from "node:path";
import { parse as parseEnv } from "dotenv";
import { z } from "zod";
import type { GraphSpec, StoreIndexSpec } from "./executor/protocol.ts";
import { MAX_TTL_MINUTES } from "./schemas/limits.ts";

/** A setting is wrong: the server says which and does not start. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}

export type Env = Readonly<Record<string, string | undefined>>;

export interface Project {
  /** Folder of `langgraph.json`. */
  readonly dir: string;
  readonly file: string;
  readonly graphs: readonly GraphSpec[];
  /** The process's environment with the project's `env` under it. */
  readonly env: Env;
  readonly webhooks: WebhookSettings;
  readonly store: StoreSettings;
}

/** The `store` block of langgraph.json. */
export interface StoreSettings {
  /** Null: no search by meaning. */
  readonly index: StoreIndexSpec | null;
  readonly ttl: {
    /** Whether a read starts an item's time to live again. */
    readonly refreshOnRead: boolean;
    /** Minutes to live of items that are put without a time of their own; null for ever. */
    readonly defaultMinutes: number | null;
    /** Minutes between removals of expired items; null for none. */
    readonly sweepMinutes: number | null;
  };
}

/** The `webhooks.url` block of langgraph.json, and whether webhooks are sent at all. */
export interface WebhookSettings {
  readonly enabled: boolean;
  readonly allowLoopback: boolean;
  readonly allowPrivate: boolean;
  readonly requireHttps: boolean;
  /** `*.x.com` means subdomains of x.com, not x.com itself. Null: any. */
  readonly allowedDomains: readonly string[] | null;
  /** Null: 443 and 80, and any port of a loopback target that is allowed. */
  readonly allowedPorts: readonly number[] | null;
  readonly maxUrlLength: number;
}

export type Mode = "dev" | "start";

export interface Flags {
  readonly config?: string;
  readonly host?: string;
  readonly port?: string;
  readonly data?: string;
  readonly jobs?: string;
  readonly threads?: string;
}

export interface Settings {
  readonly mode: Mode;
  readonly host: string;
  readonly port: number;
  /** Which setting asked for the port, for people. */
  readonly portSource: string;
  readonly dataDir: string;
  /** Runs at once. */
  readonly jobs: number;
  /** Executor threads. */
  readonly threads: number;
  readonly executorHeapMb: number;
  /** Attempts of a run, the first included, when its executor or process dies. */
  readonly maxAttempts: number;
  readonly runTimeoutMs: number;
  readonly shutdownGraceMs: number;
  readonly leaseMs: number;
  /** How long the events of an ended resumable run are kept. */
  readonly resumableTtlMs: number;
  readonly maxBodyBytes: number;
  readonly corsOrigins: readonly string[];
  readonly logLevel: string;
}

const GraphEntry = z.union([z.string(), z.looseObject({ path: z.string(), description: z.string().nullish() })]);

const StoreBlock = z.looseObject({
  path: z.never({ error: "a custom store cannot be served: remove this key to use Skein's own" }).optional(),
  index: z
    .looseObject({
      embed: z.string(),
      // libsql's limit.
      dims: z.int().min(1).max(65_536),
      fields: z.array(z.string().min(1)).nullish(),
    })
    .nullish(),
  ttl: z
    .looseObject({
      refresh_on_read: z.boolean().nullish(),
      default_ttl: z.number().positive().max(MAX_TTL_MINUTES).nullish(),
      // A timer of Node takes no more.
      sweep_interval_minutes: z.number().positive().max(35_000).nullish(),
    })
    .nullish(),
});

const ProjectFile = z.looseObject({
  graphs: z.record(z.string(), GraphEntry),
  env: z.union([z.string(), z.record(z.string(), z.union([z.string(), z.number(), z.boolean()]))]).nullish(),
  node_version: z.union([z.string(), z.number()]).nullish(),
  store: StoreBlock.nullish(),
  http: z.looseObject({ disable_webhooks: z.boolean().nullish() }).nullish(),
  webhooks: z
    .looseObject({
      url: z
        .looseObject({
          disable_loopback: z.boolean().nullish(),
          allow_private: z.boolean().nullish(),
          require_https: z.boolean().nullish(),
          allowed_domains: z.array(z.string()).nullish(),
          allowed_ports: z.array(z.int()).nullish(),
          max_url_length: z.int().nullish(),
        })
        .nullish(),
    })
    .nullish(),
});
type ProjectFile = z.infer<typeof ProjectFile>;

/** Reads a project. `path` is `langgraph.json` or its folder. */
export function loadProject(path: string, processEnv: Env): Project {
  const file = locate(resolve(path));
  const dir = dirname(file);
  const content = parseProject(file);
  return {
    dir,
    file,
    graphs: Object.entries(content.graphs).map(([id, entry]) => graphSpec(dir, id, entry)),
    env: { ...projectEnv(dir, content.env), ...processEnv },
    webhooks: webhookSettings(content),
    store: storeSettings(dir, content.store),
  };
}

function locate(path: string): string {
  if (!existsSync(path)) throw new ConfigError(`${path} does not exist`);
  const file = statSync(path).isDirectory() ? join(path, "langgraph.json") : path;
  if (!existsSync(file)) throw new ConfigError(`${file} does not exist`);
  return file;
}

function parseProject(file: string): ProjectFile {
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    throw new ConfigError(`${file} is not JSON: ${error instanceof Error ? error.message : error}`);
  }
  const parsed = ProjectFile.safeParse(json);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new ConfigError(`${file}: ${issue?.path.join(".")}: ${issue?.message}`);
}

function graphSpec(dir: string, graph_id: string, entry: z.infer<typeof GraphEntry>): GraphSpec {
  const { path, description } = typeof entry === "string" ? { path: entry, description: null } : entry;
  return { graph_id, ...exportAt(dir, path, `graph "${graph_id}"`), description: description ?? null };
}

/** `./file.ts:name` → an export of a module of the project, `default` when none is named. */
function exportAt(dir: string, path: string, setting: string): { file: string; export_name: string } {
  const colon = path.lastIndexOf(":");
  // A Windows drive letter is no export name.
  const hasExport = colon > 1;
  const file = resolve(dir, hasExport ? path.slice(0, colon) : path);
  if (!existsSync(file)) throw new ConfigError(`${setting}: ${file} does not exist`);
  return { file, export_name: hasExport ? path.slice(colon + 1) : "default" };
}

function storeSettings(dir: string, block: ProjectFile["store"]): StoreSettings {
  const { index, ttl } = block ?? {};
  return {
    index: index == null ? null : indexSpec(dir, index.embed, index.dims, index.fields ?? ["$"]),
    ttl: {
      refreshOnRead: ttl?.refresh_on_read ?? true,
      defaultMinutes: ttl?.default_ttl ?? null,
      sweepMinutes: ttl?.sweep_interval_minutes ?? null,
    },
  };
}

/** `embed` is a path of a module, as those of graphs, or `provider:model`. */
function indexSpec(dir: string, embed: string, dims: number, fields: readonly string[]): StoreIndexSpec {
  const setting = "store.index.embed";
  const [, provider, model] = /^([^:]+):(.+)$/s.exec(embed) ?? [];
  const isPath = /^[./\\]/.test(embed) || /\.[cm]?[jt]sx?(:[^:]*)?$/.test(embed);
  if (isPath) return { embed, dims, fields, source: { kind: "module", ...exportAt(dir, embed, setting) } };
  if (provider === undefined || model === undefined) {
    throw new ConfigError(`${setting}: "${embed}" is no path of a module ("./embed.ts:embed") and no "provider:model"`);
  }
  return { embed, dims, fields, source: { kind: "provider", provider, model } };
}

function projectEnv(dir: string, env: ProjectFile["env"]): Record<string, string> {
  if (env === null || env === undefined) return {};
  if (typeof env !== "string")
    return Object.fromEntries(Object.entries(env).map(([key, value]) => [key, String(value)]));
  const file = resolve(dir, env);
  if (!existsSync(file)) throw new ConfigError(`env: ${file} does not exist`);
  return parseEnv(readFileSync(file));
}

function webhookSettings(content: ProjectFile): WebhookSettings {
  const url = content.webhooks?.url;
  return {
    enabled: content.http?.disable_webhooks !== true,
    allowLoopback: url?.disable_loopback === false,
    allowPrivate: url?.allow_private === true,
    requireHttps: url?.require_https === true,
    allowedDomains: url?.allowed_domains ?? null,
    allowedPorts: url?.allowed_ports ?? null,
    maxUrlLength: url?.max_url_length ?? 65_536,
  };
}

/** Flags win over environment variables, which win over defaults. */
export function readSettings(mode: Mode, flags: Flags, project: Project): Settings {
  const { env } = project;
  const seconds = (name: string, fallback: number, max = Number.MAX_SAFE_INTEGER): number =>
    number(env[name], name, fallback, 0, max) * 1000;
  const portSource =
    flags.port !== undefined ? "--port" : env.LANGGRAPH_SERVER_PORT ? "LANGGRAPH_SERVER_PORT" : "the default";
  const jobsSource = flags.jobs !== undefined ? "--jobs" : "N_JOBS_PER_WORKER";
  return {
    mode,
    host: flags.host ?? env.LANGGRAPH_SERVER_HOST ?? "127.0.0.1",
    port: integer(flags.port ?? env.LANGGRAPH_SERVER_PORT, portSource, 2024, 0, 65_535),
    portSource,
    dataDir: resolve(flags.data ?? join(project.dir, ".skein")),
    jobs: integer(flags.jobs ?? env.N_JOBS_PER_WORKER, jobsSource, 10, 1, 10_000),
    threads: integer(flags.threads, "--threads", Math.max(1, availableParallelism() - 1), 1, 256),
    executorHeapMb: integer(env.SKEIN_EXECUTOR_HEAP_MB, "SKEIN_EXECUTOR_HEAP_MB", 2048, 64, 1_000_000),
    maxAttempts: integer(env.BG_JOB_MAX_RETRIES, "BG_JOB_MAX_RETRIES", 3, 1, 1000),
    runTimeoutMs: seconds("BG_JOB_TIMEOUT_SECS", 86_400),
    shutdownGraceMs: seconds("BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS", 180, 3600),
    leaseMs: seconds("SKEIN_LEASE_SECS", 30),
    resumableTtlMs: seconds("RESUMABLE_STREAM_TTL_SECONDS", 120),
    maxBodyBytes: integer(env.HTTP_MAX_REQUEST_BODY_BYTES, "HTTP_MAX_REQUEST_BODY_BYTES", 300 * 1024 * 1024, 1),
    corsOrigins: (env.CORS_ALLOW_ORIGINS ?? "*").split(",").map((origin) => origin.trim()),
    logLevel: logLevel(env.LOG_LEVEL),
  };
}

const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"];
/** What servers in Python call them. */
const PYTHON_LEVELS: ReadonlyMap<string, string> = new Map([
  ["warning", "warn"],
  ["critical", "fatal"],
]);

function logLevel(text: string | undefined): string {
  const given = (text?.trim() || "info").toLowerCase();
  const level = PYTHON_LEVELS.get(given) ?? given;
  if (LOG_LEVELS.includes(level)) return level;
  throw new ConfigError(`LOG_LEVEL must be one of ${LOG_LEVELS.join(", ")}, not "${text}"`);
}

function integer(
  text: string | undefined,
  name: string,
  fallback: number,
  min: number,
  max = Number.MAX_SAFE_INTEGER,
): number {
  const value = number(text, name, fallback, min, max);
  if (!Number.isInteger(value)) throw new ConfigError(`${name} must be a whole number, not "${text}"`);
  return value;
}

function number(text: string | undefined, name: string, fallback: number, min: number, max: number): number {
  if (text === undefined || text.trim() === "") return fallback;
  const value = Number(text);
  if (Number.isFinite(value) && value >= min && value <= max) return value;
  throw new ConfigError(`${name} must be a number from ${min} to ${max}, not "${text}"`);
}
