/** Routes and middleware of one's own, in front of the API. */
import { appendFile } from "node:fs/promises";
import { Client } from "@langchain/langgraph-sdk";
import { Hono } from "hono";

export const app = new Hono();

/** Around everything, the answers of the API too. */
app.use(async (c, next) => {
  const start = performance.now();
  await next();
  c.header("server-timing", `total;dur=${(performance.now() - start).toFixed(1)}`);
});

/** A route of one's own. A client without a URL talks to this server, in this process. */
app.get("/hello/:name", async (c) => {
  const client = new Client();
  const output = await client.runs.wait(null, "greeter", { input: { name: c.req.param("name") } });
  return c.json(output);
});

/** What the API says of itself is said otherwise here. */
app.get("/info", (c) => c.json({ service: "greetings", version: 1 }));

/** Before the first request, and after the last; in processes of `skein worker`, too. */
export const lifespan = {
  start: () => note("started"),
  stop: () => note("stopped"),
};

async function note(text: string): Promise<void> {
  if (process.env.LIFE_LOG !== undefined) await appendFile(process.env.LIFE_LOG, `${text}\n`);
}
