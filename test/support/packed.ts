/**
 * LangGraph in a handful of files instead of four hundred: the same code, and a server that loads it starts with two thirds
 * of the CPU. For tests that start servers by the dozen.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { afterAll } from "vitest";
import { put, ROOT, type TempDir, tempDir } from "./project.ts";

/** What graphs and our executor threads import. All in one build, so that they share one copy of what is in it. */
const PACKED: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  "@langchain/langgraph": { ".": "index" },
  "@langchain/langgraph-checkpoint": { ".": "index" },
  "@langchain/core": { "./singletons": "singletons" },
  langsmith: { "./run_trees": "run_trees" },
};

let packed: Promise<TempDir> | undefined;

/** A folder to be the `node_modules` of a project whose graphs import `@langchain/langgraph` alone; gone when the file's tests are over. */
export async function packedModules(): Promise<string> {
  packed ??= pack();
  return (await packed).dir;
}

afterAll(async () => {
  await (await packed)?.[Symbol.asyncDispose]();
});

async function pack(): Promise<TempDir> {
  const temp = await tempDir("skein-packed-");
  const entries = Object.entries(PACKED).flatMap(([name, files]) =>
    Object.entries(files).map(([subpath, file]) => ({ in: join(name, subpath), out: join(name, file) })),
  );
  await build({
    entryPoints: entries,
    absWorkingDir: ROOT,
    outdir: temp.dir,
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
  for (const [name, files] of Object.entries(PACKED)) {
    const { version } = JSON.parse(readFileSync(join(ROOT, "node_modules", name, "package.json"), "utf8"));
    const exports = Object.fromEntries(Object.entries(files).map(([subpath, file]) => [subpath, `./${file}.mjs`]));
    await put(join(temp.dir, name, "package.json"), JSON.stringify({ name, version, type: "module", exports }));
  }
  return temp;
}
