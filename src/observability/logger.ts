import pino, { type Logger } from "pino";
import pretty from "pino-pretty";

export type { Logger };

export interface LoggerOptions {
  readonly level: string;
  /** Lines for people (`dev`) instead of JSON (`start`). */
  readonly pretty: boolean;
}

export function createLogger({ level, pretty: forPeople }: LoggerOptions): Logger {
  const base = { level, base: null, timestamp: pino.stdTimeFunctions.isoTime };
  if (!forPeople) return pino(base);
  return pino(base, pretty({ translateTime: "SYS:HH:MM:ss.l", ignore: "pid,hostname", singleLine: true, sync: true }));
}
