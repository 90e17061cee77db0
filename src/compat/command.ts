/** `skein compat`: how much of the Agent Server API a running server serves. */

import { table } from "../text-table.ts";
import { compare, type Difference, nameOf } from "./compare.ts";
import { type ListedOperation, OPERATIONS, TAGS, type Tag } from "./operations.ts";

export interface CompatFlags {
  readonly url: string;
  /** Print the list of operations as JSON and ask nobody. */
  readonly list?: boolean;
  /** Print all differences as JSON. */
  readonly json?: boolean;
}

const TIMEOUT_MS = 15_000;

/** Prints what was asked for, and returns the exit code: 1 when something is missing or cannot be known. */
export async function compat(flags: CompatFlags, print: (text: string) => void): Promise<number> {
  if (flags.list === true) {
    print(JSON.stringify(OPERATIONS, null, 2));
    return 0;
  }
  const differences = compare(await fetchDocument(flags.url), OPERATIONS);
  print(flags.json === true ? JSON.stringify(differences, null, 2) : report(flags.url, differences));
  return differences.some(counts) ? 1 : 0;
}

/** What more a server takes breaks nobody. */
const counts = ({ kind }: Difference): boolean => kind !== "extra";

/** The server gave no document to compare. Its message says why. */
export class NoDocumentError extends Error {
  override readonly name = "NoDocumentError";
}

async function fetchDocument(url: string): Promise<unknown> {
  const place = documentUrl(url);
  try {
    const response = await fetch(place, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!response.ok) throw new Error(`it answered ${response.status}`);
    return (await response.json()) as unknown;
  } catch (error) {
    throw new NoDocumentError(`no OpenAPI document from ${place}: ${reason(error)}`, { cause: error });
  }
}

/** A server may live under a prefix: `http://host/api` → `http://host/api/openapi.json`. */
function documentUrl(url: string): string {
  if (!URL.canParse(url) || !/^https?:/.test(url)) throw new NoDocumentError(`"${url}" is no http(s) URL`);
  return new URL("openapi.json", url.endsWith("/") ? url : `${url}/`).href;
}

function reason(error: unknown): string {
  const { message, cause } = error instanceof Error ? error : new Error(String(error));
  return cause instanceof Error ? `${message} (${cause.message || (cause as NodeJS.ErrnoException).code})` : message;
}

/* ---------------------------------------------------------------------------------- report */

function report(url: string, differences: readonly Difference[]): string {
  const shortfalls = differences.filter(counts);
  const rows = TAGS.map((tag) => rowOf(tag, shortfalls));
  const total: Row = ["total", ...[1, 2, 3, 4].map((column) => sum(rows, column))];
  const lines = shortfalls.map(
    ({ operation, place, says }) => `  ${operation}${place === "" ? "" : ` ${place}`}: ${says}`,
  );
  return [
    `Agent Server API at ${url}`,
    "",
    ...table([["", "operations", "served", "missing", "fields"], ...rows, total], [1, 2, 3, 4]),
    "",
    ...(lines.length === 0 ? ["Nothing is missing."] : [...lines, "", `${lines.length} differences.`]),
  ].join("\n");
}

type Row = readonly (string | number)[];

function rowOf(tag: Tag, shortfalls: readonly Difference[]): Row {
  const listed = OPERATIONS.filter((operation: ListedOperation) => operation.tag === tag);
  const own = shortfalls.filter((difference) => difference.tag === tag);
  const gone = new Set(own.filter(({ place }) => place === "").map(({ operation }) => operation));
  const served = listed.filter((operation) => !gone.has(nameOf(operation)));
  return [tag, listed.length, served.length, gone.size, own.length - gone.size];
}

const sum = (rows: readonly Row[], column: number): number => rows.reduce((all, row) => all + Number(row[column]), 0);
