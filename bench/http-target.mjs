/**
 * The server as a target of loads. undici without `fetch`, on connections that stay open: client and server share the
 * machine, so what the client costs is taken from the server.
 */
import { randomUUID } from "node:crypto";
import { Agent, request } from "undici";

/** The wire calls the mode of tokens as (message, metadata) pairs `messages-tuple`, and its events `messages`. */
const WIRE_MODES = { messages: "messages-tuple" };
const PATIENCE_MS = 60_000;

/** New connections for each load: the server may close idle ones while the other target is measured. */
export function httpTarget(url) {
  const agent = new Agent({ headersTimeout: PATIENCE_MS, bodyTimeout: PATIENCE_MS });
  const post = async (path, body) => {
    const answer = await request(url + path, {
      dispatcher: agent,
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    if (answer.statusCode === 200) return answer.body;
    throw new Error(`POST ${path} answered ${answer.statusCode}: ${await answer.body.text()}`);
  };

  return {
    async stream(graph, input, { mode }) {
      const started = performance.now();
      const body = await post("/runs/stream", { assistant_id: graph, input, stream_mode: [WIRE_MODES[mode] ?? mode] });
      let firstMs;
      const chunks = [];
      for await (const chunk of body) {
        firstMs ??= performance.now() - started;
        chunks.push(chunk);
      }
      const ms = performance.now() - started;
      const bytes = Buffer.concat(chunks);
      if (countOf(bytes, "event: error\n") > 0) throw new Error(`A stream of ${graph} failed: ${bytes}`);
      return { ms, firstMs, events: countOf(bytes, `event: ${mode}\n`) };
    },

    async invoke(graph, input, { durability, recursionLimit, kept = false } = {}) {
      const path = kept ? `/threads/${randomUUID()}/runs/wait` : "/runs/wait";
      const body = await post(path, {
        assistant_id: graph,
        input,
        ...(kept && { if_not_exists: "create" }),
        ...(durability && { durability }),
        ...(recursionLimit && { config: { recursion_limit: recursionLimit } }),
      });
      const values = await body.json();
      if (values.__error__) throw new Error(`A run of ${graph} failed: ${JSON.stringify(values)}`);
      return values;
    },

    close: () => agent.close(),
  };
}

/** Counts in bytes, when the clock has stopped: parsing every event would measure this client. */
function countOf(bytes, text) {
  let count = 0;
  for (let at = bytes.indexOf(text); at !== -1; at = bytes.indexOf(text, at + text.length)) count++;
  return count;
}
