/**
 * LangGraph in a handful of files instead of four hundred: the same code, and a server that loads it starts with two thirds
 * of the CPU. Graphs of tests get it where it has all they import; suites that must see the packages as users install them (conformance,
 * `auth`, pages, TypeScript, the executor's own) name their folder or modules.
 *
 * Made once, by content, before the tests (`packed-setup.ts`), in `node_modules/.cache`; `npm ci` takes it away.
 */
import { createHash } from "node:crypto";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const SOURCES = fileURLToPath(new URL("./graphs", import.meta.url));

/** What graphs and our executor threads import. All in one build, so that they share one copy of what is in it. */
const PACKAGES: Readonly<Record<string, readonly string[]>> = {
  "@langchain/langgraph": ["", "/prebuilt", "/stream", "/zod", "/zod/schema"],
  "@langchain/langgraph-checkpoint": [""],
  "@langchain/core": [
    "/callbacks/promises",
    "/language_models/chat_models",
    "/messages",
    "/outputs",
    "/singletons",
    "/tools",
    "/tracers/tracer_langchain",
    "/utils/testing",
  ],
  langsmith: ["/run_trees"],
  zod: [""],
};
const SPECIFIERS = new Set(
  Object.entries(PACKAGES).flatMap(([name, subpaths]) => subpaths.map((subpath) => `${name}${subpath}`)),
);

const CACHE = join(ROOT, "node_modules", ".cache");
const PLACE = join(CACHE, `skein-packed-${contentHash()}`);
/** To be the `node_modules` of a project whose graphs import only what is packed. */
export const PACKED_MODULES = join(PLACE, "node_modules");
/** The fixture graphs; see `graphs/langgraph.json`. Copies, beside those modules. */
export const FIXTURES = join(PLACE, "graphs");

/** The modules for a project of these files (path → text): the packed ones where they have everything. */
export const modulesFor = (files: Readonly<Record<string, string>>): string =>
  Object.entries(files).every(([path, text]) => isServed(path, text)) ? PACKED_MODULES : join(ROOT, "node_modules");

/** CommonJS, and whoever looks at types, needs the packages themselves. */
function isServed(path: string, text: string): boolean {
  if (!/\.m?js$/.test(path)) return /\.(json|env|txt|md)$/.test(path);
  if (/\brequire\(/.test(text)) return false;
  const imported = [...text.matchAll(/\b(?:from|import)\s*\(?\s*["']([^"']+)["']/g)].map(([, name = ""]) => name);
  return imported.every((name) => /^(node:|\.|\/|file:)/.test(name) || SPECIFIERS.has(name));
}

function contentHash(): string {
  const graphs = readdirSync(SOURCES).sort();
  const files = [
    join(ROOT, "package-lock.json"),
    fileURLToPath(import.meta.url),
    ...graphs.map((file) => join(SOURCES, file)),
  ];
  const hash = createHash("sha256");
  for (const file of files) hash.update(`\0${file}\0`).update(readFileSync(file));
  return hash.digest("hex").slice(0, 16);
}

/** Makes the folder, whole or not at all: who comes second throws his own away. */
export async function pack(): Promise<void> {
  if (existsSync(PLACE)) return;
  mkdirSync(CACHE, { recursive: true });
  const fresh = mkdtempSync(join(CACHE, "skein-packing-"));
  try {
    await packModules(join(fresh, "node_modules"));
    cpSync(SOURCES, join(fresh, "graphs"), { recursive: true });
    writeFileSync(join(fresh, "package.json"), JSON.stringify({ private: true, type: "module" }));
    renameSync(fresh, PLACE);
  } catch (error) {
    if (!existsSync(PLACE)) throw error;
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
}

async function packModules(into: string): Promise<void> {
  const { build } = await import("esbuild");
  const fileOf = (subpath: string): string => (subpath === "" ? "index" : subpath.slice(1));
  await build({
    entryPoints: Object.entries(PACKAGES).flatMap(([name, subpaths]) =>
      subpaths.map((subpath) => ({ in: `${name}${subpath}`, out: join(name, fileOf(subpath)) })),
    ),
    absWorkingDir: ROOT,
    outdir: into,
    bundle: true,
    splitting: true,
    platform: "node",
    format: "esm",
    outExtension: { ".js": ".mjs" },
    logLevel: "error",
    banner: {
      js: 'import { createRequire as packedRequire } from "node:module"; const require = packedRequire(import.meta.url);',
    },
  });
  for (const [name, subpaths] of Object.entries(PACKAGES)) {
    const { version } = JSON.parse(readFileSync(join(ROOT, "node_modules", name, "package.json"), "utf8"));
    const exports = Object.fromEntries(subpaths.map((subpath) => [`.${subpath}`, `./${fileOf(subpath)}.mjs`]));
    const file = join(into, name, "package.json");
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, JSON.stringify({ name, version, type: "module", exports }));
  }
}
