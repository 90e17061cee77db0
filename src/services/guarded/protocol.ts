/** Streaming v2, as a user may use it: commands go through the guarded runs and threads, events need the thread to be the user's to read. */
import { SkeinError } from "../../errors.ts";
import type { RequestFacts } from "../../observability/request.ts";
import type { AgentTree, EventStreamRequest, ProtocolCommand, ProtocolResponse } from "../../schemas/protocol.ts";
import type { Storage } from "../../storage/storage.ts";
import * as visible from "../../storage/tables/visible.ts";
import type { ProtocolFrame } from "../../streaming/protocol/frames.ts";
import type { ProtocolService, ProtocolSession, ProtocolSocket, RunRequest } from "../contract.ts";
import { Commands, type CommandsOptions, findThread } from "../protocol/commands.ts";
import type { Gate, Protocol } from "../protocol/service.ts";
import type { Access } from "./access.ts";

export interface GuardedProtocolOptions extends Pick<CommandsOptions, "runs" | "threads" | "logger" | "tree"> {
  readonly inner: Protocol;
  readonly access: Access;
  readonly storage: Storage;
}

export class GuardedProtocol implements ProtocolService {
  readonly #options: GuardedProtocolOptions;
  readonly #commands: Commands;

  constructor(options: GuardedProtocolOptions) {
    this.#options = options;
    const { access, inner, storage } = options;
    this.#commands = new Commands({
      ...options,
      find: async (thread_id) => {
        await access.thread("threads:read", thread_id);
        return findThread(storage, thread_id);
      },
      tree: (thread_id, run_id) => this.#tree(thread_id, run_id),
      // Who may not read a thread is told the number of one that nobody has been on.
      appliedThrough: (thread_id) =>
        inner.appliedThrough(thread_id, () => this.#isReadable(thread_id).catch(ifForbidden)),
    });
  }

  async events(
    thread_id: string,
    ask: EventStreamRequest,
    signal: AbortSignal,
  ): Promise<AsyncIterable<readonly ProtocolFrame[]>> {
    return this.#options.inner.events(thread_id, ask, signal, this.#gate(thread_id));
  }

  session(thread_id: string, socket: ProtocolSocket, from: RequestFacts): ProtocolSession {
    return this.#options.inner.session(thread_id, socket, from, {
      gate: this.#gate(thread_id),
      tree: (_, run_id) => this.#tree(thread_id, run_id),
      command: (_, command) => this.#commands.run(thread_id, command, from),
    });
  }

  command(thread_id: string, command: ProtocolCommand, from: RunRequest): Promise<ProtocolResponse> {
    return this.#commands.run(thread_id, command, from);
  }

  #gate(thread_id: string): Gate {
    return () => this.#isReadable(thread_id);
  }

  async #isReadable(thread_id: string): Promise<boolean> {
    const { access } = this.#options;
    const { filter } = await access.ask("threads:read", { fixed: { thread_id } });
    return access.sees(visible.thread, thread_id, filter);
  }

  async #tree(thread_id: string, run_id: string | undefined): Promise<AgentTree> {
    await this.#options.access.thread("threads:read", thread_id);
    return this.#options.tree(thread_id, run_id);
  }
}

function ifForbidden(error: unknown): false {
  if (error instanceof SkeinError && error.kind === "forbidden") return false;
  throw error;
}
