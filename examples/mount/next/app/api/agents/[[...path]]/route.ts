/** Agents inside a Next.js app, at /api/agents. `next.config` says `serverExternalPackages: ["skein"]`. */
import { createServer, type Server } from "skein";

export const runtime = "nodejs";
export const dynamic = "force-dynamic";

/** One server for the process: in development Next.js loads this module again at each change. */
const kept = globalThis as typeof globalThis & { agents?: Promise<Server> };

function started(): Promise<Server> {
  kept.agents ??= createServer({ config: process.env.AGENTS_CONFIG ?? ".", mountPrefix: "/api/agents" });
  // What did not start, a graph with a mistake in it, say, is tried again by the next request.
  kept.agents.catch(() => delete kept.agents);
  return kept.agents;
}

async function answer(request: Request): Promise<Response> {
  return (await started()).fetch(request);
}

export {
  answer as DELETE,
  answer as GET,
  answer as HEAD,
  answer as OPTIONS,
  answer as PATCH,
  answer as POST,
  answer as PUT,
};
