/** What is known of a graph's values without running it. */
import type { JsonObject } from "./common.ts";

/** JSON schemas read off the TypeScript types of a graph; a member is absent where the types say nothing. */
export interface TypeSchemas {
  readonly state?: JsonObject;
  readonly input?: JsonObject;
  readonly output?: JsonObject;
  readonly context?: JsonObject;
}

/** A graph's, and those of its subgraphs by the name of the node that each is. */
export interface GraphTypes {
  readonly graph: TypeSchemas;
  readonly subgraphs: Readonly<Record<string, TypeSchemas>>;
}

/** A chat message as clients send and see it. */
export const MESSAGE_SCHEMA = {
  type: "object",
  title: "Message",
  properties: {
    type: { type: "string" },
    content: { anyOf: [{ type: "string" }, { type: "array", items: { type: "object" } }] },
    id: { type: "string" },
    name: { type: "string" },
  },
  required: ["content"],
} as const;
