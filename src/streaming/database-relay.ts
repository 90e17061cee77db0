/**
 * Logs of other processes as far as the database knows them: it says when a run has ended, and has the events that are kept.
 * It is asked now and then. This is all there is without Redis, and what is left when Redis is lost.
 */
import {
  type Begun,
  type Broker,
  inProcess,
  type Relay,
  type RelayOptions,
  type ThreadNews,
  type WhichRun,
} from "./broker.ts";
import type { EventLog } from "./event-log.ts";
import type { RunEvent } from "./events.ts";
import { type RemoteLog, RemoteLogs, type RemoteSource } from "./remote-log.ts";

/** How often followed logs and threads are looked at, whatever was heard. */
const LOOK_MS = 2000;

export type Live = Omit<RemoteSource, "load">;

/** Who watches a thread, and the place from which runs may have begun that they have not heard of. */
interface Watched {
  readonly hears: Set<(news: ThreadNews) => void>;
  from: number;
}

export class DatabaseRelay implements Relay {
  protected readonly options: RelayOptions;
  protected readonly remote: RemoteLogs;
  readonly #watched = new Map<string, Watched>();
  readonly #timer: NodeJS.Timeout;

  /** `live`: where events are that are not in the database (yet), if anywhere. */
  constructor(options: RelayOptions, live: Live = NOWHERE) {
    const { shelf, onError, tailLimit, inFlight } = options;
    this.options = options;
    const source = { ...live, load: (run_id: string, after: number) => shelf.load(run_id, after) };
    this.remote = new RemoteLogs({ source, tailLimit, inFlight, everyMs: LOOK_MS, onError });
    this.#timer = setInterval(() => void this.#lookAtThreads(), LOOK_MS).unref();
  }

  publish(_log: EventLog, _fence: number): void {}

  show(_log: EventLog): void {}

  erase(_run_ids: readonly string[]): void {}

  async shown(_run_id: string): Promise<void> {}

  gone(_thread_id: string): void {}

  find(run_id: string): RemoteLog | undefined {
    return this.remote.find(run_id);
  }

  open(which: WhichRun): RemoteLog {
    return this.remote.open(which);
  }

  async look(which: WhichRun): Promise<RemoteLog> {
    return this.remote.open(which);
  }

  async earlier(_run_id: string, _after: number): Promise<readonly RunEvent[]> {
    return [];
  }

  async recall(_run_id: string): Promise<WhichRun | undefined> {
    return undefined;
  }

  check(): void {
    void this.remote.check();
    void this.#lookAtThreads();
  }

  listen(thread_id: string, hear: (news: ThreadNews) => void): { readonly ready: Promise<void>; stop(): void } {
    const watched = this.#watched.get(thread_id) ?? { hears: new Set(), from: this.options.now() * 1000 };
    this.#watched.set(thread_id, watched);
    watched.hears.add(hear);
    const stop = (): void => {
      watched.hears.delete(hear);
      if (watched.hears.size === 0 && this.#watched.get(thread_id) === watched) this.#watched.delete(thread_id);
    };
    return { ready: Promise.resolve(), stop };
  }

  line(thread_id: string, from: number | null): Promise<readonly Begun[]> {
    return this.options.begun(thread_id, from);
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.remote.close();
  }

  /** What was said of watched threads may have been lost. Never rejects. */
  async #lookAtThreads(): Promise<void> {
    try {
      for (const [thread_id, watched] of this.#watched) {
        for (const begun of await this.options.begun(thread_id, watched.from)) {
          watched.from = Math.max(watched.from, begun.place + 1);
          for (const hear of watched.hears) hear({ kind: "began", begun });
        }
      }
    } catch (error) {
      this.options.onError(error);
    }
  }
}

const NOWHERE: Live = {
  lastWordsMs: 0,
  ask: () => undefined,
  onError: () => undefined,
  read: () => Promise.reject(new Error("live events are nowhere without REDIS_URI")),
  listen: () => ({ ready: Promise.resolve(), stop: () => undefined }),
};

/** The broker of processes that share a database and nothing else: nobody is told anything, each looks for itself. */
export const databaseOnly = (): Broker => {
  let relay: DatabaseRelay | undefined;
  return {
    ...inProcess,
    state: "none",
    relay(options) {
      relay = new DatabaseRelay(options);
      return relay;
    },
    close: async () => relay?.close(),
  };
};
