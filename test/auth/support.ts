/** Calls in the name of somebody, on the server of the fixture, whose auth does what headers say. */
import { fileURLToPath } from "node:url";
import { http } from "../support/http.ts";

export const FIXTURE = fileURLToPath(new URL("./fixture", import.meta.url));

export interface As {
  readonly user?: string;
  /** Null: of none, who sees everything. */
  readonly org?: string | null;
  readonly deny?: readonly string[];
}

export function headersOf({ user = "somebody", org = null, deny = [] }: As): Record<string, string> {
  return {
    "x-user": user,
    ...(org === null ? {} : { "x-org": org }),
    ...(deny.length === 0 ? {} : { "x-deny": deny.join() }),
  };
}

export const as = (url: string, who: As = {}) => http(url, { headers: { ...headersOf(who), connection: "close" } });
