/**
 * Modules of the project: graphs and embedders in executor threads, what each request asks in the main thread. TypeScript is understood, with
 * the path aliases of the project.
 */
import { existsSync, readFileSync } from "node:fs";
import { createRequire, register } from "node:module";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";

export interface ExportPlace {
  readonly file: string;
  readonly export_name: string;
}

/**
 * A named export of a module of the project. `edition`: a module that was loaded under another number is loaded anew, and so is all that it
 * imports but packages.
 */
export async function loadExport(
  place: ExportPlace,
  project_dir: string,
  edition = 0,
): Promise<{ readonly exported: unknown; readonly namespace: Record<string, unknown> }> {
  await understandTypeScript(place.file, project_dir);
  if (edition > 0) forgetModules();
  const { href } = pathToFileURL(place.file);
  const namespace = (await import(edition > 0 ? `${href}?${EDITION}=${edition}` : href)) as Record<string, unknown>;
  const exported: unknown = await pick(namespace, place.export_name);
  if (exported === undefined) throw new Error(missingExport(place, namespace));
  return { exported, namespace };
}

/** A named export; of a CommonJS module also the members of `module.exports` that Node could not see by reading. */
function pick(namespace: Record<string, unknown>, name: string): unknown {
  if (namespace[name] !== undefined && name !== "default") return namespace[name];
  const whole = namespace.default;
  if (name !== "default") return isRecord(whole) ? whole[name] : undefined;
  // `module.exports.default`, as compilers write it.
  if (isRecord(whole) && whole.__esModule === true && "default" in whole) return whole.default;
  return whole;
}

function missingExport(place: ExportPlace, namespace: Record<string, unknown>): string {
  return `${place.file} has no export "${place.export_name}". ${exportsOf(namespace)}`;
}

/** What a module exports, for people. */
export function exportsOf(namespace: Record<string, unknown>): string {
  const names = Object.keys(namespace).filter((name) => name !== "module.exports");
  return names.length === 0 ? "It exports nothing." : `It exports: ${names.join(", ")}.`;
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return (typeof value === "object" && value !== null) || typeof value === "function";
}

/* ---------------------------------------------------------------------------- modules that have changed */

/** In the query of a module's URL: Node keeps modules by their URL, for ever. */
const EDITION = "skein_edition";

/** A module that is imported by one of an edition is of that edition. It runs in a thread of Node's own, so it is text. */
const HOOKS = `export async function resolve(specifier, context, next) {
  const found = await next(specifier, context);
  const edition = /[?&](${EDITION}=\\d+)/.exec(context.parentURL ?? "")?.[1];
  const { url } = found;
  if (edition === undefined || !url.startsWith("file:") || url.includes("/node_modules/") || url.includes("${EDITION}=")) return found;
  return { ...found, url: url + (url.includes("?") ? "&" : "?") + edition };
}`;

let isHooked = false;

function forgetModules(): void {
  if (!isHooked) register(`data:text/javascript,${encodeURIComponent(HOOKS)}`);
  isHooked = true;
  // CommonJS keeps them by their file.
  const { cache } = createRequire(import.meta.url);
  for (const file of Object.keys(cache)) if (!/[\\/]node_modules[\\/]/.test(file)) delete cache[file];
}

/* ---------------------------------------------------------------------------- TypeScript */

let registering: Promise<void> | undefined;

/** Registers tsx, once, and only when a file needs it: its hooks slow down every later import. */
async function understandTypeScript(file: string, project_dir: string): Promise<void> {
  const tsconfig = findTsconfig(dirname(file), project_dir);
  const needed = /\.[cm]?tsx?$|\.jsx$/.test(file) || (tsconfig !== undefined && hasPaths(tsconfig));
  if (!needed) return;
  registering ??= registerTsx(tsconfig);
  await registering;
}

async function registerTsx(tsconfig: string | undefined): Promise<void> {
  const [esm, cjs] = await Promise.all([import("tsx/esm/api"), import("tsx/cjs/api")]);
  // The CommonJS half takes its tsconfig from the environment only.
  if (tsconfig !== undefined) process.env.TSX_TSCONFIG_PATH = tsconfig;
  cjs.register();
  esm.register(tsconfig === undefined ? {} : { tsconfig });
}

/** The nearest tsconfig.json, from the graph's folder up to the project's. */
function findTsconfig(folder: string, project_dir: string): string | undefined {
  for (let current = folder; ; current = dirname(current)) {
    const candidate = join(current, "tsconfig.json");
    if (existsSync(candidate)) return candidate;
    if (current === project_dir || dirname(current) === current) break;
  }
  const own = join(project_dir, "tsconfig.json");
  return existsSync(own) ? own : undefined;
}

/** Reads text, not JSON: tsconfig files carry comments. An `extends` may bring paths too. */
function hasPaths(tsconfig: string): boolean {
  const text = readFileSync(tsconfig, "utf8");
  return /"(paths|extends)"\s*:/.test(text);
}
