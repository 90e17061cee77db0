/**
 * `new Client()` of the LangGraph SDK, made without a URL in the main thread (by `http.app`), talks to this server without a network:
 * the SDK looks for these two globals. Executor threads have theirs in `executor/loopback.ts`.
 */
const FETCH = Symbol.for("langgraph_api:fetch");
const URL_ = Symbol.for("langgraph_api:url");
/** Where nobody is asked: the fetch beside it knows the way. */
const BASE = "http://localhost";

export type InProcessFetch = (request: Request) => Promise<Response>;

/** Offers the server to clients of this thread, until the returned function is called. */
export function offerInProcess(answer: InProcessFetch): () => void {
  const globals = globalThis as Record<symbol, unknown>;
  const before = [globals[FETCH], globals[URL_]];
  const own = (input: string | URL | Request, init?: RequestInit): Promise<Response> =>
    answer(new Request(input instanceof Request ? input : new URL(input, BASE), init));
  globals[FETCH] = own;
  globals[URL_] = BASE;
  return () => {
    // Another server may have taken its place.
    if (globals[FETCH] === own) [globals[FETCH], globals[URL_]] = before;
  };
}
