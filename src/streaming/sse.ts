/**
 * A run's events as `text/event-stream` bytes.
 *
 * Everything here is pulled: the reader asks for a chunk when the socket has taken the last one, and only then is
 * the next array of events taken from the source. So a client that never reads holds one array, and a sign of life
 * is only ever made for somebody who is waiting for it.
 */
import type { StreamEvent } from "./events.ts";

/** Exactly this, without a blank line: decoders in use make an empty event of `: heartbeat\n\n`. */
export const HEARTBEAT = ": heartbeat\n";

/** A fresh connection shows life this early, for proxies and impatient clients. */
const EARLY_MS = 1000;

export interface Pulse {
  /** Silence after which a beat is sent, again and again while it lasts. */
  readonly heartbeatMs: number;
  /** Ends the stream even while the source is waiting; a generator that waits cannot be ended from outside. */
  readonly signal: AbortSignal;
}

/** Arrays of a source as SSE text: one chunk each, heartbeats between. */
export function sseChunks<T>(
  source: AsyncIterable<T>,
  { heartbeatMs, signal }: Pulse,
  toText: (item: T) => string,
): AsyncGenerator<string, void, undefined> {
  return withBeats(source, toText, { beat: HEARTBEAT, heartbeatMs, earlyMs: EARLY_MS, signal });
}

/** Frames in the order clients' oldest decoders expect: event, data, id. */
export function sseText(events: readonly StreamEvent[]): string {
  let text = "";
  for (const { event, data, id } of events) text += `event: ${oneLine(event)}\ndata: ${data}\nid: ${id}\n\n`;
  return text;
}

/** An error that has no id, because it is not an event of the run. */
export const sseError = (json: string): string => `event: error\ndata: ${json}\n\n`;

/** A node may be called anything; a line break in a name would forge frames. */
const oneLine = (name: string): string => (/[\r\n]/.test(name) ? name.replaceAll(/[\r\n]/g, "") : name);

interface Beats extends Pulse {
  /** What is sent into silence. */
  readonly beat: string;
  /** One extra beat this long after the start, if nothing has come until then. */
  readonly earlyMs?: number;
}

/** The items of a source as text, with a beat wherever it has had nothing for too long. */
export async function* withBeats<T>(
  source: AsyncIterable<T>,
  toText: (item: T) => string,
  { beat, ...pulse }: Beats,
): AsyncGenerator<string, void, undefined> {
  const iterator = source[Symbol.asyncIterator]();
  const waiting = new Waiting<IteratorResult<T>>(pulse);
  let ended = false;
  try {
    waiting.start(iterator.next());
    for (;;) {
      const step = await waiting.next();
      if (step === SILENCE) yield beat;
      else if (step === null || step.done === true) {
        ended = step !== null;
        return;
      } else {
        const text = toText(step.value);
        if (text !== "") {
          yield text;
          waiting.taken();
        }
        waiting.start(iterator.next());
      }
    }
  } finally {
    waiting.stop();
    // Not awaited: a source in the middle of a wait would answer only after it.
    if (!ended) iterator.return?.().catch(() => undefined);
  }
}

const SILENCE: unique symbol = Symbol("silence");

type Settled<T> = { readonly value: T } | { readonly thrown: unknown };

/**
 * One promise at a time, a clock and a signal, and one reader who wants to hear of whichever is first.
 * There is one timer per stream, not one per item: when it fires it looks at the time and mostly sleeps on.
 */
class Waiting<T> {
  readonly #heartbeatMs: number;
  readonly #signal: AbortSignal;
  readonly #onAbort = (): void => this.#wake();
  #timer: NodeJS.Timeout;
  #silentSince = performance.now();
  #settled: Settled<T> | null = null;
  #silent = false;
  #early: boolean;
  #resume: (() => void) | null = null;

  constructor({ heartbeatMs, earlyMs = Number.POSITIVE_INFINITY, signal }: Omit<Beats, "beat">) {
    this.#heartbeatMs = heartbeatMs;
    this.#signal = signal;
    this.#early = earlyMs < heartbeatMs;
    this.#timer = setTimeout(() => this.#onTimer(), this.#early ? earlyMs : heartbeatMs);
    signal.addEventListener("abort", this.#onAbort, { once: true });
  }

  start(promise: Promise<T>): void {
    this.#settled = null;
    promise.then(
      (value) => this.#settle({ value }),
      (thrown: unknown) => this.#settle({ thrown }),
    );
  }

  /** The promise's value, `SILENCE`, or null when the signal has fired. */
  async next(): Promise<T | typeof SILENCE | null> {
    for (;;) {
      if (this.#signal.aborted) return null;
      if (this.#settled !== null) return unwrap(this.#settled);
      if (this.#silent) {
        this.#silent = false;
        return SILENCE;
      }
      await new Promise<void>((resolve) => {
        this.#resume = resolve;
      });
    }
  }

  /** The reader has sent something: silence counts from here. */
  taken(): void {
    this.#early = false;
    this.#silentSince = performance.now();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#signal.removeEventListener("abort", this.#onAbort);
  }

  #settle(settled: Settled<T>): void {
    this.#settled = settled;
    this.#wake();
  }

  #wake(): void {
    const resume = this.#resume;
    this.#resume = null;
    resume?.();
  }

  #onTimer(): void {
    const now = performance.now();
    // Timers may fire a millisecond before their time.
    const due = this.#early || now - this.#silentSince >= this.#heartbeatMs - 1;
    if (due && !this.#early) this.#silentSince = now;
    this.#early = false;
    this.#timer = setTimeout(() => this.#onTimer(), this.#silentSince + this.#heartbeatMs - now);
    // Nobody waits while the socket is blocked: no beat is stored for later.
    if (due && this.#resume !== null) {
      this.#silent = true;
      this.#wake();
    }
  }
}

function unwrap<T>(settled: Settled<T>): T {
  if ("thrown" in settled) throw settled.thrown;
  return settled.value;
}
