/** Work that nobody waits for, done now and then: what has expired goes, so that the database does not grow without bound. */

export interface Sweep {
  /** For the log. */
  readonly name: string;
  readonly everyMs: number;
  /** The first round comes at once. Default false: after one interval. */
  readonly atOnce?: boolean;
  /** One round. It never overlaps with itself. */
  readonly run: () => Promise<unknown>;
}

export class Sweeps {
  readonly #timers: NodeJS.Timeout[] = [];
  readonly #rounds = new Set<Promise<void>>();

  constructor(sweeps: readonly Sweep[], onError: (error: unknown, doing: string) => void) {
    for (const { name, everyMs, atOnce = false, run } of sweeps) {
      let round: Promise<void> | undefined;
      const start = (): void => {
        if (round !== undefined) return;
        const begun: Promise<void> = run()
          .catch((error: unknown) => onError(error, name))
          .then(() => {
            this.#rounds.delete(begun);
            round = undefined;
          });
        round = begun;
        this.#rounds.add(begun);
      };
      this.#timers.push(setInterval(start, everyMs).unref());
      if (atOnce) start();
    }
  }

  /** No more rounds. Resolves when those under way are over. */
  async stop(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    await Promise.all(this.#rounds);
  }
}
