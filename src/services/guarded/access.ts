/** A caller who had to log in: what the project's handlers let it do, and how that is asked. */
import type { z } from "zod";
import type { Allowed, Asked, Authorise } from "../../auth/authorise.ts";
import type { AuthEvent } from "../../auth/handlers.ts";
import { notFound, type SkeinError } from "../../errors.ts";
import type { AuthUser } from "../../schemas/auth.ts";
import type { MetadataFilter } from "../../storage/filter.ts";
import type { Storage, Tx } from "../../storage/storage.ts";
import * as visible from "../../storage/tables/visible.ts";
import type { Admit } from "../access.ts";
import { assistantIdOf } from "../assistants.ts";

export type Members = Readonly<Record<string, unknown>>;
type Look = (db: Tx, id: string, filter: MetadataFilter) => Promise<boolean>;

export interface Granted extends Allowed {
  /** For the transaction that does the work; it has held just now. Undefined: everything may be seen. */
  readonly admit: Admit | undefined;
}

export interface AccessOptions {
  readonly user: AuthUser;
  readonly authorise: Authorise;
  readonly storage: Storage;
}

/** Made anew for each request. */
export class Access {
  readonly #options: AccessOptions;
  /** Runs that this request has made: whoever made a run hears what becomes of it, also when it is gone. */
  readonly #own = new Set<string>();

  constructor(options: AccessOptions) {
    this.#options = options;
  }

  /** As it is stored and as graphs get it: JSON, whatever the project's code sees. */
  get user(): AuthUser {
    return JSON.parse(JSON.stringify(this.#options.user)) as AuthUser;
  }

  get identity(): string {
    return this.#options.user.identity;
  }

  owns(run_id: string): boolean {
    return this.#own.has(run_id);
  }

  remember(run_ids: readonly string[]): void {
    for (const run_id of run_ids) this.#own.add(run_id);
  }

  ask(event: AuthEvent, { fixed, open = openFor(event) }: Asked): Promise<Allowed> {
    return this.#options.authorise(event, { fixed, open });
  }

  /** About a thread that must be there. */
  thread(event: AuthEvent, thread_id: string, fixed: Members = {}, open = openFor(event)): Promise<Granted> {
    const asked = { fixed: { thread_id, ...fixed }, open };
    return this.#grant(event, asked, visible.thread, thread_id, noThread(thread_id));
  }

  /** About a run that is named without its thread. */
  run(event: AuthEvent, run_id: string, fixed: Members = {}, missing = noRun(run_id)): Promise<Granted> {
    return this.#grant(
      event,
      { fixed: { thread_id: null, run_id, ...fixed }, open: openFor(event) },
      visible.threadOfRun,
      run_id,
      missing,
    );
  }

  cron(event: AuthEvent, cron_id: string, fixed: Members = {}, open: Members = {}): Promise<Granted> {
    const missing = notFound(`Cron ${cron_id} not found`);
    return this.#grant(event, { fixed: { cron_id, ...fixed }, open }, visible.cron, cron_id, missing);
  }

  assistant(event: AuthEvent, id: string, fixed: Members = {}, open = openFor(event)): Promise<Granted> {
    const assistant_id = assistantIdOf(id);
    const look = event === "assistants:read" ? visible.readableAssistant : visible.assistant;
    const asked = { fixed: { assistant_id, ...fixed }, open };
    return this.#grant(event, asked, look, assistant_id, notFound(`Assistant "${id}" not found`, "assistant"));
  }

  /** Whether a thing is there for this caller, at the moment. */
  sees(look: Look, id: string, filter: MetadataFilter | null): Promise<boolean> {
    return filter === null ? Promise.resolve(true) : this.#options.storage.read((db) => look(db, id, filter));
  }

  async #grant(event: AuthEvent, asked: Asked, look: Look, id: string, missing: SkeinError): Promise<Granted> {
    const allowed = await this.ask(event, asked);
    const { filter } = allowed;
    if (filter === null) return { ...allowed, admit: undefined };
    const admit = admitting(look, id, filter, missing);
    await this.#options.storage.read(admit);
    return { ...allowed, admit };
  }
}

/** Handlers that set metadata need not know which changes write some: a cancel, say, does not. */
const openFor = (event: AuthEvent): Members => (event.endsWith(":update") ? { metadata: {} } : {});

export function admitting(look: Look, id: string, filter: MetadataFilter, missing: SkeinError): Admit {
  return async (db) => {
    if (!(await look(db, id, filter))) throw missing;
  };
}

const noRun = (run_id: string): SkeinError => notFound(`Run ${run_id} not found`, "run");

export const noThread = (thread_id: string): SkeinError => notFound(`Thread ${thread_id} not found`, "thread");

/** The request with what handlers made of it. Throws what is the handlers' fault, and no client's. */
export function changed<T extends object>(schema: z.ZodType<T>, request: T, members: Members, event: AuthEvent): T {
  const parsed = schema.safeParse({ ...request, ...members });
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new Error(`after the handler of auth for ${event} value.${issue?.path.join(".")} is wrong: ${issue?.message}`);
}

/** Metadata as handlers get it: theirs to change, and there even when the request has none. */
export const openMetadata = (metadata: Members | null | undefined): { readonly metadata: Members } => ({
  metadata: { ...metadata },
});

/** Metadata as handlers left it. */
export function metadataIn({ metadata }: Members, event: AuthEvent): Record<string, unknown> {
  if (typeof metadata === "object" && metadata !== null && !Array.isArray(metadata)) return { ...metadata };
  throw new Error(`after the handler of auth for ${event} value.metadata is no object`);
}

/** What handlers have set or changed of the metadata. */
export function addedTo(before: Members | null | undefined, after: unknown): Members {
  const known = before ?? {};
  return Object.fromEntries(Object.entries(after as Members).filter(([key, value]) => known[key] !== value));
}

/** The server's own mark on what a user makes. */
export const markOf = ({ identity }: { readonly identity: string }): Members => ({ langgraph_auth_user_id: identity });

/** Members that are there. */
export const given = (members: Members): Members =>
  Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined));
