/**
 * Answers under way to clients whose connections are not ours: those of a server that we are mounted in. Known, so that the end can
 * wait for them, and cut off what takes too long.
 */
export class OpenAnswers {
  readonly #open = new Set<() => void>();
  #onEmpty: (() => void) | undefined;
  #isClosed = false;
  #isCut = false;

  /** No more requests are taken. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** What ends from now on is ended by us: nobody has left. */
  get isCut(): boolean {
    return this.#isCut;
  }

  /** `cut` ends the answer early. Returns what is to be called at its end, whoever brings it about. */
  begin(cut: () => void): () => void {
    // A function of its own for each, so that the same may be given twice.
    const entry = (): void => cut();
    this.#open.add(entry);
    return () => {
      this.#open.delete(entry);
      if (this.#open.size === 0) this.#onEmpty?.();
    };
  }

  /** Resolves when all are answered; those that are not after `graceMs` are cut off. */
  async close(graceMs: number): Promise<void> {
    this.#isClosed = true;
    if (this.#open.size === 0) return;
    const empty = new Promise<void>((resolve) => {
      this.#onEmpty = resolve;
    });
    const force = setTimeout(() => this.#cut(), graceMs);
    await empty;
    clearTimeout(force);
  }

  #cut(): void {
    this.#isCut = true;
    for (const cut of [...this.#open]) cut();
  }
}
