/** The `http` block of langgraph.json: which routes there are and where, who may call from elsewhere, and code of the project around them. */
import { validateHeaderName } from "node:http";
import { z } from "zod";
import { ConfigError } from "./error.ts";
import { exportAt, type ModuleExport } from "./module.ts";

/** Parts of the API that `disable_*` takes away. */
export const SWITCHES = ["assistants", "threads", "runs", "store", "meta", "ui", "mcp", "a2a"] as const;
export type Switch = (typeof SWITCHES)[number];

export interface HttpBlockSettings {
  readonly disabled: ReadonlySet<Switch>;
  /** In front of every path: `/like/this`, or nothing. */
  readonly mountPrefix: string;
  /** Null: as the environment says. */
  readonly cors: CorsSettings | null;
  /** Headers that become part of a run's `configurable`. */
  readonly configurableHeaders: HeaderChoice;
  /** Headers that are written to the log. */
  readonly loggingHeaders: HeaderChoice;
  readonly app: AppSettings | null;
}

/** The project's own app. */
export interface AppSettings extends ModuleExport {
  /** As it is written, for people. */
  readonly path: string;
  /** Whether the app sees requests before it is known who sends them. */
  readonly order: "middleware_first" | "auth_first";
  /** Whether its routes, too, are for those who are known only. */
  readonly authenticated: boolean;
}

/** Who may call from pages of elsewhere. */
export interface CorsSettings {
  /** `["*"]` for any. */
  readonly origins: readonly string[];
  /** Origins that it matches as a whole are allowed, too. */
  readonly originPattern: RegExp | null;
  readonly methods: readonly string[];
  /** Null: whatever is asked for. */
  readonly headers: readonly string[] | null;
  readonly credentials: boolean;
  /** Beside those that clients of this API read. */
  readonly exposed: readonly string[];
  readonly maxAgeSeconds: number;
}

/** Names of headers in lower case, `*` for any characters. */
export interface HeaderChoice {
  readonly includes: readonly string[];
  readonly excludes: readonly string[];
}

const NO_HEADERS: HeaderChoice = { includes: [], excludes: [] };
const METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
/** Keys by which services know each other: no graph and no log has to see them. */
const NEVER_CHOSEN = new Set(["x-api-key", "x-tenant-id", "x-service-key"]);

const names = z.array(z.string().min(1)).nullish();
const Headers = z.strictObject({ includes: names, excludes: names, include: names, exclude: names }).nullish();
const flag = z.boolean().nullish();

export const HttpBlock = z.looseObject({
  app: z.string().min(1).nullish(),
  middleware_order: z.enum(["middleware_first", "auth_first"]).nullish(),
  enable_custom_route_auth: flag,
  cors: z
    .strictObject({
      allow_origins: names,
      allow_methods: names,
      allow_headers: names,
      allow_credentials: flag,
      allow_origin_regex: z.string().min(1).nullish(),
      expose_headers: names,
      max_age: z.int().min(0).nullish(),
    })
    .nullish(),
  configurable_headers: Headers,
  logging_headers: Headers,
  mount_prefix: z.string().nullish(),
  disable_assistants: flag,
  disable_threads: flag,
  disable_runs: flag,
  disable_store: flag,
  disable_meta: flag,
  disable_ui: flag,
  disable_mcp: flag,
  disable_a2a: flag,
  disable_webhooks: flag,
});
export type HttpBlock = z.infer<typeof HttpBlock>;

/** Origins alone; for all else what suits clients of this API. */
export const corsFor = (origins: readonly string[]): CorsSettings => ({
  origins,
  originPattern: null,
  methods: METHODS,
  headers: null,
  credentials: false,
  exposed: [],
  maxAgeSeconds: 600,
});

/** What the block says. `MOUNT_PREFIX` is set where a server is deployed, so it wins over the file. */
export function httpSettings(
  dir: string,
  block: HttpBlock | null | undefined,
  mountPrefix?: string,
): HttpBlockSettings {
  const given = block ?? {};
  refuseUnknownSwitches(given);
  return {
    disabled: new Set(SWITCHES.filter((name) => given[`disable_${name}`] === true)),
    mountPrefix: mountPrefix?.trim()
      ? prefixOf(mountPrefix, "MOUNT_PREFIX")
      : prefixOf(given.mount_prefix ?? "", "http.mount_prefix"),
    cors: given.cors == null ? null : corsSettings(given.cors),
    configurableHeaders: headerChoice(given.configurable_headers, "http.configurable_headers"),
    loggingHeaders: headerChoice(given.logging_headers, "http.logging_headers"),
    app: appSettings(dir, given),
  };
}

/** One that were ignored would leave open what somebody means to close. */
function refuseUnknownSwitches(block: HttpBlock): void {
  const known = [...Object.keys(HttpBlock.shape)].filter((key) => key.startsWith("disable_"));
  for (const key of Object.keys(block)) {
    if (!key.startsWith("disable_") || known.includes(key)) continue;
    throw new ConfigError(`http.${key} is not known; there are ${known.join(", ")}`);
  }
}

const PREFIX = /^(\/[A-Za-z0-9._~-]+)+$/;

/** `/like/this`, or nothing. */
export function prefixOf(text: string, setting: string): string {
  const trimmed = text.trim().replace(/\/+$/, "");
  const prefix = trimmed === "" || trimmed.startsWith("/") ? trimmed : `/${trimmed}`;
  const isPlain = PREFIX.test(prefix) && !prefix.split("/").some((part) => part === "." || part === "..");
  if (prefix === "" || isPlain) return prefix;
  throw new ConfigError(`${setting}: "${text}" is no path such as /agents`);
}

function corsSettings(given: NonNullable<HttpBlock["cors"]>): CorsSettings {
  const pattern = given.allow_origin_regex ?? null;
  // A list beside the pattern adds to it; neither is the default of a server without the block.
  const origins = given.allow_origins ?? (pattern === null ? ["*"] : []);
  const credentials = given.allow_credentials === true;
  if (credentials && origins.includes("*")) {
    throw new ConfigError(
      'http.cors.allow_credentials: browsers send none to a server that allows "*": name the origins in allow_origins or allow_origin_regex',
    );
  }
  const usual = corsFor(origins);
  return {
    origins,
    originPattern: pattern === null ? null : wholePattern(pattern),
    methods: listed(given.allow_methods, usual.methods).map((method) => method.toUpperCase()),
    headers: given.allow_headers == null || given.allow_headers.includes("*") ? null : given.allow_headers,
    credentials,
    exposed: given.expose_headers ?? [],
    maxAgeSeconds: given.max_age ?? usual.maxAgeSeconds,
  };
}

const listed = (given: readonly string[] | null | undefined, all: readonly string[]): readonly string[] =>
  given == null || given.includes("*") ? all : given;

function wholePattern(pattern: string): RegExp {
  try {
    return new RegExp(`^(?:${pattern})$`);
  } catch (error) {
    throw new ConfigError(`http.cors.allow_origin_regex: ${error instanceof Error ? error.message : error}`);
  }
}

function headerChoice(given: z.infer<typeof Headers>, setting: string): HeaderChoice {
  if (given == null) return NO_HEADERS;
  const lower = (patterns: readonly string[]): string[] => patterns.map((each) => headerPattern(each, setting));
  const includes = lower([...(given.includes ?? []), ...(given.include ?? [])]);
  for (const name of includes) {
    if (NEVER_CHOSEN.has(name)) throw new ConfigError(`${setting}: ${name} is a key of services, and never passed on`);
  }
  return { includes, excludes: lower([...(given.excludes ?? []), ...(given.exclude ?? [])]) };
}

function headerPattern(text: string, setting: string): string {
  const pattern = text.trim().toLowerCase();
  try {
    validateHeaderName(pattern.replaceAll("*", "x"));
  } catch {
    throw new ConfigError(`${setting}: "${text}" is no name of a header, with * for any characters`);
  }
  return pattern;
}

function appSettings(dir: string, block: HttpBlock): AppSettings | null {
  const { app, middleware_order, enable_custom_route_auth } = block;
  if (app == null) {
    for (const key of ["middleware_order", "enable_custom_route_auth"] as const) {
      if (block[key] != null) throw new ConfigError(`http.${key} needs http.app`);
    }
    return null;
  }
  const authenticated = enable_custom_route_auth === true;
  if (authenticated && middleware_order === "middleware_first") {
    throw new ConfigError(
      "http.enable_custom_route_auth authenticates before the app, its middleware with it: that is http.middleware_order auth_first",
    );
  }
  return { ...exportAt(dir, app, "http.app"), path: app, order: middleware_order ?? "middleware_first", authenticated };
}
