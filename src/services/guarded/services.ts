/** All services, as one user may use them. Made anew for each request; nothing below knows of users. */
import { authoriser } from "../../auth/authorise.ts";
import type { Handlers } from "../../auth/handlers.ts";
import type { AuthUser } from "../../schemas/auth.ts";
import type { Storage } from "../../storage/storage.ts";
import type { Assistants } from "../assistants.ts";
import type { CallerLogger, Services } from "../contract.ts";
import type { Crons } from "../crons.ts";
import type { Protocol } from "../protocol/service.ts";
import type { Runs } from "../runs.ts";
import type { Tasks } from "../tasks.ts";
import type { Threads } from "../threads.ts";
import { Access } from "./access.ts";
import { GuardedAssistants } from "./assistants.ts";
import { GuardedCrons } from "./crons.ts";
import { GuardedProtocol, type GuardedProtocolOptions } from "./protocol.ts";
import { GuardedRuns } from "./runs.ts";
import { GuardedStore } from "./store.ts";
import { GuardedTasks } from "./tasks.ts";
import { GuardedThreads } from "./threads.ts";
import { GuardedUi } from "./ui.ts";

export interface GuardedOptions {
  readonly handlers: Handlers;
  readonly storage: Storage;
  readonly logger: CallerLogger & GuardedProtocolOptions["logger"];
  readonly tree: GuardedProtocolOptions["tree"];
  readonly services: Pick<Services, "store" | "system"> & {
    readonly assistants: Assistants;
    readonly threads: Threads;
    readonly runs: Runs;
    readonly protocol: Protocol;
    readonly tasks: Tasks;
    readonly crons: Crons;
  };
  /** Components, found by these assistants. */
  readonly ui: (assistants: Pick<Services["assistants"], "get">) => Services["ui"];
}

export function guardedServices(options: GuardedOptions): (user: AuthUser) => Services {
  const { handlers, storage, logger, tree, services, ui } = options;
  return (user) => {
    const access = new Access({ user, storage, authorise: authoriser(handlers, user, logger) });
    const assistants = new GuardedAssistants(services.assistants, access);
    const threads = new GuardedThreads(services.threads, access);
    const runs = new GuardedRuns(services.runs, access, logger);
    return {
      assistants,
      threads,
      runs,
      protocol: new GuardedProtocol({ inner: services.protocol, access, storage, runs, threads, logger, tree }),
      tasks: new GuardedTasks(services.tasks, access),
      crons: new GuardedCrons(services.crons, access),
      store: new GuardedStore(services.store, access),
      system: services.system,
      ui: new GuardedUi(ui(assistants), access),
    };
  };
}
