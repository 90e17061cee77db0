/** What zod found wrong, as one sentence a client can act on: `path.to.field: message`. */
import type { z } from "@hono/zod-openapi";
import { invalid, type SkeinError } from "../errors.ts";

type Issue = z.core.$ZodIssue;
type Path = readonly PropertyKey[];

interface Finding {
  readonly path: Path;
  /** What would have been right (`one of a, b`), where the issue says so. */
  readonly expected: string | null;
  readonly message: string;
}

const MAX_FINDINGS = 3;

/** The error for a failed parse; `whole` names the value when the issue is about all of it. */
export function invalidInput(error: z.ZodError, whole: string): SkeinError {
  const sentences = error.issues.slice(0, MAX_FINDINGS).map((issue) => {
    const finding = find(issue);
    return `${finding.path.length === 0 ? whole : finding.path.map(String).join(".")}: ${finding.message}`;
  });
  return invalid("", sentences.join("; "));
}

function find(issue: Issue): Finding {
  if (issue.code === "invalid_union") return findInUnion(issue);
  const expected = expectation(issue);
  return { path: issue.path, expected, message: message(issue, expected) };
}

/**
 * A union fails with one list of issues per alternative. The alternative that got furthest into the value is the
 * one the client meant; when none got in, say what all of them would have taken.
 */
function findInUnion(issue: z.core.$ZodIssueInvalidUnion): Finding {
  const tried = issue.errors.flatMap((issues) => (issues[0] === undefined ? [] : [find(issues[0])]));
  const deepest = tried.reduce<Finding | null>(
    (best, next) => (best === null || next.path.length > best.path.length ? next : best),
    null,
  );
  if (deepest === null) return { path: issue.path, expected: null, message: issue.message };
  if (deepest.path.length > 0) return { ...deepest, path: [...issue.path, ...deepest.path] };
  const expected = [...new Set(tried.flatMap((finding) => finding.expected ?? []))].join(" or ");
  return { path: issue.path, expected, message: message(issue, expected) };
}

function message(issue: Issue, expected: string | null): string {
  if (expected === null) return issue.message;
  return issue.input === undefined ? `field required (${expected})` : `expected ${expected}, got ${shown(issue.input)}`;
}

const NOUNS: Readonly<Record<string, string>> = {
  array: "an array",
  boolean: "a boolean",
  int: "an integer",
  null: "null",
  number: "a number",
  object: "an object",
  record: "an object",
  string: "a string",
};

function expectation(issue: Issue): string | null {
  switch (issue.code) {
    case "invalid_type":
      return NOUNS[issue.expected] ?? issue.expected;
    case "invalid_value":
      return issue.values.length === 1
        ? JSON.stringify(issue.values[0])
        : `one of ${issue.values.map(String).join(", ")}`;
    case "invalid_format":
      return issue.format === "guid" || issue.format === "uuid" ? "a UUID" : null;
    default:
      return null;
  }
}

/** Values of a client in an error: enough to recognise, never long. */
function shown(input: unknown): string {
  if (input === null) return "null";
  if (Array.isArray(input)) return "an array";
  if (typeof input === "object") return "an object";
  if (typeof input === "string") return JSON.stringify(input.length > 60 ? `${input.slice(0, 60)}…` : input);
  return Number.isFinite(input) || typeof input === "boolean" ? String(input) : "a number out of range";
}
