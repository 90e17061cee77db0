/** An event as it goes to a client. `data` is JSON text. */
export interface StreamEvent {
  /** The SSE id. */
  readonly id: number | string;
  /** SSE event name: `metadata`, `values`, `messages|ns:…`, `error` … */
  readonly event: string;
  readonly data: string;
}

/** One event of a run after it has its id. `data` was made once, in the executor; nobody parses it again. */
export interface RunEvent extends StreamEvent {
  /** Index in the run: 0, 1, 2 … */
  readonly id: number;
}
