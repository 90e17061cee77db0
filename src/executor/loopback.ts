/**
 * `new Client()` of the LangGraph SDK, made without a URL inside a node, talks to this server: the SDK looks for these
 * two globals. The fetch follows the server's address, which is not known yet when the graphs load.
 */
const FETCH = Symbol.for("langgraph_api:fetch");
const URL_ = Symbol.for("langgraph_api:url");
const KEY_HEADER = "x-skein-server-key";

/** `server_key`: where users have to log in, what graphs need not to. */
export function setServerUrl(server_url: string, server_key?: string): void {
  if (server_url === "") return;
  const globals = globalThis as Record<symbol, unknown>;
  globals[URL_] = server_url;
  globals[FETCH] = (input: string | URL | Request, init?: RequestInit): Promise<Response> => {
    const target = input instanceof Request ? input : new URL(input, server_url);
    const { origin } = new URL(target instanceof Request ? target.url : target);
    if (server_key === undefined || origin !== new URL(server_url).origin) return fetch(target, init);
    const headers = new Headers(init?.headers ?? (target instanceof Request ? target.headers : undefined));
    headers.set(KEY_HEADER, server_key);
    // Nobody else may learn the key, wherever the server may send this client.
    return fetch(target, { ...init, headers, redirect: "manual" });
  };
}
