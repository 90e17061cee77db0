/**
 * A program of which servers are a part: one for each of the options in its argument, as JSON. Prints their URLs, and closes
 * them when it is asked to go.
 */
import { createServer } from "../../dist/index.js";

const servers = await Promise.all(JSON.parse(process.argv[2]).map((options) => createServer(options)));
const listening = await Promise.all(servers.map((server) => server.listen({ port: 0 })));
process.once("SIGTERM", async () => {
  await Promise.all(servers.map((server) => server.close()));
  process.exit(0);
});
console.log(JSON.stringify({ urls: listening.map(({ url }) => url) }));
