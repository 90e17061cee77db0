/**
 * Imports run one way. Each part of `src` may import the parts below it and itself; the executor is a
 * room of its own, where users' graphs run, and its only door is `executor/protocol.ts`.
 */
import { readdirSync, readFileSync } from "node:fs";
import { posix } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { type Import, importsOf } from "./support/imports.ts";

/** Top to bottom. Parts of one row do not know each other. */
const ROWS: readonly (readonly string[])[] = [
  ["cli", "index"],
  ["commands"],
  ["server", "watch", "compat"],
  ["own-code"],
  ["http"],
  ["services"],
  ["engine"],
  ["streaming", "graphs", "ui", "auth"],
  ["storage"],
  ["observability"],
  ["config"],
  ["schemas"],
  ["errors", "version", "end-of-tick", "pooled-random", "early-optimization", "text-table", "redis-uri", "load-module"],
];
const EXECUTOR = "executor";
const DOOR = "executor/protocol.ts";
const ENTRY = "executor/main";
/** The one file that starts executor threads, and so names their entry. */
const STARTER = "engine/pool.ts";
const EXECUTOR_MAY_IMPORT = [EXECUTOR, "schemas", "errors", "pooled-random", "load-module"];

const SRC = fileURLToPath(new URL("../src", import.meta.url));

/** The part a file belongs to: its folder, or its own name at the top. */
const partOf = (file: string): string => (file.split("/")[0] ?? "").replace(/\.[jt]s$/, "");
const rowOf = (part: string): number => ROWS.findIndex((row) => row.includes(part));

/** Why `file` (relative to src) must not import this; undefined when it may. */
function objection(file: string, { specifier, kind }: Import): string | undefined {
  if (!specifier.startsWith(".")) return packageObjection(file, specifier, kind);
  const target = posix.join(posix.dirname(file), specifier);
  if (target.startsWith("..")) return kind === "url" ? undefined : "it is outside src";
  const [from, to] = [partOf(file), partOf(target)];
  if (to === EXECUTOR && from !== EXECUTOR) return doorObjection(file, target, kind);
  if (kind === "url" || from === to) return undefined;
  if (from === EXECUTOR) return EXECUTOR_MAY_IMPORT.includes(to) ? undefined : `the executor knows no ${to}`;
  if (rowOf(from) < 0) return `${from} has no place in the order; give it one in ROWS`;
  if (rowOf(to) < 0) return `${to} has no place in the order; give it one in ROWS`;
  if (rowOf(from) === rowOf(to)) return `${from} and ${to} do not know each other`;
  return rowOf(from) < rowOf(to) ? undefined : `${to} is above ${from}`;
}

function packageObjection(file: string, specifier: string, kind: Import["kind"]): string | undefined {
  if (!/^(@langchain\/|langchain(\/|$))/.test(specifier)) return undefined;
  if (kind !== "type") return "LangChain is the project's own at run time; only its types may be imported";
  return partOf(file) === EXECUTOR ? undefined : "only the executor knows LangChain's types";
}

function doorObjection(file: string, target: string, kind: Import["kind"]): string | undefined {
  if (kind === "url") {
    const starts = file === STARTER && target.replace(/\.[jt]s$/, "") === ENTRY;
    return starts ? undefined : `only ${STARTER} names the executor's entry`;
  }
  if (target !== DOOR) return `${DOOR} is the executor's only door`;
  return kind === "type" ? undefined : "only types pass the executor's door (use `import type`)";
}

function objections(file: string, code: string): string[] {
  return importsOf(file, code).flatMap((found) => {
    const why = objection(file, found);
    return why === undefined ? [] : [`src/${file} imports "${found.specifier}": ${why}`];
  });
}

test("every import of src follows the order", () => {
  const files = readdirSync(SRC, { recursive: true, encoding: "utf8" }).map((file) => file.replaceAll("\\", "/"));
  expect(files).toContain("errors.ts");
  const own = files.filter((file) => file.endsWith(".ts") && !file.endsWith(".test.ts"));
  expect(own.flatMap((file) => objections(file, readFileSync(`${SRC}/${file}`, "utf8")))).toEqual([]);
});

describe("the check itself", () => {
  test.each([
    ["storage/sqlite.ts", 'import { app } from "../http/app.ts";', "http is above storage"],
    ["storage/sqlite.ts", 'import type { App } from "../http/app.ts";', "http is above storage"],
    ["engine/queue.ts", 'export * from "../services/runs.ts";', "services is above engine"],
    ["engine/queue.ts", 'export { create } from "../services/runs.ts";', "services is above engine"],
    ["engine/queue.ts", 'const runs = await import("../services/runs.ts");', "services is above engine"],
    ["engine/queue.ts", 'let runs: import("../services/runs.ts").Runs;', "services is above engine"],
    ["engine/queue.ts", 'import "../server.ts";', "server is above engine"],
    ["engine/queue.ts", 'import { run } from "../../bench/run.ts";', "outside src"],
    ["streaming/follow.ts", 'import { load } from "../graphs/load.ts";', "do not know each other"],
    ["new/part.ts", 'import { z } from "../schemas/common.ts";', "new has no place in the order"],
    ["engine/pool.ts", 'import type { Saver } from "../executor/saver.ts";', "only door"],
    ["engine/pool.ts", 'import { type Json } from "../executor/protocol.ts";', "only types pass"],
    ["engine/queue.ts", 'new URL("../executor/main.js", import.meta.url);', "only engine/pool.ts"],
    ["engine/pool.ts", 'new URL("../executor/saver.js", import.meta.url);', "only engine/pool.ts"],
    ["executor/saver.ts", 'import type { Storage } from "../storage/storage.ts";', "the executor knows no storage"],
    ["executor/saver.ts", 'import { Command } from "@langchain/langgraph";', "only its types"],
    ["executor/saver.ts", 'import { type Command } from "@langchain/langgraph";', "only its types"],
    ["executor/saver.ts", 'const { z } = require("langchain");', "only its types"],
    ["services/runs.ts", 'import type { Command } from "@langchain/langgraph";', "only the executor"],
  ])("%s must not say %s", (file, code, why) => {
    const found = objections(file, code);
    expect(found).toHaveLength(1);
    expect(found[0]).toContain(`src/${file}`);
    expect(found[0]).toContain(why);
  });

  test.each([
    ["cli.ts", 'import { startServer } from "./server.ts";'],
    ["server.ts", 'import { app } from "./http/app.ts"; import { pool } from "./engine/pool.ts";'],
    ["http/app.ts", 'import { z } from "../schemas/common.ts"; import { Hono } from "hono";'],
    ["engine/pool.ts", 'import type { Json } from "../executor/protocol.ts";'],
    ["engine/pool.ts", 'const ENTRY = new URL("../executor/main.js", import.meta.url);'],
    [
      "executor/saver.ts",
      'import type { Command } from "@langchain/langgraph"; import { invalid } from "../errors.ts";',
    ],
    ["executor/load.ts", "const graph = await import(url);"],
    ["storage/sqlite.ts", '// import { app } from "../http/app.ts";\nconst text = \'import "../server.ts"\';'],
    ["config/config.ts", 'new URL("../../package.json", import.meta.url);'],
  ])("%s may say %s", (file, code) => {
    expect(objections(file, code)).toEqual([]);
  });
});
