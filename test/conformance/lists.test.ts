/** The lists fit each other, and the kit stands alone. */
import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { importsOf } from "../support/imports.ts";
import { BEHAVIOURS, OUTSIDE } from "./behaviours.ts";
import { nameOf, OPERATIONS } from "./operations.ts";

const HERE = fileURLToPath(new URL(".", import.meta.url));
const SRC = resolve(HERE, "../../src");

test("59 operations, each with a behaviour", () => {
  expect(OPERATIONS).toHaveLength(59);
  const covered = new Set(BEHAVIOURS.map(({ operation }) => operation));
  expect(OPERATIONS.map(nameOf).filter((name) => !covered.has(name))).toEqual([]);
});

test("every behaviour is of a known operation, has one id, and says something", () => {
  const known = new Set([...OPERATIONS.map(nameOf), ...OUTSIDE]);
  expect(BEHAVIOURS.filter(({ operation }) => !known.has(operation))).toEqual([]);
  const ids = BEHAVIOURS.map(({ id }) => id);
  expect(ids.filter((id, index) => ids.indexOf(id) !== index)).toEqual([]);
  expect(BEHAVIOURS.filter(({ id, says }) => !/^[\w.-]+$/.test(id) || !/^[A-Z`].+\.$/.test(says))).toEqual([]);
  expect(BEHAVIOURS.length).toBeGreaterThanOrEqual(250);
});

test("the kit imports nothing of the product", () => {
  const files = readdirSync(HERE, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"));
  const strays = files.flatMap((file) =>
    importsOf(file, readFileSync(join(HERE, file), "utf8"))
      .map(({ specifier }) => specifier)
      .filter((specifier) => specifier.startsWith(".") && resolve(HERE, file, "..", specifier).startsWith(SRC))
      .map((specifier) => `${file} imports ${specifier}`),
  );
  expect(strays).toEqual([]);
});
