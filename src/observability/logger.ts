import pino, { type DestinationStream, type Logger } from "pino";
import type PinoPretty from "pino-pretty";

export type { Logger };

export interface LoggerOptions {
  readonly level: string;
  /** `pino-pretty`, for lines that people read (`dev`); JSON without it (`start`, which need not load it). */
  readonly pretty?: typeof PinoPretty;
}

export function createLogger({ level, pretty }: LoggerOptions): Logger {
  const base = { level, base: null, timestamp: pino.stdTimeFunctions.isoTime };
  if (pretty === undefined) {
    gathered ??= new GatheredLines();
    return pino(base, gathered);
  }
  return pino(base, pretty({ translateTime: "SYS:HH:MM:ss.l", ignore: "pid,hostname", singleLine: true, sync: true }));
}

/** How long a line may wait for others, in ms. */
const GATHERED_MS = 50;
const GATHERED_LENGTH = 16_384;
const WARN = 40;

/**
 * Standard output, with one write for many lines: a write for each was a tenth of what the main thread did under load. The first line
 * after a quiet time, and all up to a warning or an error, are written at once; others 50 ms later, and before the process ends by itself.
 */
class GatheredLines implements DestinationStream {
  /** pino sets `lastLevel` where this is true. */
  readonly [pino.symbols.needsMetadataGsym] = true;
  lastLevel = 0;
  readonly #output = pino.destination({ dest: 1, sync: true });
  #lines = "";
  #timer: NodeJS.Timeout | undefined;

  constructor() {
    process.once("exit", () => this.#flush());
  }

  write(line: string): void {
    this.#lines += line;
    const isUrgent = this.lastLevel >= WARN || this.#lines.length > GATHERED_LENGTH;
    if (isUrgent || this.#timer === undefined) this.#flush();
  }

  #flush(): void {
    if (this.#lines === "") return;
    this.#output.write(this.#lines);
    this.#lines = "";
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#flush();
    }, GATHERED_MS).unref();
  }
}

/** One for the process, as standard output is: every server in it has a logger. */
let gathered: GatheredLines | undefined;
