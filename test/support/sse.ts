/**
 * A raw reader of Server-Sent Events. Own socket, no retries, no interpretation: it shows the frames as they came,
 * comments included, and closing it is a client that is gone.
 *
 *     await using stream = await openSse(`${server.url}/runs/stream`, { body: { assistant_id: "plain", input: {} } });
 *     for await (const frame of stream) …
 */
import { type IncomingHttpHeaders, type IncomingMessage, request } from "node:http";

export interface Frame {
  readonly id?: string;
  readonly event?: string;
  /** Data lines, joined by newlines; undefined for a frame without data, as a comment is. */
  readonly data?: string;
  /** Text of comment lines (heartbeats). */
  readonly comment?: string;
  readonly raw: string;
  /** When its last byte arrived, on `performance.now()`'s clock. */
  readonly at: number;
}

export interface SseOptions {
  readonly method?: "GET" | "POST";
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  readonly lastEventId?: string;
}

export async function openSse(url: string, options: SseOptions = {}): Promise<SseStream> {
  const { body, lastEventId } = options;
  const call = request(url, {
    method: options.method ?? (body === undefined ? "GET" : "POST"),
    agent: false,
    headers: {
      accept: "text/event-stream",
      ...(body === undefined ? {} : { "content-type": "application/json" }),
      ...(lastEventId === undefined ? {} : { "last-event-id": lastEventId }),
      ...options.headers,
    },
  });
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    call.once("response", resolve).once("error", reject);
    call.end(body === undefined ? undefined : JSON.stringify(body));
  });
  // A server that is killed resets the socket; the reader sees that as the end of its frames.
  call.on("error", () => {});
  return new SseStream(response);
}

export class SseStream implements AsyncIterable<Frame>, AsyncDisposable {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly #response: IncomingMessage;
  readonly #frames: AsyncGenerator<Frame>;
  #complete = false;

  constructor(response: IncomingMessage) {
    this.status = response.statusCode ?? 0;
    this.headers = response.headers;
    this.#response = response;
    this.#frames = this.#read();
  }

  /** True when the server ended the response, false when the connection broke or is still open. */
  get complete(): boolean {
    return this.#complete;
  }

  /** One reader; a loop that was left with `break` can be taken up again. */
  [Symbol.asyncIterator](): AsyncIterator<Frame> {
    return { next: () => this.#frames.next() };
  }

  /** The next frame with data; undefined at the end. */
  async next(): Promise<Frame | undefined> {
    for await (const frame of this) if (frame.data !== undefined) return frame;
    return undefined;
  }

  /** Reads on until a frame fits, and returns all frames with data up to it. */
  async until(fits: (frame: Frame) => boolean): Promise<Frame[]> {
    const frames: Frame[] = [];
    for (let frame = await this.next(); frame !== undefined; frame = await this.next()) {
      frames.push(frame);
      if (fits(frame)) return frames;
    }
    throw new Error(`The stream ended first, after: ${frames.map(({ event }) => event).join(", ") || "nothing"}`);
  }

  /** All remaining frames with data. */
  async rest(): Promise<Frame[]> {
    const frames: Frame[] = [];
    for await (const frame of this) if (frame.data !== undefined) frames.push(frame);
    return frames;
  }

  /** Drops the connection, as a client that lost its network. */
  close(): void {
    this.#response.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  async *#read(): AsyncGenerator<Frame> {
    let text = "";
    this.#response.setEncoding("utf8");
    try {
      for await (const chunk of this.#response) {
        text += chunk as string;
        const frames = text.split(/\r\n\r\n|\n\n|\r\r/);
        text = frames.pop() ?? "";
        for (const raw of frames) yield parseFrame(raw);
      }
    } catch (error) {
      if (!isDisconnect(error)) throw error;
    }
    this.#complete = this.#response.complete;
  }
}

export function parseFrame(raw: string): Frame {
  const fields: { id?: string; event?: string; data?: string; comment?: string } = {};
  for (const line of raw.split(/\r\n|\n|\r/)) {
    const [, name = "", value = ""] = /^([^:]*)(?:: ?(.*))?$/.exec(line) ?? [];
    if (line.startsWith(":")) fields.comment = join(fields.comment, value);
    else if (name === "data") fields.data = join(fields.data, value);
    else if (name === "id" || name === "event") fields[name] = value;
  }
  return { ...fields, raw, at: performance.now() };
}

const join = (before: string | undefined, more: string): string => (before === undefined ? more : `${before}\n${more}`);

function isDisconnect(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return (
    code === "ECONNRESET" ||
    code === "ERR_STREAM_PREMATURE_CLOSE" ||
    code === "ABORT_ERR" ||
    code === "ERR_STREAM_DESTROYED"
  );
}
