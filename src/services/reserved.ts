/** Metadata that only the server may write. Clients send it back with what they read, so it is dropped and not refused. */

const RESERVED = /^(?:langgraph_auth_|langgraph_request_id$|__pregel_)/;

/** The metadata a client may set. */
export function withoutReserved(metadata: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(metadata).filter(([key]) => !RESERVED.test(key)));
}
