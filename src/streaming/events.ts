/** One event of a run after it has its id. `data` is JSON text, made once in the executor; nobody parses it again. */
export interface RunEvent {
  /** Index in the run: 0, 1, 2 …; the SSE id. */
  readonly id: number;
  /** SSE event name: `metadata`, `values`, `messages|ns:…`, `error` … */
  readonly event: string;
  readonly data: string;
}
