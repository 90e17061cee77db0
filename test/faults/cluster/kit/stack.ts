/** Things to give back, newest first: Node 20 has no `AsyncDisposableStack`. */
export class Stack implements AsyncDisposable {
  readonly #held: AsyncDisposable[] = [];

  use<T extends AsyncDisposable>(thing: T): T {
    this.#held.push(thing);
    return thing;
  }

  /** Gives everything back even when some of it fails; then rejects with the first failure. */
  async [Symbol.asyncDispose](): Promise<void> {
    const failures: unknown[] = [];
    for (const thing of this.#held.splice(0).reverse()) {
      try {
        await thing[Symbol.asyncDispose]();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }
}
