/** Agents inside a Hono app: http://127.0.0.1:3000/agents, behind a middleware of the app's own. */
import { serve } from "@hono/node-server";
import { Hono } from "hono";
import { createServer } from "skein";

const agents = await createServer({ config: new URL("..", import.meta.url).pathname, mountPrefix: "/agents" });

const app = new Hono();
app.get("/", (c) => c.text("A page of the app. The agents are at /agents/docs."));
app.use("/agents/*", async (c, next) => {
  await next();
  c.header("x-served-by", "hono");
});
app.all("/agents/*", (c) => agents.fetch(c.req.raw));

const server = serve({ fetch: app.fetch, hostname: "127.0.0.1", port: Number(process.env.PORT ?? 3000) }, ({ port }) =>
  console.log(`http://127.0.0.1:${port}/agents`),
);
// What fetch cannot take: WebSockets of event streams.
server.on("upgrade", agents.upgrade);

process.once("SIGTERM", async () => {
  await agents.close();
  server.close(() => process.exit(0));
});
