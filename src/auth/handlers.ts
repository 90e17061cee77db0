/** Which of a project's handlers answers for what. Pure. */
import type { AuthUser } from "../schemas/auth.ts";

/** What may be done to what. */
export const EVENTS = [
  "threads:create",
  "threads:read",
  "threads:update",
  "threads:delete",
  "threads:search",
  "threads:create_run",
  "assistants:create",
  "assistants:read",
  "assistants:update",
  "assistants:delete",
  "assistants:search",
  "crons:create",
  "crons:read",
  "crons:update",
  "crons:delete",
  "crons:search",
  "store:put",
  "store:get",
  "store:search",
  "store:list_namespaces",
  "store:delete",
] as const;
export type AuthEvent = (typeof EVENTS)[number];

/** What a handler is asked. `value` may be changed where the documentation says so. */
export interface Question {
  readonly event: AuthEvent;
  readonly resource: string;
  readonly action: string;
  readonly value: Readonly<Record<string, unknown>>;
  readonly user: AuthUser;
  readonly permissions: readonly string[];
}

/** The project's handlers, as its `Auth` holds them. */
export interface Handlers {
  readonly authenticate: (request: Request) => unknown;
  readonly callbacks: ReadonlyMap<string, (question: Question) => unknown>;
}

export const partsOf = (event: AuthEvent): { readonly resource: string; readonly action: string } => {
  const [resource = "", action = ""] = event.split(":");
  return { resource, action };
};

/** Keys that a handler for the event may be under, the most specific first. */
export function keysOf(event: AuthEvent): readonly string[] {
  const { resource, action } = partsOf(event);
  return [event, resource, `*:${action}`, "*"];
}

const KEYS: ReadonlySet<string> = new Set(EVENTS.flatMap(keysOf));

/** Whether any event is answered by a handler under this key. */
export const isKey = (key: string): boolean => KEYS.has(key);

/** The handler under the most specific key, the only one that is asked; undefined: all may. */
export function handlerOf(
  callbacks: Handlers["callbacks"],
  event: AuthEvent,
): ((question: Question) => unknown) | undefined {
  const key = keysOf(event).find((each) => callbacks.has(each));
  return key === undefined ? undefined : callbacks.get(key);
}

/** Events that every user may because no handler is asked. None where the project has no handlers at all: it wants it so. */
export function uncovered(callbacks: Handlers["callbacks"]): readonly AuthEvent[] {
  if (callbacks.size === 0) return [];
  return EVENTS.filter((event) => handlerOf(callbacks, event) === undefined);
}
