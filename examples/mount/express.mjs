/** Agents inside an Express app: http://127.0.0.1:3000/agents, behind a middleware of the app's own. */
import express from "express";
import { createServer } from "skein";

const agents = await createServer({ config: new URL("..", import.meta.url).pathname, mountPrefix: "/agents" });

const app = express();
app.get("/", (_request, response) => response.send("A page of the app. The agents are at /agents/docs."));
app.use("/agents", (_request, response, next) => {
  response.setHeader("x-served-by", "express");
  next();
});
// Before any parser of bodies; `all` and not `use`, which would cut /agents off the path.
app.all(["/agents", "/agents/*path"], agents.handle);

const server = app.listen(Number(process.env.PORT ?? 3000), "127.0.0.1", () =>
  console.log(`http://127.0.0.1:${server.address().port}/agents`),
);
server.on("upgrade", agents.upgrade);

process.once("SIGTERM", async () => {
  await agents.close();
  server.close(() => process.exit(0));
});
