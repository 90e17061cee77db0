/**
 * The project's code about requests, which runs in the main thread: its `Auth` and its app. `skein dev` puts what has changed in the place of
 * what was there; requests under way end with what they began with.
 */
import { authenticator } from "./auth/authenticate.ts";
import { type Handlers, uncovered } from "./auth/handlers.ts";
import { loadAuth } from "./auth/load.ts";
import type { Project, Settings } from "./config.ts";
import { authenticate, type Identify, identifier } from "./http/authenticate.ts";
import { type CustomApp, loadApp, replaceable } from "./http/custom-app.ts";
import type { DoorsOptions } from "./http/doors.ts";
import type { Logger } from "./observability/logger.ts";
import type { AuthUser } from "./schemas/auth.ts";
import type { Services } from "./services/contract.ts";

/** What the project has of it; null: nothing. */
export interface Loaded {
  readonly handlers: Handlers | null;
  readonly app: CustomApp | null;
}

/**
 * Loads it. Rejects with AuthLoadError or AppError. `edition`: what was loaded under another number is loaded anew, with all of the project that it
 * imports.
 */
export async function loadOwnCode({ auth, http, dir }: Project, edition = 0): Promise<Loaded> {
  const [handlers, app] = await Promise.all([
    auth === null ? null : loadAuth(auth, dir, edition),
    http.app === null ? null : loadApp(http.app, dir, edition),
  ]);
  return { handlers, app };
}

export interface OwnCodeOptions {
  readonly project: Project;
  readonly mode: Settings["mode"];
  readonly logger: Logger;
  /** What graphs that run here call their own server with. */
  readonly serverKey: string;
  /** All services, of which the server itself may do anything. */
  readonly services: Services;
  /** The same, as a user may use them whom these handlers answer for. */
  readonly guarded: (handlers: Handlers) => (user: AuthUser) => Services;
}

/** Who comes in, and what they may do. */
interface Guard {
  readonly identify: Identify;
  readonly servicesFor: (user: AuthUser) => Services;
}

export class OwnCode {
  readonly #options: OwnCodeOptions;
  readonly #app: ReturnType<typeof replaceable> | null;
  #guard: Guard | null;
  #edition = 0;

  constructor({ handlers, app }: Loaded, options: OwnCodeOptions) {
    this.#options = options;
    this.#app = app && replaceable(app);
    this.#guard = handlers && this.#guardOf(handlers);
  }

  /** What doors have to know of it. */
  get inFront(): Pick<DoorsOptions, "authenticate" | "servicesFor" | "protocolFor" | "custom"> {
    const { app: settings } = this.#options.project.http;
    const custom = this.#app && settings && { ...settings, app: this.#app };
    if (this.#guard === null) return { custom };
    const first = this.#guard;
    const guard = (): Guard => this.#guard ?? first;
    const identify: Identify = (...from) => guard().identify(...from);
    return {
      custom,
      authenticate: authenticate(identify),
      servicesFor: (user) => guard().servicesFor(user),
      protocolFor: async (...from) => {
        const user = await identify(...from);
        return (user === null ? this.#options.services : guard().servicesFor(user)).protocol;
      },
    };
  }

  /** Rejects when the project's own start does. */
  async start(): Promise<void> {
    await this.#app?.lifespan.start();
  }

  /** What the project's own stop does not do in time is left undone. */
  async stop(): Promise<void> {
    if (this.#app !== null) await stopLifespan(this.#app.lifespan, this.#options.logger);
  }

  /** Loads it anew. Resolves to what puts it in place; rejects, and changes nothing, when it does not load. */
  async reload(): Promise<() => Promise<void>> {
    this.#edition += 1;
    const { handlers, app } = await loadOwnCode(this.#options.project, this.#edition);
    return async () => {
      if (handlers !== null) this.#guard = this.#guardOf(handlers);
      if (app !== null) await this.#replace(app);
    };
  }

  async #replace(app: CustomApp): Promise<void> {
    const current = this.#app;
    if (current === null) return;
    await this.stop();
    const before = current.put(app);
    try {
      await app.lifespan.start();
    } catch (error) {
      current.put(before);
      await before.lifespan.start();
      throw error;
    }
  }

  #guardOf(handlers: Handlers): Guard {
    const { project, mode, logger, serverKey, guarded } = this.#options;
    warnOfUncovered(handlers, logger);
    return {
      identify: identifier({
        authenticate: authenticator(handlers, logger, project.auth?.cache ?? null),
        serverKey,
        studio: mode === "dev" && project.auth?.disableStudio === false,
      }),
      servicesFor: guarded(handlers),
    };
  }
}

const DENY_ALL = 'auth.on("*", () => false)';

function warnOfUncovered({ callbacks }: Handlers, logger: Logger): void {
  const open = uncovered(callbacks);
  if (open.length === 0) return;
  logger.warn(
    { uncovered: open },
    `auth has no handler for ${open.join(", ")}: every user may do this to everything. A handler for what has none of its own refuses it: ${DENY_ALL}`,
  );
}

/** Time for the project's own stop. */
const LIFESPAN_STOP_MS = 10_000;

async function stopLifespan(lifespan: CustomApp["lifespan"], logger: Logger): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`lifespan.stop took longer than ${LIFESPAN_STOP_MS} ms`)),
      LIFESPAN_STOP_MS,
    );
  });
  try {
    await Promise.race([lifespan.stop(), late]);
  } catch (err) {
    logger.error({ err }, "stopping the project's app failed");
  } finally {
    clearTimeout(timer);
  }
}
