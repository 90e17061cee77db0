/** A project folder as a user has it: graph files, a langgraph.json, and a node_modules to find LangGraph in. */
import { readFileSync } from "node:fs";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { modulesFor } from "./packed.ts";

export { FIXTURES } from "./packed.ts";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** The folder of the newest build in a `dist`: what is run when its `cli.js` is. */
export function newestBuild(dist = join(ROOT, "dist")): string {
  const [, build] = /"\.\/([0-9a-f]+)\//.exec(readFileSync(join(dist, "cli.js"), "utf8")) ?? [];
  if (build === undefined) throw new Error(`${dist} has no build`);
  return join(dist, build);
}

export interface TempDir extends AsyncDisposable {
  readonly dir: string;
}

export async function tempDir(prefix = "skein-test-"): Promise<TempDir> {
  const dir = await mkdtemp(join(tmpdir(), prefix));
  return { dir, [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true, maxRetries: 5 }) };
}

/**
 * Writes `files` (path → text) to a new folder. Without `graphs` in `config`, every top-level module is a graph
 * named as its file, exported as `graph`.
 *
 * `modules` becomes its node_modules; when not given, what `modulesFor` finds enough.
 *
 *     await using two = await project({ "a.mjs": "export const graph = …", "lib/b.mjs": "…" });
 *     await using server = await startServer({ project: two });
 */
export async function project(
  files: Record<string, string>,
  config: Record<string, unknown> = {},
  modules = modulesFor(files),
): Promise<TempDir> {
  const temp = await tempDir("skein-project-");
  const manifest = { name: "project", private: true, type: "module" };
  const all = {
    "package.json": JSON.stringify(manifest),
    "langgraph.json": JSON.stringify({ graphs: graphsOf(files), ...config }),
    ...files,
  };
  for (const [path, text] of Object.entries(all)) await put(join(temp.dir, path), text);
  await symlink(modules, join(temp.dir, "node_modules"), "junction");
  return temp;
}

/** Writes a file of a project again, as an editor does when somebody saves. */
export async function put(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, text);
}

function graphsOf(files: Record<string, string>): Record<string, string> {
  const modules = Object.keys(files).filter((path) => /^[^/]+\.(mjs|js|ts|mts)$/.test(path));
  return Object.fromEntries(modules.map((path) => [basename(path).replace(/\.\w+$/, ""), `./${path}:graph`]));
}
