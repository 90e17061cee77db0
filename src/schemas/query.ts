/**
 * Query parameters and path segments. Clients of five SDK generations write them in several ways (`1`, `true`,
 * `["a"]`, `a,b`, repeated, empty), so each reader here takes all of them and still names what it does not know.
 */
import { z } from "@hono/zod-openapi";
import { RUN_FIELDS, StreamMode, THREAD_STREAM_MODES } from "./runs.ts";

/** The last one wins when a scalar is repeated; an empty one is absent. */
function scalar(value: unknown): unknown {
  const last: unknown = Array.isArray(value) ? value.at(-1) : value;
  return last === "" ? undefined : last;
}

function toBoolean(words: Readonly<Record<string, boolean>>) {
  return (value: unknown): unknown => {
    const word = scalar(value);
    return typeof word === "string" ? (words[word.toLowerCase()] ?? word) : word;
  };
}

const WORDS = { true: true, false: false, "1": true, "0": false } as const;

/** `true`, `false`, `1`, `0`; false when absent. */
export const QueryBoolean = z
  .preprocess(toBoolean(WORDS), z.boolean().optional())
  .transform((value) => value ?? false)
  .openapi({ type: "boolean", default: false });

/** `true`, `false`, `1`, `0`; undefined when absent. */
export const QueryOptionalBoolean = z.preprocess(toBoolean(WORDS), z.boolean().optional()).openapi({ type: "boolean" });

/** A boolean that also takes `cancel` and `continue`, as the docs' samples write it. */
export const QueryCancelOnDisconnect = z
  .preprocess(toBoolean({ ...WORDS, cancel: true, continue: false }), z.boolean().optional())
  .transform((value) => value ?? false)
  .openapi({ type: "boolean", default: false, description: "Cancel the run when this client goes away." });

const toNumber = (value: unknown): unknown => {
  const text = scalar(value);
  return typeof text === "string" && /^-?\d+$/.test(text) ? Number(text) : text;
};

/** An integer from `min` up to `max`, `fallback` when absent. */
export function queryInt(min: number, max: number, fallback: number) {
  return z
    .preprocess(toNumber, z.int().min(min).max(max).optional())
    .transform((value) => value ?? fallback)
    .openapi({ type: "integer", minimum: min, maximum: max, default: fallback });
}

/** A version number; absent when empty. */
export const QueryVersion = z.preprocess(toNumber, z.int().optional()).openapi({ type: "integer" });

/** `xray`: a boolean, or the depth. `0` and `1` read as numbers would mean the same. */
export const QueryXray = z
  .preprocess(
    (value) => toNumber(toBoolean({ true: true, false: false })(value)),
    z.union([z.boolean(), z.int().min(0)]).optional(),
  )
  .transform((value) => value ?? false)
  .openapi({ type: ["boolean", "integer"], default: false, description: "Draw subgraphs too; a number is the depth." });

/** One of a few words; absent when empty. */
export function queryWord<const W extends readonly [string, ...string[]]>(words: W) {
  return z.preprocess(scalar, z.enum(words).optional()).openapi({ type: "string", enum: [...words] });
}

export const QueryText = z.preprocess(scalar, z.string().optional()).openapi({ type: "string" });

/** A list however it was written; undefined when it comes to nothing. */
function toList(value: unknown): unknown {
  if (value === undefined) return undefined;
  const items = (Array.isArray(value) ? value : [value]).flatMap((item: unknown) => splitItem(String(item)));
  if (items.length === 0) return undefined;
  return items.length === 1 ? items[0] : items;
}

function splitItem(text: string): unknown[] {
  const trimmed = text.trim();
  if (trimmed.startsWith("[")) {
    try {
      const parsed: unknown = JSON.parse(trimmed);
      if (Array.isArray(parsed)) return parsed;
    } catch {
      // Not a JSON list after all: taken as words, which the enum then names.
    }
  }
  return trimmed.split(",").flatMap((word) => (word.trim() === "" ? [] : [word.trim()]));
}

/** Stream modes to follow; undefined for all. A single unknown word is named without an index. */
export const QueryModes = z
  .preprocess(toList, z.union([StreamMode, z.array(StreamMode)]).optional())
  .transform((modes) => (typeof modes === "string" ? [modes] : modes))
  .openapi({
    type: ["string", "array"],
    items: { $ref: "#/components/schemas/StreamMode" },
    description: "Default: all of the run's.",
  });

/** Some of a few words, however the list was written; undefined when it comes to nothing. */
function queryWords<const W extends readonly [string, ...string[]]>(words: W) {
  const word = z.enum(words);
  return z
    .preprocess(toList, z.union([word, z.array(word)]).optional())
    .transform((given) => (given === undefined || Array.isArray(given) ? given : [given]))
    .openapi({ type: "array", items: { type: "string", enum: [...words] } });
}

/** Fields of runs to answer with; undefined for all. */
export const QueryRunFields = queryWords(RUN_FIELDS);

/** What to see of a thread. */
export const QueryThreadModes = queryWords(THREAD_STREAM_MODES).openapi({
  type: ["string", "array"],
  anyOf: [
    { type: "string", enum: [...THREAD_STREAM_MODES] },
    { type: "array", items: { type: "string", enum: [...THREAD_STREAM_MODES] } },
  ],
  default: ["run_modes"],
});

/** A list of fields, however it was written; undefined when there is none. */
export function queryFields(fields: z.ZodType<string[]>) {
  return z
    .preprocess((value) => [toList(value) ?? []].flat(), fields)
    .transform((list) => (list.length === 0 ? undefined : list))
    .openapi({ type: "array", items: { type: "string" } });
}

/** What to tell of a thread besides itself. */
export const QueryThreadIncludes = queryWords(["ttl"]).openapi({
  type: "string",
  description: "Comma-separated list of: ttl.",
});
