/** What the doors of other protocols (MCP, A2A) share: JSON-RPC over one POST. */
import { SkeinError } from "../errors.ts";
import { readBody } from "./body.ts";
import type { HttpContext, Room } from "./types.ts";

/** Codes of JSON-RPC 2.0. */
export const PARSE_ERROR = -32_700;
export const INVALID_REQUEST = -32_600;
export const INVALID_PARAMS = -32_602;

/** An error outside of any request: in the words of JSON-RPC, and in those of every other error here. */
export function rpcError(c: HttpContext, status: 400 | 404 | 405, code: number, message: string): Response {
  return c.json({ jsonrpc: "2.0", id: null, error: { code, message }, detail: message }, status);
}

/** The parsed body, or the answer that it cannot be read. */
export async function readRpc(
  c: HttpContext,
  room: Pick<Room, "maxBodyBytes">,
): Promise<{ readonly body: unknown } | { readonly refusal: Response }> {
  try {
    return { body: await readBody(c, "required", room.maxBodyBytes) };
  } catch (error) {
    if (!(error instanceof SkeinError) || error.kind !== "invalid") throw error;
    return { refusal: rpcError(c, 400, PARSE_ERROR, error.message) };
  }
}

/** Media types that a request lists, in lower case and without parameters. */
export const accepted = (c: HttpContext): readonly string[] =>
  (c.req.header("accept") ?? "")
    .split(",")
    .map((part) => (part.split(";")[0] ?? "").trim().toLowerCase())
    .filter((type) => type !== "");
