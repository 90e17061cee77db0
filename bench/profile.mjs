/** `--profile`: where each thread spent its time while a load was measured. */
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { SourceMap } from "node:module";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { message } from "./processes.mjs";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const TOP = 15;
const TOP_PACKAGES = 8;

/** Does `action` with all threads of the process profiled; the profiles are left in `folder`, for Chrome's DevTools. */
export async function profiled({ child }, folder, action) {
  mkdirSync(folder, { recursive: true });
  child.send({ type: "profile" });
  const value = await action();
  const written = message(child, "profiled");
  child.send({ type: "profile", folder });
  await written;
  return value;
}

export function printProfiles(title, folder) {
  for (const file of readdirSync(folder).sort()) {
    const { total, spent } = selfTimes(JSON.parse(readFileSync(join(folder, file), "utf8")));
    const share = (micros) => `${((micros / total) * 100).toFixed(1)}%`;
    const busy = spent.reduce((sum, { micros }) => sum + micros, 0);
    console.log(`\n${title}, ${file.replace(".cpuprofile", "")}: busy ${share(busy)}`);
    const packages = top(spent, ({ owner }) => owner, TOP_PACKAGES);
    console.log(`  ${packages.map(([owner, micros]) => `${owner} ${share(micros)}`).join(", ")}`);
    for (const [name, micros] of top(spent, ({ name }) => name, TOP))
      console.log(`  ${share(micros).padStart(6)}  ${name}`);
  }
}

/** Time per function, its own, without what it called; and all the time there was. */
function selfTimes({ nodes, samples, timeDeltas }) {
  const callers = new Map(nodes.flatMap((node) => (node.children ?? []).map((child) => [child, node])));
  const micros = new Map(nodes.map(({ id }) => [id, 0]));
  for (const [index, id] of samples.entries()) micros.set(id, micros.get(id) + timeDeltas[index]);
  const all = nodes.map((node) => ({ ...described(node, callers), micros: micros.get(node.id) }));
  return {
    total: all.reduce((sum, entry) => sum + entry.micros, 0),
    spent: all.filter(({ name }) => name !== "(idle)"),
  };
}

function top(spent, keyOf, count) {
  const sums = new Map();
  for (const entry of spent) sums.set(keyOf(entry), (sums.get(keyOf(entry)) ?? 0) + entry.micros);
  return [...sums].sort(([, a], [, b]) => b - a).slice(0, count);
}

/** `(program)` and `(garbage collector)` are V8's own; other code without a file is native and says little alone. */
function described(node, callers) {
  const { functionName, url } = node.callFrame;
  const name = functionName || "(anonymous)";
  if (name.startsWith("(") && url === "") return { name, owner: name };
  if (url === "") return { name: `${name}${purpose(node, callers)}`, owner: "native" };
  const where = place(node.callFrame);
  return { name: `${name}  ${where}`, owner: ownerOf(where) };
}

/** The nearest function of Skein's that (synchronously) called it. */
function purpose(node, callers) {
  for (let caller = callers.get(node.id); caller !== undefined; caller = callers.get(caller.id)) {
    const where = place(caller.callFrame);
    if (where.startsWith("src/")) return `  for ${caller.callFrame.functionName || "(anonymous)"}  ${where}`;
  }
  return "";
}

/** The package, or for our own code the folder in src. */
function ownerOf(where) {
  if (where.startsWith("node:")) return "node";
  const parts = where.split("/");
  const depth = where.startsWith("@") || where.startsWith("src/") ? 2 : 1;
  return parts.slice(0, depth).join("/");
}

/** Code of the bundle is named by its source file; profiles count lines from 0. */
function place({ url, lineNumber: line, columnNumber: column }) {
  if (!url.startsWith("file:")) return url;
  const file = fileURLToPath(url);
  const source = sourceMap(file)?.findEntry(line, column);
  if (source?.originalSource === undefined) return `${short(file)}:${line + 1}`;
  return `${short(join(file, "..", source.originalSource))}:${source.originalLine + 1}`;
}

/** From the package on for dependencies, from the repository on for the rest. */
function short(file) {
  return file.includes("node_modules/") ? file.replace(/^.*node_modules\//, "") : relative(ROOT, file);
}

const maps = new Map();

function sourceMap(file) {
  if (!maps.has(file)) {
    const isOurs = file.startsWith(join(ROOT, "dist")) && existsSync(`${file}.map`);
    maps.set(file, isOurs ? new SourceMap(JSON.parse(readFileSync(`${file}.map`, "utf8"))) : undefined);
  }
  return maps.get(file);
}
