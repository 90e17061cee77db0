/**
 * Users log in with a token; what one makes, all of the same organisation see, and nobody else.
 *
 *     curl -H "Authorization: Bearer alice-token" …
 */
import { Auth, HTTPException } from "@langchain/langgraph-sdk/auth";

/** Yours would ask an identity provider, or check the signature of a JWT. */
const USERS: Readonly<Record<string, { identity: string; org: string; permissions: string[] }>> = {
  "alice-token": { identity: "alice", org: "red", permissions: ["write"] },
  "bob-token": { identity: "bob", org: "red", permissions: [] },
  "carol-token": { identity: "carol", org: "blue", permissions: ["write"] },
};

type Metadata = Record<string, unknown>;
const orgOf = (user: { identity: string }): string => (user as unknown as { org: string }).org;

export const auth = new Auth()
  .authenticate((request) => {
    const [scheme, token = ""] = (request.headers.get("authorization") ?? "").split(" ");
    const user = scheme === "Bearer" && Object.hasOwn(USERS, token) ? USERS[token] : undefined;
    if (user === undefined) {
      throw new HTTPException(401, { message: "Log in first", headers: { "WWW-Authenticate": "Bearer" } });
    }
    return user;
  })
  // Whatever has no handler of its own is refused.
  .on("*", () => false)
  // Assistants: all may look at those of the configuration, which are everybody's; nobody makes others here.
  .on(["assistants:read", "assistants:search"], ({ user }) => ({ org: orgOf(user) }))
  .on(["threads", "crons"], ({ action, value, user, permissions }) => {
    if (!["read", "search"].includes(action) && !permissions.includes("write")) return false;
    // What a client writes into metadata must not give a thing away, or get it.
    if (["create", "create_run", "update"].includes(action)) {
      const open = value as { metadata?: Metadata };
      open.metadata = { ...open.metadata, org: orgOf(user) };
    }
    return { org: orgOf(user) };
  })
  // The store: each organisation has a tree of its own, whatever namespace a client names.
  .on("store", ({ value, user }) => {
    const open = value as { namespace?: string[] };
    open.namespace = [orgOf(user), ...(open.namespace ?? [])];
  });
