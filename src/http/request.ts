/** What of a request stays with what it sets off: its id, the traces it is part of, and whether it may come again. */
import type { RequestFacts } from "../observability/request.ts";
import type { RunRequest } from "../services/contract.ts";
import { langsmithConfigurable } from "./langsmith.ts";
import { repeatable } from "./repeatable.ts";
import { type HttpContext, incomingHeaders } from "./types.ts";

/** To be asked for once; 422 when a header that counts is not what it should be. */
export function requestOf(c: HttpContext): RunRequest {
  const facts: RequestFacts = {
    request_id: c.get("request_id"),
    configurable: { ...langsmithConfigurable(incomingHeaders(c)), ...c.get("chosen") },
    trace: c.get("span")?.context,
  };
  const again = repeatable(c);
  return again === undefined ? facts : { ...facts, repeatable: again };
}
