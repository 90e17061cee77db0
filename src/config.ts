/**
 * Everything the server is told: `langgraph.json`, its `env`, environment variables, flags. Read once, at
 * the rim; the parts below get plain values.
 */
import { existsSync, readFileSync, statSync } from "node:fs";
import { validateHeaderName, validateHeaderValue } from "node:http";
import { availableParallelism } from "node:os";
import { dirname, join, resolve } from "node:path";
import { parse as parseEnv } from "dotenv";
import { z } from "zod";
import { ConfigError } from "./config/error.ts";
import { type CorsSettings, corsFor, HttpBlock, type HttpBlockSettings, httpSettings } from "./config/http.ts";
import { exportAt } from "./config/module.ts";
import type { GraphSpec, StoreIndexSpec } from "./executor/protocol.ts";
import { type RedisPlace, redisPlace } from "./redis-uri.ts";
import { MAX_TTL_MINUTES } from "./schemas/limits.ts";

export { ConfigError };

export type Env = Readonly<Record<string, string | undefined>>;

export interface Project {
  /** Folder of `langgraph.json`. */
  readonly dir: string;
  readonly file: string;
  readonly graphs: readonly GraphSpec[];
  /** The process's environment with the project's `env` under it. */
  readonly env: Env;
  readonly webhooks: WebhookSettings;
  readonly http: HttpBlockSettings;
  readonly threadTtl: ThreadTtlSettings;
  readonly store: StoreSettings;
  readonly ui: UiSettings;
  /** Null: whoever reaches the server may do anything. */
  readonly auth: AuthSettings | null;
}

/** The `auth` block of langgraph.json. */
export interface AuthSettings {
  /** The module that exports the `Auth`. */
  readonly file: string;
  readonly export_name: string;
  readonly disableStudio: boolean;
  /** For how long a user is remembered by these headers of a request; null: not at all. */
  readonly cache: AuthCacheSettings | null;
  /** Merged into the served document. */
  readonly openapi: AuthDocument | null;
}

export interface AuthCacheSettings {
  /** Names in lower case. */
  readonly headers: readonly string[];
  readonly ttlMs: number;
  readonly maxSize: number;
}

/** The `ui` and `ui_config` blocks of langgraph.json. */
export interface UiSettings {
  /** Folder of the project. */
  readonly dir: string;
  /** None under `http.disable_ui`. */
  readonly components: readonly UiComponents[];
  /** Packages that pages bring along, besides React (`ui_config.shared`). */
  readonly shared: readonly string[];
}

/** One entry of `ui`. */
export interface UiComponents {
  /** What clients name: a graph's id, mostly. */
  readonly namespace: string;
  /** Its default export is an object of components by name. */
  readonly file: string;
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

/** The `checkpointer.ttl` block of langgraph.json. */
export interface ThreadTtlSettings {
  /** For threads that do not ask; `minutes` null: they never expire. */
  readonly defaults: { readonly strategy: "delete" | "keep_latest"; readonly minutes: number | null };
  readonly sweepMs: number;
  /** Most threads in one sweep. */
  readonly sweepLimit: number;
}

/** The `webhooks` block of langgraph.json, and whether webhooks are sent at all. */
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
  /** Sent with each call; names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** Secrets the calls are signed with; none: unsigned. */
  readonly signingSecrets: readonly string[];
  /** Fields of the payload that are sent; null: all. */
  readonly fields: readonly string[] | null;
}

/** A PostgreSQL server. */
export interface DatabaseSettings {
  readonly uri: string;
  /** Connections of this process at most. */
  readonly poolMax: number;
  readonly statementTimeoutMs: number;
}

/** Encryption at rest. */
export interface EncryptionSettings {
  readonly key: Uint8Array;
  /** Keys of before, for what was written under them. */
  readonly old: readonly Uint8Array[];
  /** Members of JSON columns whose values are encrypted. */
  readonly jsonKeys: readonly string[];
}

/** Redis, by which several processes are one server. */
export interface BrokerSettings {
  readonly uri: string;
  /** In front of every key and channel. */
  readonly prefix: string;
  readonly cluster: boolean;
}

export type OtlpProtocol = "grpc" | "http/protobuf" | "http/json";

const DETECTORS = ["env", "host", "os", "process", "serviceinstance"] as const;
type Detector = (typeof DETECTORS)[number];

/** OpenTelemetry, by its own variables. */
export interface TelemetrySettings {
  /** All `OTEL_*`: the SDK reads the others itself. */
  readonly env: Readonly<Record<string, string>>;
  /** Null: none are sent. `isW3c`: callers' traces go on here. */
  readonly traces: { readonly protocol: OtlpProtocol; readonly isW3c: boolean } | null;
  /** What finds out whose they are. */
  readonly detectors: readonly Detector[];
  /** Null: none are sent. */
  readonly metrics: {
    readonly protocol: OtlpProtocol;
    readonly intervalMs: number;
    readonly timeoutMs: number;
  } | null;
}

/** What a process does: all, serve clients only, or execute runs only. */
export type Role = "all" | "api" | "worker";

export type Mode = "dev" | "start";

export interface Flags {
  readonly config?: string;
  readonly host?: string;
  readonly port?: string;
  readonly data?: string;
  readonly jobs?: string;
  readonly threads?: string;
  /** False: `--no-worker`. */
  readonly worker?: boolean;
}

export interface Settings {
  readonly mode: Mode;
  readonly host: string;
  readonly port: number;
  /** Which setting asked for the port, for people. */
  readonly portSource: string;
  readonly dataDir: string;
  readonly role: Role;
  /** Null: this process is alone, or others find work and ends by asking the database. */
  readonly broker: BrokerSettings | null;
  /** Null: a file in `dataDir`. */
  readonly database: DatabaseSettings | null;
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
  /** How long a question about a graph or a state may take. */
  readonly questionMs: number;
  /** How long the events of an ended resumable run are kept. */
  readonly resumableTtlMs: number;
  /** How long the records of webhook calls are kept. */
  readonly deliveriesTtlMs: number;
  /** How often deleted data is given back to the disk. */
  readonly reclaimMs: number;
  /** How often a stretch of the database is looked at for what should not be there. */
  readonly reconcileMs: number;
  /** Null: data is stored as it is. */
  readonly encryption: EncryptionSettings | null;
  readonly maxBodyBytes: number;
  readonly cors: CorsSettings;
  readonly logLevel: string;
  /** Null: there is no OpenTelemetry. */
  readonly telemetry: TelemetrySettings | null;
  /** The project of LangSmith that graphs are traced in; null: they are not. */
  readonly langsmithProject: string | null;
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

/** What a timer takes. */
const LONGEST_SWEEP_MINUTES = Math.floor((2 ** 31 - 1) / 60_000);

/** What a webhook's payload consists of. */
const WEBHOOK_FIELDS = [
  "run_id",
  "thread_id",
  "assistant_id",
  "created_at",
  "updated_at",
  "status",
  "metadata",
  "kwargs",
  "multitask_strategy",
  "run_started_at",
  "run_ended_at",
  "webhook_sent_at",
  "error",
  "values",
] as const;

const WebhooksBlock = z.looseObject({
  env_prefix: z.string().min(1).nullish(),
  headers: z.record(z.string(), z.string()).nullish(),
  signing_secret: z.union([z.string(), z.array(z.string())]).nullish(),
  fields: z.array(z.enum(WEBHOOK_FIELDS)).min(1).nullish(),
  url: z
    .looseObject({
      disable_loopback: z.boolean().nullish(),
      allow_private: z.boolean().nullish(),
      require_https: z.boolean().nullish(),
      allowed_domains: z.array(z.string()).nullish(),
      allowed_ports: z.array(z.int().min(1).max(65_535)).nullish(),
      max_url_length: z.int().min(1).max(65_536).nullish(),
    })
    .nullish(),
});
type WebhooksBlock = z.infer<typeof WebhooksBlock>;

const AuthDocument = z.strictObject({
  securitySchemes: z.record(z.string(), z.record(z.string(), z.unknown())).optional(),
  security: z.array(z.record(z.string(), z.array(z.string()))).optional(),
  paths: z.record(z.string().startsWith("/"), z.record(z.string(), z.unknown())).optional(),
});
/** What the served document says of how clients log in. */
export type AuthDocument = z.infer<typeof AuthDocument>;

/** Strict, unlike the rest: who misspells a word here believes to be safe. */
const AuthBlock = z.strictObject({
  path: z.string(),
  disable_studio_auth: z.boolean().nullish(),
  openapi: AuthDocument.nullish(),
  cache: z
    .strictObject({
      cache_keys: z.array(z.string().regex(/^[\w-]+$/, "names of headers")).min(1),
      ttl_seconds: z.number().positive().max(86_400).nullish(),
      max_size: z.int().min(1).nullish(),
    })
    .nullish(),
});

const ProjectFile = z.looseObject({
  graphs: z.record(z.string(), GraphEntry),
  env: z.union([z.string(), z.record(z.string(), z.union([z.string(), z.number(), z.boolean()]))]).nullish(),
  node_version: z.union([z.string(), z.number()]).nullish(),
  store: StoreBlock.nullish(),
  checkpointer: z
    .looseObject({
      ttl: z
        .looseObject({
          strategy: z.enum(["delete", "keep_latest"]).nullish(),
          default_ttl: z.number().positive().nullish(),
          sweep_interval_minutes: z.number().positive().max(LONGEST_SWEEP_MINUTES).nullish(),
          sweep_limit: z.int().positive().nullish(),
        })
        .nullish(),
    })
    .nullish(),
  http: HttpBlock.nullish(),
  ui: z.record(z.string().min(1), z.string()).nullish(),
  ui_config: z.looseObject({ shared: z.array(z.string().min(1)).nullish() }).nullish(),
  webhooks: WebhooksBlock.nullish(),
  auth: AuthBlock.nullish(),
  // Modules of one's own: a server that ignored them would write plain text where somebody counts on encryption.
  encryption: z.null({ error: "modules are not supported; LANGGRAPH_AES_KEY encrypts data at rest" }).optional(),
});
type ProjectFile = z.infer<typeof ProjectFile>;

/** Reads a project. `path` is `langgraph.json` or its folder. */
export function loadProject(path: string, processEnv: Env): Project {
  const file = locate(resolve(path));
  const dir = dirname(file);
  const content = parseProject(file);
  const env = { ...projectEnv(dir, content.env), ...processEnv };
  return {
    dir,
    file,
    graphs: Object.entries(content.graphs).map(([id, entry]) => graphSpec(dir, id, entry)),
    env,
    webhooks: webhookSettings(content, env),
    http: httpSettings(dir, content.http, env.MOUNT_PREFIX),
    store: storeSettings(dir, content.store),
    threadTtl: threadTtlSettings(content),
    ui: uiSettings(dir, content),
    auth: authSettings(dir, content.auth),
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
  return parsedAs(ProjectFile, json, file);
}

function parsedAs<T>(schema: z.ZodType<T>, json: unknown, source: string): T {
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new ConfigError(`${source}: ${issue?.path.join(".")}: ${issue?.message}`);
}

function graphSpec(dir: string, graph_id: string, entry: z.infer<typeof GraphEntry>): GraphSpec {
  const { path, description } = typeof entry === "string" ? { path: entry, description: null } : entry;
  return { graph_id, ...exportAt(dir, path, `graph "${graph_id}"`), description: description ?? null };
}

function uiSettings(dir: string, { ui, ui_config, http }: ProjectFile): UiSettings {
  const served = http?.disable_ui === true ? {} : (ui ?? {});
  return {
    dir,
    components: Object.entries(served).map(([namespace, path]) => uiComponents(dir, namespace, path)),
    shared: ui_config?.shared ?? [],
  };
}

function uiComponents(dir: string, namespace: string, path: string): UiComponents {
  const file = resolve(dir, path);
  if (!existsSync(file)) throw new ConfigError(`ui "${namespace}": ${file} does not exist`);
  return { namespace, file };
}

const AUTH_CACHE = { ttlSeconds: 60, maxSize: 1000 };

function authSettings(dir: string, block: ProjectFile["auth"]): AuthSettings | null {
  if (block == null) return null;
  const { path, disable_studio_auth, openapi, cache } = block;
  return {
    ...exportAt(dir, path, "auth.path"),
    disableStudio: disable_studio_auth === true,
    openapi: openapi ?? null,
    cache:
      cache == null
        ? null
        : {
            headers: cache.cache_keys.map((name) => name.toLowerCase()),
            ttlMs: (cache.ttl_seconds ?? AUTH_CACHE.ttlSeconds) * 1000,
            maxSize: cache.max_size ?? AUTH_CACHE.maxSize,
          },
  };
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

function webhookSettings(content: ProjectFile, env: Env): WebhookSettings {
  const block = webhooksFromEnv(env) ?? content.webhooks;
  const url = block?.url;
  const fill = templates(env, block?.env_prefix ?? "LG_WEBHOOK_");
  return {
    enabled: content.http?.disable_webhooks !== true,
    allowLoopback: url?.disable_loopback === false,
    allowPrivate: url?.allow_private === true,
    requireHttps: url?.require_https === true,
    allowedDomains: url?.allowed_domains ?? null,
    allowedPorts: url?.allowed_ports ?? null,
    maxUrlLength: url?.max_url_length ?? 65_536,
    headers: webhookHeaders(block?.headers ?? {}, fill),
    signingSecrets: [block?.signing_secret ?? []].flat().map((text) => signingSecret(text, fill)),
    fields: block?.fields ?? null,
  };
}

/** Images carry the block as JSON in the environment; it takes the place of the file's. */
function webhooksFromEnv({ LANGGRAPH_WEBHOOKS: text }: Env): WebhooksBlock | undefined {
  if (text === undefined || text.trim() === "") return undefined;
  try {
    return parsedAs(WebhooksBlock, JSON.parse(text), "LANGGRAPH_WEBHOOKS");
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    throw new ConfigError(`LANGGRAPH_WEBHOOKS is not JSON: ${error instanceof Error ? error.message : error}`);
  }
}

type Fill = (text: string, where: string) => string;

/** Fills in `${{ env.NAME }}`. Only variables made for webhooks, so that no other secret leaves by mistake. */
function templates(env: Env, prefix: string): Fill {
  return (text, where) => {
    const filled = text.replaceAll(/\$\{\{\s*env\.([A-Za-z_][A-Za-z0-9_]*)\s*\}\}/g, (_, name: string) => {
      if (!name.startsWith(prefix)) {
        throw new ConfigError(`${where}: ${name} may not be used here: only variables that start with ${prefix}`);
      }
      const value = env[name];
      if (value === undefined || value === "") throw new ConfigError(`${where}: the variable ${name} is not set`);
      return value;
    });
    const left = /\$\{\{[^}]*\}?\}?/.exec(text.replaceAll(/\$\{\{\s*env\.[A-Za-z_][A-Za-z0-9_]*\s*\}\}/g, ""));
    if (left !== null) throw new ConfigError(`${where}: ${left[0]} is not understood; write \${{ env.${prefix}NAME }}`);
    return filled;
  };
}

/** Headers that say what the body and the connection are. */
const OWN_HEADERS = new Set(["connection", "content-length", "content-type", "host", "transfer-encoding"]);

function webhookHeaders(headers: Readonly<Record<string, string>>, fill: Fill): Record<string, string> {
  const entries = Object.entries(headers).map(([name, text]) => {
    const where = `webhooks.headers.${name}`;
    const lower = name.toLowerCase();
    if (OWN_HEADERS.has(lower) || lower.startsWith("x-skein-")) {
      throw new ConfigError(`${where}: the server sets this header itself`);
    }
    const value = fill(text, where);
    try {
      validateHeaderName(name);
      validateHeaderValue(name, value);
    } catch {
      // The error of Node would show the value, which may be a secret.
      throw new ConfigError(`${where} is no valid header`);
    }
    return [lower, value];
  });
  return Object.fromEntries(entries);
}

function signingSecret(text: string, fill: Fill): string {
  const secret = fill(text, "webhooks.signing_secret");
  if (secret.trim() === "") throw new ConfigError("webhooks.signing_secret is empty");
  return secret;
}

const AES_BYTES = [16, 24, 32];

/** Names of the broker, the first that is set counts. */
const BROKER_NAMES = ["REDIS_URI", "REDIS_URI_CUSTOM"] as const;

function brokerSettings(env: Env): BrokerSettings | null {
  const name = BROKER_NAMES.find((each) => (env[each] ?? "").trim() !== "");
  if (name === undefined) return null;
  const uri = (env[name] ?? "").trim();
  const cluster = yes(env.REDIS_CLUSTER, "REDIS_CLUSTER");
  const { db } = placeOf(name, uri);
  if (cluster && db !== 0) throw new ConfigError(`${name} names database ${db}: a Redis cluster has only database 0`);
  return { uri, prefix: env.REDIS_KEY_PREFIX ?? "", cluster };
}

function placeOf(name: string, uri: string): RedisPlace {
  try {
    return redisPlace(uri);
  } catch (error) {
    throw new ConfigError(`${name} ${(error as Error).message}`);
  }
}

function yes(text: string | undefined, name: string): boolean {
  const word = (text ?? "").trim().toLowerCase();
  if (["", "0", "false", "no"].includes(word)) return false;
  if (["1", "true", "yes"].includes(word)) return true;
  throw new ConfigError(`${name} must be true or false, not "${text}"`);
}

/** A file is one process's: there is nobody to share it with. */
function sharedBroker(env: Env, isShared: boolean): BrokerSettings | null {
  const broker = brokerSettings(env);
  if (broker !== null && !isShared) {
    throw new ConfigError(
      "REDIS_URI needs DATABASE_URI: processes that share a broker must share a PostgreSQL database",
    );
  }
  return broker;
}

/** Variables that graphs have no use for and must not leak. */
export const SERVER_SECRETS = [
  "LANGGRAPH_AES_KEY",
  "LANGGRAPH_AES_KEYS_OLD",
  "DATABASE_URI",
  "POSTGRES_URI",
  "POSTGRES_URI_CUSTOM",
  "REDIS_URI",
  "REDIS_URI_CUSTOM",
] as const;

/** Names of the database, the first that is set counts. */
const DATABASE_NAMES = ["DATABASE_URI", "POSTGRES_URI", "POSTGRES_URI_CUSTOM"] as const;

function databaseSettings(env: Env): DatabaseSettings | null {
  const name = DATABASE_NAMES.find((each) => (env[each] ?? "").trim() !== "");
  if (name === undefined) return null;
  const uri = (env[name] ?? "").trim();
  // The error must not show the URI: it holds a password.
  if (!/^postgres(?:ql)?:\/\//.test(uri) || !URL.canParse(uri)) {
    throw new ConfigError(`${name} must be a PostgreSQL URI (postgres://user:password@host:5432/database)`);
  }
  const poolName = "LANGGRAPH_POSTGRES_POOL_MAX_SIZE";
  const timeoutName = "SKEIN_STATEMENT_TIMEOUT_SECS";
  return {
    uri,
    poolMax: integer(env[poolName], poolName, 20, 2, 10_000),
    statementTimeoutMs: number(env[timeoutName], timeoutName, 30, 0.1, 3600) * 1000,
  };
}

function encryptionSettings(env: Env): EncryptionSettings | null {
  const { LANGGRAPH_AES_KEY: key, LANGGRAPH_AES_KEYS_OLD: old, LANGGRAPH_AES_JSON_KEYS: json } = env;
  if (key === undefined || key === "") {
    if (listOf(json).length > 0) throw new ConfigError("LANGGRAPH_AES_JSON_KEYS needs LANGGRAPH_AES_KEY");
    if (listOf(old).length > 0) throw new ConfigError("LANGGRAPH_AES_KEYS_OLD needs LANGGRAPH_AES_KEY");
    return null;
  }
  return {
    key: aesKey(key, "LANGGRAPH_AES_KEY"),
    old: listOf(old).map((text, index) => aesKey(text, `LANGGRAPH_AES_KEYS_OLD (key ${index + 1})`)),
    jsonKeys: [...new Set(listOf(json))].sort().map(sealable),
  };
}

const listOf = (text: string | undefined): string[] =>
  (text ?? "")
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");

function aesKey(text: string, name: string): Uint8Array {
  const bytes = Buffer.from(text);
  if (AES_BYTES.includes(bytes.length)) return bytes;
  throw new ConfigError(`${name} must have 16, 24 or 32 bytes, not ${bytes.length}`);
}

/** Members of JSON that the server reads or searches itself. */
const NEVER_SEALED = new Set([
  "assistant_id",
  "checkpoint_id",
  "checkpoint_map",
  "checkpoint_ns",
  "created_by",
  "cron_id",
  "graph_id",
  "langgraph_api_url",
  "langgraph_api_version",
  "langgraph_auth_permissions",
  "langgraph_auth_user_id",
  "langgraph_host",
  "langgraph_plan",
  "langgraph_request_id",
  "langgraph_version",
  "max_concurrency",
  "parents",
  "recursion_limit",
  "run_attempt",
  "run_id",
  "source",
  "step",
  "thread_id",
  "ttl",
  "__after_seconds__",
  "__request_start_time_ms__",
]);

function sealable(name: string): string {
  if (!NEVER_SEALED.has(name) && !name.startsWith("__pregel")) return name;
  throw new ConfigError(`LANGGRAPH_AES_JSON_KEYS: the server needs ${name} in plain text`);
}

function threadTtlSettings({ checkpointer }: ProjectFile): ThreadTtlSettings {
  const ttl = checkpointer?.ttl;
  return {
    defaults: { strategy: ttl?.strategy ?? "delete", minutes: ttl?.default_ttl ?? null },
    sweepMs: (ttl?.sweep_interval_minutes ?? 5) * 60_000,
    sweepLimit: ttl?.sweep_limit ?? 10_000,
  };
}

/** Flags win over environment variables, which win over defaults. */
export function readSettings(mode: Mode, flags: Flags, project: Project, worker = false): Settings {
  const { env } = project;
  const isShared = DATABASE_NAMES.some((name) => (env[name] ?? "").trim() !== "");
  const role = worker ? "worker" : flags.worker === false ? "api" : "all";
  if (role !== "all" && !isShared) {
    throw new ConfigError(
      `${worker ? "skein worker" : "--no-worker"} needs DATABASE_URI: other processes do the rest, on the same database`,
    );
  }
  // Questions about graphs need a thread; runs are for others.
  const threads = role === "api" ? 1 : Math.max(1, availableParallelism() - 1);
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
    database: databaseSettings(env),
    dataDir: resolve(flags.data ?? join(project.dir, ".skein")),
    role,
    broker: sharedBroker(env, isShared),
    jobs: integer(flags.jobs ?? env.N_JOBS_PER_WORKER, jobsSource, 10, 1, 10_000),
    threads: integer(flags.threads, "--threads", threads, 1, 256),
    executorHeapMb: integer(env.SKEIN_EXECUTOR_HEAP_MB, "SKEIN_EXECUTOR_HEAP_MB", 2048, 64, 1_000_000),
    maxAttempts: integer(env.BG_JOB_MAX_RETRIES, "BG_JOB_MAX_RETRIES", 3, 1, 1000),
    runTimeoutMs: seconds("BG_JOB_TIMEOUT_SECS", 86_400),
    shutdownGraceMs: seconds("BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS", 180, 3600),
    leaseMs: seconds("SKEIN_LEASE_SECS", 30),
    questionMs: seconds("SKEIN_QUESTION_SECS", 30),
    resumableTtlMs: seconds("RESUMABLE_STREAM_TTL_SECONDS", 120),
    deliveriesTtlMs: seconds("SKEIN_WEBHOOK_DELIVERIES_TTL_SECS", 7 * 86_400),
    reconcileMs: seconds("SKEIN_RECONCILE_SECS", 30, 86_400),
    reclaimMs: seconds("SKEIN_RECLAIM_SECS", 30, 86_400),
    encryption: encryptionSettings(env),
    maxBodyBytes: integer(env.HTTP_MAX_REQUEST_BODY_BYTES, "HTTP_MAX_REQUEST_BODY_BYTES", 300 * 1024 * 1024, 1),
    cors: project.http.cors ?? corsFor((env.CORS_ALLOW_ORIGINS ?? "*").split(",").map((origin) => origin.trim())),
    logLevel: logLevel(env.LOG_LEVEL),
    telemetry: telemetrySettings(env),
    langsmithProject: langsmithProject(env),
  };
}

/** Null unless an endpoint is set. What we cannot do is refused, or somebody would wait for it. */
function telemetrySettings(env: Env): TelemetrySettings | null {
  const own = Object.entries(env).flatMap(([name, value]): [string, string][] =>
    name.startsWith("OTEL_") && value !== undefined && value.trim() !== "" ? [[name, value]] : [],
  );
  const otel: Env = Object.fromEntries(own);
  if (yes(otel.OTEL_SDK_DISABLED, "OTEL_SDK_DISABLED")) return null;
  const sends = (signal: "TRACES" | "METRICS"): boolean =>
    (otel.OTEL_EXPORTER_OTLP_ENDPOINT ?? otel[`OTEL_EXPORTER_OTLP_${signal}_ENDPOINT`]) !== undefined &&
    word(otel, `OTEL_${signal}_EXPORTER`, ["otlp", "none"]) === "otlp";
  const [traces, metrics] = [sends("TRACES"), sends("METRICS")];
  if (!traces && !metrics) return null;
  if (metrics) word(otel, "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", ["cumulative"]);
  return {
    env: Object.fromEntries(own),
    traces: traces ? { protocol: otlpProtocol(otel, "TRACES"), isW3c: goesOn(otel) } : null,
    detectors: detectorsOf(otel),
    metrics: metrics
      ? {
          protocol: otlpProtocol(otel, "METRICS"),
          intervalMs: positive(otel, "OTEL_METRIC_EXPORT_INTERVAL", 60_000),
          timeoutMs: positive(otel, "OTEL_METRIC_EXPORT_TIMEOUT", 30_000),
        }
      : null,
  };
}

/** Baggage is nobody's here. */
const goesOn = (env: Env): boolean =>
  words(env, "OTEL_PROPAGATORS", ["tracecontext", "baggage", "none"], "tracecontext").includes("tracecontext");

function detectorsOf(env: Env): readonly Detector[] {
  const named = words(env, "OTEL_NODE_RESOURCE_DETECTORS", [...DETECTORS, "all", "none"], "env,process,host");
  return named.includes("all") ? DETECTORS : DETECTORS.filter((each) => named.includes(each));
}

function words(env: Env, name: string, known: readonly string[], fallback: string): readonly string[] {
  const given = listOf(env[name] ?? fallback);
  const strange = given.find((each) => !known.includes(each));
  if (strange === undefined) return given;
  throw new ConfigError(`${name} may have ${known.join(", ")}, not "${strange}"`);
}

function otlpProtocol(env: Env, signal: "TRACES" | "METRICS"): OtlpProtocol {
  const common = "OTEL_EXPORTER_OTLP_PROTOCOL";
  const own = `OTEL_EXPORTER_OTLP_${signal}_PROTOCOL`;
  return word(env, env[own] === undefined ? common : own, ["http/protobuf", "http/json", "grpc"]);
}

/** The first word when the variable is not set. */
function word<W extends string>(env: Env, name: string, words: readonly [W, ...W[]]): W {
  const given = env[name]?.trim().toLowerCase() ?? words[0];
  const found = words.find((each) => each === given);
  if (found !== undefined) return found;
  throw new ConfigError(`${name} must be ${words.join(" or ")}, not "${env[name]}"`);
}

const positive = (env: Env, name: string, fallback: number): number =>
  integer(env[name], name, fallback, 1, 2 ** 31 - 1);

/** Read here as LangChain reads them, in the executor threads. */
const LANGSMITH_SWITCHES = ["LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING_V2", "LANGSMITH_TRACING", "LANGCHAIN_TRACING"];

function langsmithProject(env: Env): string | null {
  if (!LANGSMITH_SWITCHES.some((name) => env[name] === "true")) return null;
  return env.LANGSMITH_PROJECT || env.LANGCHAIN_PROJECT || env.LANGCHAIN_SESSION || "default";
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
