/** JSON over HTTP for tests: says what came back, and keeps the text for when it was not JSON. */

export interface Answer<T = unknown> {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** The parsed body; undefined when there was none or it is not JSON. */
  readonly body: T;
}

export interface RequestOptions {
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

// biome-ignore lint/suspicious/noExplicitAny: tests look into answers of any shape; `expect` is the check.
type AnyBody = any;

export function http(url: string, common: RequestOptions = {}) {
  const send =
    (method: string) =>
    async <T = AnyBody>(path: string, body?: unknown, options: RequestOptions = {}): Promise<Answer<T>> => {
      const signal = options.signal ?? common.signal;
      const response = await fetch(new URL(path, url), {
        method,
        headers: { ...(body === undefined ? {} : JSON_TYPE), ...common.headers, ...options.headers },
        ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
        ...(signal === undefined ? {} : { signal }),
      });
      const text = await response.text();
      return { status: response.status, headers: response.headers, text, body: parse(text) as T };
    };
  return {
    get: <T = AnyBody>(path: string, options?: RequestOptions) => send("GET")<T>(path, undefined, options),
    post: send("POST"),
    put: send("PUT"),
    patch: send("PATCH"),
    delete: send("DELETE"),
  };
}

/** The body of an answer that must be a success; otherwise an error that shows what the server said. */
export async function ok<T>(pending: Promise<Answer<T>> | Answer<T>): Promise<T> {
  const answer = await pending;
  if (answer.status >= 200 && answer.status < 300) return answer.body;
  throw new Error(`Expected a success, got ${answer.status}: ${answer.text}`);
}

const JSON_TYPE = { "content-type": "application/json" };

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
