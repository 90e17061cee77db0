/**
 * The operations of the API, as data. The list lives in the product, whose `skein compat` compares servers with it;
 * the kit imports nothing of the product and asks the command instead.
 */
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";

export interface Value {
  readonly kinds: readonly string[];
  readonly format?: "uuid" | "date-time";
  readonly values?: readonly unknown[];
  readonly items?: Value;
  readonly fields?: Fields;
  readonly default?: unknown;
  readonly required?: true;
  readonly min?: number;
  readonly max?: number;
  readonly minSize?: number;
  readonly maxSize?: number;
}
export type Fields = Readonly<Record<string, Value>>;

export interface Operation {
  readonly tag: string;
  readonly method: string;
  readonly path: string;
  readonly params: Fields;
  readonly query: Fields;
  readonly headers: Fields;
  readonly body: Value | null;
  readonly success: number | null;
  readonly types: readonly string[];
  readonly errors: readonly number[];
}

export interface Difference {
  readonly tag: string;
  readonly operation: string;
  readonly place: string;
  readonly kind: "missing" | "different" | "extra";
  readonly says: string;
}

const CLI = fileURLToPath(new URL("../../dist/cli.js", import.meta.url));

function compat<T>(...flags: readonly string[]): T {
  return JSON.parse(execFileSync(process.execPath, [CLI, "compat", ...flags], { encoding: "utf8" })) as T;
}

export const OPERATIONS = compat<readonly Operation[]>("--list");

export const nameOf = ({ method, path }: Operation): string => `${method.toUpperCase()} ${path}`;

/** How the document of a server differs from the list. */
export function differences(url: string): readonly Difference[] {
  try {
    return compat("--json", "--url", url);
  } catch (error) {
    // Exit code 1: there are some.
    const { stdout } = error as { stdout?: string };
    if (typeof stdout !== "string" || !stdout.startsWith("[")) throw error;
    return JSON.parse(stdout) as readonly Difference[];
  }
}
