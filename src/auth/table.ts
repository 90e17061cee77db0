/** What each operation asks of whom. The guards do it; a test holds every operation that is served against this list. */
import type { CommandName } from "../schemas/protocol.ts";
import type { AuthEvent } from "./handlers.ts";

/** `public`: nobody has to log in. `user`: any user may. Else the handlers for all of these are asked. */
export type Rule = "public" | "user" | readonly AuthEvent[];

/** Making a run needs the assistant, too. */
const RUN = ["threads:create_run", "assistants:read"] as const;
/** As does making a cron, whose runs come later. */
const CRON = ["crons:create", ...RUN] as const;

export const RULES = {
  "GET /": "public",
  "GET /ok": "public",
  "GET /info": "public",
  "GET /metrics": "public",
  "GET /docs": "public",
  "GET /openapi.json": "public",

  "POST /assistants": ["assistants:create"],
  "POST /assistants/search": ["assistants:search"],
  "POST /assistants/count": ["assistants:search"],
  "GET /assistants/{assistant_id}": ["assistants:read"],
  "PATCH /assistants/{assistant_id}": ["assistants:update"],
  // With `delete_threads` also `threads:delete`.
  "DELETE /assistants/{assistant_id}": ["assistants:delete"],
  "POST /assistants/{assistant_id}/versions": ["assistants:read"],
  "POST /assistants/{assistant_id}/latest": ["assistants:update"],
  "GET /assistants/{assistant_id}/graph": ["assistants:read"],
  "GET /assistants/{assistant_id}/subgraphs": ["assistants:read"],
  "GET /assistants/{assistant_id}/subgraphs/{namespace}": ["assistants:read"],
  "GET /assistants/{assistant_id}/schemas": ["assistants:read"],

  // With `supersteps` also `assistants:read`.
  "POST /threads": ["threads:create"],
  "POST /threads/search": ["threads:search"],
  "POST /threads/count": ["threads:search"],
  "POST /threads/prune": ["threads:delete"],
  "GET /threads/{thread_id}": ["threads:read"],
  "PATCH /threads/{thread_id}": ["threads:update"],
  "DELETE /threads/{thread_id}": ["threads:delete"],
  "POST /threads/{thread_id}/copy": ["threads:read", "threads:create"],
  "GET /threads/{thread_id}/state": ["threads:read"],
  "POST /threads/{thread_id}/state": ["threads:update"],
  "GET /threads/{thread_id}/state/{checkpoint_id}": ["threads:read"],
  "POST /threads/{thread_id}/state/checkpoint": ["threads:read"],
  "GET /threads/{thread_id}/history": ["threads:read"],
  "POST /threads/{thread_id}/history": ["threads:read"],
  "GET /threads/{thread_id}/stream": ["threads:read"],

  "POST /threads/{thread_id}/runs": RUN,
  "POST /threads/{thread_id}/runs/stream": RUN,
  "POST /threads/{thread_id}/runs/wait": RUN,
  "GET /threads/{thread_id}/runs": ["threads:read"],
  "GET /threads/{thread_id}/runs/{run_id}": ["threads:read"],
  "DELETE /threads/{thread_id}/runs/{run_id}": ["threads:delete"],
  // With `cancel_on_disconnect` also `threads:update`, when the client leaves.
  "GET /threads/{thread_id}/runs/{run_id}/join": ["threads:read"],
  "GET /threads/{thread_id}/runs/{run_id}/stream": ["threads:read"],
  "POST /threads/{thread_id}/runs/{run_id}/cancel": ["threads:update"],
  "POST /runs/cancel": ["threads:update"],

  "POST /runs": RUN,
  "POST /runs/stream": RUN,
  "POST /runs/wait": RUN,
  "POST /runs/batch": RUN,
  "GET /runs/{run_id}/join": ["threads:read"],
  "GET /runs/{run_id}/stream": ["threads:read"],

  "POST /runs/crons": CRON,
  "POST /threads/{thread_id}/runs/crons": CRON,
  "POST /runs/crons/search": ["crons:search"],
  "POST /runs/crons/count": ["crons:search"],
  "GET /runs/crons/{cron_id}": ["crons:read"],
  "PATCH /runs/crons/{cron_id}": ["crons:update"],
  "DELETE /runs/crons/{cron_id}": ["crons:delete"],

  "PUT /store/items": ["store:put"],
  "GET /store/items": ["store:get"],
  "DELETE /store/items": ["store:delete"],
  "POST /store/items/search": ["store:search"],
  "POST /store/namespaces": ["store:list_namespaces"],

  // Then as the command says.
  "POST /threads/{thread_id}/commands": "user",
  // A WebSocket on this path comes in as any user; its subscriptions and commands are asked about.
  "POST /threads/{thread_id}/stream/events": ["threads:read"],

  // Then as the method says.
  "POST /mcp/": "user",
  "GET /mcp/": "user",
  "DELETE /mcp/": "user",
  "POST /a2a/{assistant_id}": ["assistants:read"],
  "GET /a2a/{assistant_id}/.well-known/agent-card.json": ["assistants:read"],
  "GET /.well-known/agent-card.json": ["assistants:read"],

  "POST /ui/{assistant_id}": ["assistants:read"],
  // Code of the project, the same for all.
  "GET /ui/{assistant_id}/{file}": "user",
} as const satisfies Readonly<Record<string, Rule>>;

/** Exact paths. */
export const PUBLIC_PATHS: ReadonlySet<string> = new Set(
  Object.entries(RULES).flatMap(([operation, rule]) => (rule === "public" ? [operation.replace(/^GET /, "")] : [])),
);

/** Commands of streaming v2. */
export const COMMAND_RULES = {
  "run.start": RUN,
  // Of the assistant that ran on the thread last: its name is read there.
  "input.respond": ["threads:read", ...RUN],
  "input.inject": ["threads:read", ...RUN],
  "state.get": ["threads:read"],
  "state.listCheckpoints": ["threads:read"],
  "state.fork": ["threads:read", ...RUN],
  "agent.getTree": ["threads:read"],
  "subscription.subscribe": ["threads:read"],
  // Of a subscription of one's own.
  "subscription.unsubscribe": "user",
  "subscription.reconnect": ["threads:read"],
} as const satisfies Readonly<Record<CommandName, Rule>>;

/** Methods of MCP and A2A; each A2A request has asked for the assistant before. */
export const METHOD_RULES = {
  "tools/list": ["assistants:search", "assistants:read"],
  "tools/call": ["assistants:search", "assistants:read", "threads:create_run"],
  "message/send": RUN,
  "message/stream": RUN,
  "tasks/get": ["threads:read", "assistants:read"],
  "tasks/cancel": ["threads:read", "threads:update", "assistants:read"],
  "tasks/resubscribe": ["threads:read", "assistants:read"],
  ListTasks: ["threads:search", "assistants:read"],
  "tasks/pushNotificationConfig/set": ["threads:read", "threads:update", "assistants:read"],
  "tasks/pushNotificationConfig/get": ["threads:read", "assistants:read"],
  "tasks/pushNotificationConfig/list": ["threads:read", "assistants:read"],
  "tasks/pushNotificationConfig/delete": ["threads:read", "threads:update", "assistants:read"],
} as const satisfies Readonly<Record<string, Rule>>;
