import pino, { type Logger } from "pino";
import type PinoPretty from "pino-pretty";

export type { Logger };

export interface LoggerOptions {
  readonly level: string;
  /** `pino-pretty`, for lines that people read (`dev`); JSON without it (`start`, which need not load it). */
  readonly pretty?: typeof PinoPretty;
}

export function createLogger({ level, pretty }: LoggerOptions): Logger {
  const base = { level, base: null, timestamp: pino.stdTimeFunctions.isoTime };
  if (pretty === undefined) return pino(base);
  return pino(base, pretty({ translateTime: "SYS:HH:MM:ss.l", ignore: "pid,hostname", singleLine: true, sync: true }));
}
