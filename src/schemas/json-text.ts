/**
 * JSON text from a client → a value the rest of the server may trust: bounded in depth, without
 * `__proto__` keys, without NUL bytes and lone surrogates. Each guard is a look at the text first, so
 * ordinary bodies are parsed once and never walked.
 */
import { toUSVString } from "node:util";
import { invalid } from "../errors.ts";

const MAX_DEPTH = 200;
const QUOTE = 34;
const BACKSLASH = 92;

/** Text that may hold NUL, a lone surrogate or a `__proto__` key (`\u005f` is an underscore). */
const SUSPECT = /__proto__|\\u(?:0000|005[fF]|[dD][89a-fA-F])/;
const NUL = /\0/g;

/** Parses a request's JSON; throws `invalid` with the place. */
export function parseJson(text: string): unknown {
  checkDepth(text);
  // A raw NUL is no JSON, but it is no error either (text hygiene): repaired where a string holds it.
  const value = parse(text.includes("\0") ? cleanText(text) : text);
  return SUSPECT.test(text) ? clean(value, "") : value;
}

/** A string as the product keeps it: NUL and lone surrogates become U+FFFD. */
export function cleanText(text: string): string {
  return toUSVString(text).replace(NUL, "\uFFFD");
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw invalid("body", `malformed JSON (${error instanceof Error ? error.message : String(error)})`);
  }
}

/** Before `JSON.parse`, whose recursion (and everybody's after it) an attacker could otherwise drive. */
function checkDepth(text: string): void {
  let depth = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === QUOTE) i = endOfString(text, i);
    // `[` is 0x5b and `{` 0x7b, `]` 0x5d and `}` 0x7d: bit 5 apart.
    else if ((code | 0x20) === 0x7b) {
      depth++;
      if (depth > MAX_DEPTH) throw invalid("body", `nested deeper than ${MAX_DEPTH} levels`);
    } else if ((code | 0x20) === 0x7d) depth--;
  }
}

function endOfString(text: string, start: number): number {
  let end = start;
  for (;;) {
    end = text.indexOf('"', end + 1);
    if (end === -1) return text.length;
    if (!isEscaped(text, end)) return end;
  }
}

function isEscaped(text: string, at: number): boolean {
  let first = at;
  while (text.charCodeAt(first - 1) === BACKSLASH) first--;
  return (at - first) % 2 === 1;
}

/** Recursion is safe: the depth has been checked. */
function clean(value: unknown, path: string): unknown {
  if (typeof value === "string") return cleanText(value);
  if (Array.isArray(value)) return value.map((item: unknown, index) => clean(item, join(path, String(index))));
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).map(([key, item]): [string, unknown] => {
    if (key === "__proto__") throw invalid(join(path, key), "this key is not allowed");
    return [cleanText(key), clean(item, join(path, key))];
  });
  return Object.fromEntries(entries);
}

const join = (path: string, key: string): string => (path === "" ? key : `${path}.${key}`);
