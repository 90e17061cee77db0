/**
 * The database's clock, kept here: a monotonic clock and how far the database's is from it. What is read from it is never
 * ahead of the database's by more than the two drift apart between looks: the answer was on its way when the time was taken.
 */
const LOOK_MS = 10_000;

export class SharedClock {
  readonly #ask: () => Promise<number>;
  readonly #onError: (error: unknown) => void;
  #offset = Date.now() - performance.now();
  #timer: NodeJS.Timeout | undefined;

  /** `ask`: the database's time, epoch milliseconds. */
  constructor(ask: () => Promise<number>, onError: (error: unknown) => void) {
    this.#ask = ask;
    this.#onError = onError;
  }

  /** Resolves when the time is known; it is looked at again now and then. */
  async start(): Promise<void> {
    await this.#look();
    this.#timer = setInterval(() => void this.#look().catch(this.#onError), LOOK_MS).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** Epoch milliseconds. */
  now(): number {
    return Math.floor(performance.now() + this.#offset);
  }

  async #look(): Promise<void> {
    const time = await this.#ask();
    this.#offset = time - performance.now();
  }
}
