/**
 * The long answers: streams, and JSON that has to be waited for.
 *
 * They are written to Node's response directly, where there is one and nobody has to see the answer before. Measured on this code, a
 * web `ReadableStream` through @hono/node-server costs 1.7 times the CPU per frame and a quarter of the streams per second.
 */
import type { ServerResponse } from "node:http";
import { RESPONSE_ALREADY_SENT } from "@hono/node-server/utils/response";
import type { Json } from "../executor/protocol.ts";
import type { StreamEvent } from "../streaming/events.ts";
import { envelope, type ProtocolFrame } from "../streaming/protocol/frames.ts";
import { sseChunks, sseError, sseText, withBeats } from "../streaming/sse.ts";
import { publicErrorBody } from "./errors.ts";
import { type HttpContext, type Logger, nodeResponse } from "./types.ts";

/** What both long answers need to know. */
export interface LongAnswer {
  /** Headers of this answer; sent before its first byte is known. */
  readonly headers: Readonly<Record<string, string>>;
  readonly heartbeatMs: number;
  /** Fires when the client is gone. */
  readonly signal: AbortSignal;
  readonly logger: Logger;
}

const SSE_HEADERS = {
  "content-type": "text/event-stream",
  "cache-control": "no-cache",
  // Or nginx would collect the stream.
  "x-accel-buffering": "no",
};

const JSON_TYPE = { "content-type": "application/json" };

/** JSON text as it is: nobody parses it again. */
export function jsonText(c: HttpContext, json: Json, headers: Readonly<Record<string, string>> = {}): Response {
  return c.body(json, 200, { ...JSON_TYPE, ...headers });
}

/** Streams events until the source ends, fails or the client goes. */
export async function sse(
  c: HttpContext,
  source: AsyncIterable<readonly StreamEvent[]>,
  answer: LongAnswer,
): Promise<Response> {
  return sendEvents(c, sseChunks(source, answer, sseText), sseError, answer);
}

/**
 * Streams events of streaming v2. Where the source fails the stream just ends: clients take an error among the events as the end of
 * everything, and come again after a connection that was lost.
 */
export async function sseFrames(
  c: HttpContext,
  source: AsyncIterable<readonly ProtocolFrame[]>,
  answer: LongAnswer,
): Promise<Response> {
  return sendEvents(c, sseChunks(source, answer, framesText), () => "", answer);
}

/** The id is the number: what a client sends back as `since`. */
const framesText = (frames: readonly ProtocolFrame[]): string =>
  sseText(frames.map((frame) => ({ event: frame.method, data: envelope(frame), id: frame.seq })));

/**
 * JSON that takes its time. The headers go out at once, so that a client knows its run; a newline now and then keeps
 * the connection, which JSON allows before a value.
 */
export async function waitForJson(c: HttpContext, json: Promise<Json>, answer: LongAnswer): Promise<Response> {
  const chunks = withBeats(once(json), (text) => text, { ...answer, beat: "\n" });
  const onFailure = (thrown: unknown): string => `{"__error__":${failure(c, thrown, answer)}}`;
  return send(c, { ...JSON_TYPE, ...answer.headers }, chunks, onFailure, answer);
}

/**
 * JSON that somebody else puts into a response. One that comes soon goes out with its own status; before one that takes its time
 * go the headers of a success, and signs of life.
 */
export async function whenReady(c: HttpContext, response: Promise<Response>, answer: LongAnswer): Promise<Response> {
  const late = Symbol("late");
  let timer: NodeJS.Timeout | undefined;
  const patience = new Promise<typeof late>((resolve) => {
    timer = setTimeout(resolve, answer.heartbeatMs, late);
  });
  try {
    const first = await Promise.race([response, patience]);
    if (first !== late) return first;
  } finally {
    clearTimeout(timer);
  }
  return waitForJson(
    c,
    response.then((ready) => ready.text()),
    answer,
  );
}

/** Streams pieces of text as Server-Sent Events, with a sign of life wherever there is silence. */
export async function sseData(c: HttpContext, source: AsyncIterable<string>, answer: LongAnswer): Promise<Response> {
  const chunks = withBeats(source, (data) => `data: ${data}\n\n`, { ...answer, beat: ": heartbeat\n\n" });
  return sendEvents(c, chunks, (error) => `data: ${error}\n\n`, answer);
}

function sendEvents(
  c: HttpContext,
  chunks: AsyncIterable<string>,
  lastWords: (error: Json) => string,
  answer: LongAnswer,
): Promise<Response> {
  const onFailure = (thrown: unknown): string => lastWords(failure(c, thrown, answer));
  return send(c, { ...SSE_HEADERS, ...answer.headers }, chunks, onFailure, answer);
}

async function* once<T>(value: Promise<T>): AsyncGenerator<T, void, undefined> {
  yield await value;
}

/** The status has been sent: the failure goes to the log, and what may be told goes into the body. */
function failure(c: HttpContext, thrown: unknown, { logger }: LongAnswer): string {
  logger.error({ err: thrown, path: c.req.path, request_id: c.get("request_id") }, "an answer failed half way");
  return JSON.stringify(publicErrorBody(thrown));
}

async function send(
  c: HttpContext,
  headers: Readonly<Record<string, string>>,
  chunks: AsyncIterable<string>,
  onFailure: (thrown: unknown) => string,
  { signal }: LongAnswer,
): Promise<Response> {
  const outgoing = nodeResponse(c);
  if (outgoing === undefined)
    return c.body(
      streamed(c, chunks, (thrown) => (signal.aborted ? "" : onFailure(thrown))),
      200,
      headers,
    );
  outgoing.writeHead(200, headers);
  // In this turn of the loop the headers may still share a packet with the first chunk; then they go alone.
  setImmediate(() => {
    if (!outgoing.writableEnded && !outgoing.destroyed) outgoing.flushHeaders();
  });
  try {
    for await (const chunk of chunks) {
      const blocked = write(outgoing, chunk);
      if (blocked !== null) await blocked;
    }
  } catch (thrown) {
    if (!signal.aborted) outgoing.write(onFailure(thrown));
  }
  outgoing.end();
  return RESPONSE_ALREADY_SENT;
}

/** The same as a web stream: a chunk is fetched when its reader asks for one. */
function streamed(
  c: HttpContext,
  chunks: AsyncIterable<string>,
  onFailure: (thrown: unknown) => string,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  const source = chunks[Symbol.asyncIterator]();
  const leave = (): void => c.get("gone")?.abort(new Error("the client is gone"));
  let done = (): void => undefined;
  let isOver = false;
  let tell = (): void => undefined;
  c.set(
    "streamed",
    new Promise((resolve) => {
      tell = resolve;
    }),
  );
  const end = (): void => {
    isOver = true;
    done();
    tell();
  };
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        const cut = (): void => {
          controller.error(new Error("the server is going down"));
          leave();
          end();
        };
        done = c.env.answers?.begin(cut) ?? done;
      },
      async pull(controller) {
        const { text, isLast } = await nextText(source, onFailure);
        // Cut off, or left, while it was waited for.
        if (isOver) return;
        if (text !== "") controller.enqueue(encoder.encode(text));
        if (!isLast) return;
        controller.close();
        end();
      },
      async cancel() {
        leave();
        end();
        await source.return?.();
      },
    },
    { highWaterMark: 0 },
  );
}

async function nextText(
  source: AsyncIterator<string>,
  onFailure: (thrown: unknown) => string,
): Promise<{ readonly text: string; readonly isLast: boolean }> {
  try {
    const next = await source.next();
    return next.done === true ? { text: "", isLast: true } : { text: next.value, isLast: false };
  } catch (thrown) {
    return { text: onFailure(thrown), isLast: true };
  }
}

/**
 * Null when the socket takes more at once; else resolves when it does, or is gone. All that is written in a turn of the event loop,
 * the end of the answer too, leaves as one packet: waking a client costs more than the bytes.
 */
function write(outgoing: ServerResponse, chunk: string): Promise<void> | null {
  if (outgoing.destroyed) return null;
  if (outgoing.writableCorked === 0) {
    outgoing.cork();
    setImmediate(() => outgoing.uncork());
  }
  if (outgoing.write(chunk)) return null;
  return new Promise((resolve) => {
    const ready = (): void => {
      outgoing.off("drain", ready);
      outgoing.off("close", ready);
      resolve();
    };
    outgoing.on("drain", ready);
    outgoing.on("close", ready);
  });
}
