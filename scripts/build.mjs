/**
 * Builds `dist` from `src` (`builds.mjs` says how it lies there): the command line, the server as a part of other programs, the executor threads, and the assets they read.
 *
 * Bundled, because starting is mostly loading: the server and its packages are some 630 modules, and reading them
 * one by one made `skein --help` wait 0.9 s on a slow machine instead of 0.4 s.
 * Types are not checked here; `npm run typecheck` does that.
 */
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { build } from "esbuild";
import ts from "typescript-5";
import { place } from "./builds.mjs";
import { BUILD_STAMP, ROOT, sourcesHash, writeStamp } from "./fingerprints.mjs";

const SRC = join(ROOT, "src");
const DIST = join(ROOT, "dist");
/** Built aside and moved into place whole: a failed build leaves the old one. */
const FRESH = join(ROOT, `.dist-${process.pid}`);

/**
 * Each becomes a file of the same name in the build. Entries of one group share what they import statically, and what is imported by
 * `import()` is a file of its own, read when it is needed: what a start does not need (PostgreSQL, Redis, webhooks, MCP, A2A) was half of it.
 */
const ENTRIES = [["cli.ts", "index.ts"], ["executor/main.ts"], ["graphs/child.ts"], ["ui/child.ts"]];

/** Packages that find files of their own at run time (native code, worker threads, compilers), that the project brings, or few need. */
const EXTERNAL = [
  "libsql",
  "pino",
  "pino-pretty",
  "tsx",
  "esbuild",
  "esbuild-plugin-tailwindcss",
  "typescript-5",
  "@langchain/*",
  "@opentelemetry/core",
  "@opentelemetry/exporter-*",
  "@opentelemetry/resources",
  "@opentelemetry/sdk-*",
];

/** CommonJS packages in the bundle call `require` for Node's own modules. */
const BANNER =
  'import { createRequire as skeinCreateRequire } from "node:module"; const require = skeinCreateRequire(import.meta.url);';

const HOST = { getCurrentDirectory: () => SRC, getCanonicalFileName: (name) => name, getNewLine: () => "\n" };

const started = performance.now();
const hash = sourcesHash();
try {
  await Promise.all(ENTRIES.map(bundle));
  for (const asset of assets()) copyAsset(asset);
  declare("index.ts");
  mkdirSync(DIST, { recursive: true });
  place(FRESH, DIST, hash);
  writeStamp(BUILD_STAMP, hash);
} catch (error) {
  // esbuild has printed its own errors, with places.
  console.error(`build failed: ${error.message.split("\n")[0]}`);
  process.exitCode = 1;
} finally {
  rmSync(FRESH, { recursive: true, force: true });
}
if (!process.exitCode) console.log(`built dist in ${((performance.now() - started) / 1000).toFixed(1)} s`);

function bundle(entries) {
  return build({
    entryPoints: entries.map((entry) => join(SRC, entry)),
    outdir: FRESH,
    outbase: SRC,
    bundle: true,
    splitting: entries.length > 1,
    platform: "node",
    target: "node20.19",
    format: "esm",
    sourcemap: true,
    sourcesContent: false,
    legalComments: "linked",
    logLevel: "warning",
    banner: { js: BANNER },
    external: EXTERNAL,
    plugins: [ownUrls(entries[0])],
  });
}

/** Types of what the package exports. The file must say them whole: nothing but it is read. */
function declare(entry) {
  const { outputText, diagnostics = [] } = ts.transpileDeclaration(readFileSync(join(SRC, entry), "utf8"), {
    fileName: entry,
    compilerOptions: { isolatedDeclarations: true, removeComments: false },
    reportDiagnostics: true,
  });
  if (diagnostics.length > 0) throw new Error(ts.formatDiagnostics(diagnostics, HOST));
  writeFileSync(join(FRESH, entry.replace(/\.ts$/, ".d.ts")), outputText);
}

/** Files of src that are neither code nor notes for people: whatever the code reads at run time. */
function assets() {
  return readdirSync(SRC, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !/\.(ts|mts|cts|md)$/.test(entry.name))
    .map((entry) => relative(SRC, join(entry.parentPath, entry.name)));
}

function copyAsset(asset) {
  mkdirSync(dirname(join(FRESH, asset)), { recursive: true });
  cpSync(join(SRC, asset), join(FRESH, asset));
}

/**
 * `import.meta.url` in a source keeps its meaning in the bundle: the place of that module in the build, as if compiled alone. What entries
 * share lies beside them, so their folder must be one.
 */
function ownUrls(entry) {
  return {
    name: "own-urls",
    setup({ onLoad }) {
      onLoad({ filter: /\.ts$/ }, ({ path }) => {
        if (!path.startsWith(SRC)) return undefined;
        const source = readFileSync(path, "utf8");
        const place = relative(join(SRC, entry, ".."), path)
          .replaceAll("\\", "/")
          .replace(/\.ts$/, ".js");
        const url = `new URL(${JSON.stringify(place)}, import.meta.url).href`;
        return { contents: source.replaceAll("import.meta.url", url), loader: "ts" };
      });
    },
  };
}
