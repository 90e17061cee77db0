/**
 * The headers by which a caller's LangSmith trace goes on in the graphs it calls. They become configurables of the run; a graph
 * that wants to be part of that trace reads them there. `baggage` is the whole network's: without `langsmith-trace` it means nothing here.
 */
import type { IncomingHttpHeaders } from "node:http";
import { invalid } from "../errors.ts";
import { JsonObject } from "../schemas/common.ts";

const TRACE = "langsmith-trace";
const NOTHING = {};

/** Empty without a trace. Throws `invalid` when baggage of LangSmith's is not what its name says. */
export function langsmithConfigurable(headers: IncomingHttpHeaders): Readonly<Record<string, unknown>> {
  const trace = headers[TRACE];
  if (trace === undefined) return NOTHING;
  return { [TRACE]: trace, ...baggageOf([headers.baggage ?? []].flat().join(",")) };
}

function baggageOf(header: string): Record<string, unknown> {
  const found: Record<string, unknown> = {};
  for (const member of header.split(",")) {
    const [pair = ""] = member.split(";");
    const equals = pair.indexOf("=");
    const name = pair.slice(0, Math.max(equals, 0)).trim();
    const read = READERS.get(name);
    if (read !== undefined) found[name] = read(decoded(pair.slice(equals + 1).trim(), name), name);
  }
  return found;
}

const READERS: ReadonlyMap<string, (text: string, name: string) => unknown> = new Map<
  string,
  (text: string, name: string) => unknown
>([
  ["langsmith-metadata", metadataOf],
  ["langsmith-tags", (text: string) => text.split(",")],
  ["langsmith-project", (text: string) => text],
]);

function decoded(text: string, name: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw invalid("baggage", `${name} is not percent-encoded`);
  }
}

function metadataOf(text: string, name: string): unknown {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw invalid("baggage", `${name} is not JSON`);
  }
  const parsed = JsonObject.safeParse(json);
  if (!parsed.success) throw invalid("baggage", `${name} must be a JSON object`);
  return parsed.data;
}
