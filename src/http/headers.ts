/** Headers that the configuration chooses by name: for the `configurable` of runs, or for the log. */
import type { HeaderChoice } from "../config/http.ts";

export type ChosenHeaders = Readonly<Record<string, string>>;

/** Takes the chosen headers of a request; undefined where none is chosen. */
export type ChooseHeaders = (headers: Headers) => ChosenHeaders | undefined;

/** What clients prove themselves by. A wildcard does not reach them; who wants one passed on names it. */
const SECRETS = new Set(["authorization", "proxy-authorization", "cookie", "x-auth-token"]);
/** Keys of services: never, whatever is named. */
const SERVICE_KEYS = new Set(["x-api-key", "x-tenant-id", "x-service-key"]);

/** Undefined when nothing is ever chosen, so that requests need not be looked at. */
export function headerChooser({ includes, excludes }: HeaderChoice): ChooseHeaders | undefined {
  if (includes.length === 0) return undefined;
  const named = new Set(includes);
  const wanted = matcher(includes);
  const unwanted = matcher(excludes);
  const isChosen = (name: string): boolean => {
    if (SERVICE_KEYS.has(name) || unwanted(name)) return false;
    return named.has(name) || (wanted(name) && !SECRETS.has(name));
  };
  return (headers) => {
    const chosen = [...headers].filter(([name]) => isChosen(name));
    return chosen.length === 0 ? undefined : Object.fromEntries(chosen);
  };
}

function matcher(patterns: readonly string[]): (name: string) => boolean {
  const texts = patterns.map((pattern) => pattern.split("*").map(literal).join(".*"));
  const all = texts.length === 0 ? null : new RegExp(`^(?:${texts.join("|")})$`);
  return (name) => all?.test(name) === true;
}

const literal = (text: string): string => text.replaceAll(/[.+^${}()|[\]\\?]/g, "\\$&");
