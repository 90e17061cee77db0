/** Every operation that is served, against the list of what it asks of whom. A route without a row fails. */
import { randomUUID } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import { EVENTS } from "../../src/auth/handlers.ts";
import { COMMAND_RULES, METHOD_RULES, RULES, type Rule } from "../../src/auth/table.ts";
import { OPERATIONS } from "../../src/compat/operations.ts";
import { type Any, type Body, useServer } from "../runs/support.ts";
import type { Answer } from "../support/http.ts";
import { type As, as, FIXTURE, headersOf } from "./support.ts";

const api = useServer(() => ({ project: FIXTURE }));
const RED: As = { user: "ruby", org: "red" };
const BLUE: As = { user: "bly", org: "blue" };
const NOTHING = "00000000-0000-4000-8000-000000000000";
const run = { assistant_id: "plain", input: {} };
const cron = { assistant_id: "plain", schedule: "0 0 1 1 *" };
const A2A_TYPES = { accept: "application/json, text/event-stream" };

/** What paths and bodies name: things of the red organisation. */
interface Things {
  readonly assistant_id: string;
  readonly thread_id: string;
  readonly run_id: string;
  readonly checkpoint_id: string;
  readonly cron_id: string;
}

async function makeThings(who: As): Promise<Things> {
  const red = as(api.url, who);
  const body = async (answer: Promise<Answer<Any>>): Promise<Any> => {
    const { status, text, body } = await answer;
    if (status !== 200) throw new Error(text);
    return body;
  };
  const { assistant_id } = await body(red.post("/assistants", { graph_id: "plain" }));
  const { thread_id } = await body(red.post("/threads", {}));
  await body(red.post(`/threads/${thread_id}/runs/wait`, run));
  const [{ run_id }] = await body(red.get(`/threads/${thread_id}/runs`));
  const { checkpoint } = await body(red.get(`/threads/${thread_id}/state`));
  const { cron_id } = await body(red.post("/runs/crons", cron));
  return { assistant_id, thread_id, run_id, checkpoint_id: checkpoint.checkpoint_id, cron_id };
}

const rpc = (method: string, params: unknown): Body => ({ jsonrpc: "2.0", id: "1", method, params });
const hello = { message: { kind: "message", role: "user", messageId: "m", parts: [{ kind: "text", text: "hi" }] } };

/** The body and query that each operation needs to be more than malformed. */
const SENT: Readonly<Record<string, (things: Things) => { body?: unknown; query?: string }>> = {
  "POST /assistants": () => ({ body: { graph_id: "plain" } }),
  "PATCH /assistants/{assistant_id}": () => ({ body: { name: "renamed" } }),
  "POST /assistants/{assistant_id}/latest": () => ({ body: { version: 1 } }),
  "PATCH /threads/{thread_id}": () => ({ body: { metadata: { a: 1 } } }),
  "POST /threads/prune": ({ thread_id }) => ({ body: { thread_ids: [thread_id] } }),
  "POST /threads/{thread_id}/state": () => ({ body: { values: {}, as_node: "first" } }),
  "POST /threads/{thread_id}/state/checkpoint": ({ checkpoint_id }) => ({ body: { checkpoint: { checkpoint_id } } }),
  "POST /threads/{thread_id}/runs": () => ({ body: run }),
  "POST /threads/{thread_id}/runs/stream": () => ({ body: run }),
  "POST /threads/{thread_id}/runs/wait": () => ({ body: run }),
  "POST /runs": () => ({ body: run }),
  "POST /runs/stream": () => ({ body: run }),
  "POST /runs/wait": () => ({ body: run }),
  "POST /runs/batch": () => ({ body: [run] }),
  "POST /runs/cancel": ({ thread_id, run_id }) => ({ body: { thread_id, run_ids: [run_id] } }),
  "POST /runs/crons": () => ({ body: cron }),
  "POST /threads/{thread_id}/runs/crons": () => ({ body: cron }),
  "PATCH /runs/crons/{cron_id}": () => ({ body: { enabled: false } }),
  "PUT /store/items": () => ({ body: { namespace: ["a"], key: "k", value: {} } }),
  "GET /store/items": () => ({ query: "?namespace=a&key=k" }),
  "DELETE /store/items": () => ({ body: { namespace: ["a"], key: "k" } }),
  "POST /threads/{thread_id}/commands": () => ({ body: { id: 1, method: "state.get", params: {} } }),
  "POST /threads/{thread_id}/stream/events": () => ({ body: { channels: ["values"] } }),
  "POST /a2a/{assistant_id}": () => ({ body: rpc("tasks/get", { id: NOTHING }) }),
  "GET /.well-known/agent-card.json": ({ assistant_id }) => ({ query: `?assistant_id=${assistant_id}` }),
  "POST /mcp/": () => ({ body: rpc("ping", {}) }),
  "POST /ui/{assistant_id}": () => ({ body: { name: "card" } }),
};

/** The status; a stream is left as soon as it has begun. */
async function ask(operation: string, things: Things, who: As): Promise<{ status: number; text: string }> {
  const [method = "", pattern = ""] = operation.split(" ");
  const { body = method === "POST" ? {} : undefined, query = "" } = SENT[operation]?.(things) ?? {};
  const named = { namespace: "none", file: "none.js", ...things } as Readonly<Record<string, string>>;
  const path = pattern.replaceAll(/\{(\w+)\}/g, (_, name: string) => named[name] ?? "") + query;
  const headers = { ...headersOf(who), ...A2A_TYPES, "content-type": "application/json", connection: "close" };
  const response = await fetch(api.url + path, {
    method,
    headers,
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const isStream = response.headers.get("content-type")?.startsWith("text/event-stream") === true;
  if (!isStream || response.status !== 200) return { status: response.status, text: await response.text() };
  await response.body?.cancel();
  return { status: 200, text: "" };
}

const rules = Object.entries(RULES) as [string, Rule][];
const asking = rules.filter((row): row is [string, Exclude<Rule, string>] => typeof row[1] !== "string");
const others = (events: readonly string[]): string[] => EVENTS.filter((event) => !events.includes(event));

test("every operation that is served or promised has a row, and every row is of one that is", async () => {
  const { paths } = await api.get("/openapi.json");
  const served = Object.entries<Any>(paths).flatMap(([path, item]) =>
    Object.keys(item).map((method) => `${method.toUpperCase()} ${path}`),
  );
  const unlisted = ["GET /", "GET /openapi.json"];
  expect(Object.keys(RULES).sort()).toEqual([...served, ...unlisted].sort());
  const promised = OPERATIONS.map(({ method, path }) => `${method.toUpperCase()} ${path}`);
  expect(promised.filter((operation) => !(operation in RULES))).toEqual([]);
  expect(promised).toHaveLength(63);
});

test.each(rules)("%s without a user", async (operation, rule) => {
  const [method = "", pattern = ""] = operation.split(" ");
  const response = await fetch(api.url + pattern.replaceAll(/\{\w+\}/g, NOTHING), { method });
  const text = await response.text();
  if (rule === "public") expect(response.status).toBe(200);
  else expect([response.status, text]).toEqual([401, '{"detail":"who are you?"}']);
});

test("what is not served, or almost public, is not shown without a user", async () => {
  for (const path of ["/mcp", "/nothing", "/ok/", "/OK", "//ok", "/ok%2f..", "/threads/ok", "/info/x", "/docs/x"]) {
    expect([path, (await fetch(api.url + path)).status]).toEqual([path, 401]);
  }
});

/** What these are about is gone afterwards. */
const ENDS = /DELETE|prune/;

describe("handlers", () => {
  let things: Things;
  beforeAll(async () => {
    things = await makeThings({ user: "ruby" });
  });

  test.each(asking)("%s asks %j, and each may refuse", async (operation, events) => {
    for (const [i, event] of [...new Set(events)].entries()) {
      const refused = await ask(operation, things, { deny: [event] });
      expect([event, refused.status, refused.text]).toEqual([event, 403, expect.stringContaining("Forbidden")]);
      // What is not there is refused in the same way, and before it is looked for.
      if (i > 0) continue;
      const unknown = mapValues(things, () => NOTHING);
      expect((await ask(operation, unknown, { deny: [event] })).status).toBe(403);
    }
  });

  test.each(asking)("%s asks %j and no other", async (operation, events) => {
    const left = ENDS.test(operation) ? await makeThings({ user: "ruby" }) : things;
    expect((await ask(operation, left, { deny: others(events) })).status).not.toBe(403);
  });
});

describe("filters", () => {
  const NAMED = /\{(thread_id|run_id|cron_id|assistant_id)\}/;
  const named = asking.filter(([operation]) => NAMED.test(operation) && !/\/stream\/events|^POST \/ui/.test(operation));

  let kept: Things;
  beforeAll(async () => {
    kept = await makeThings(RED);
  });

  test.each(named)("%s: what is somebody else's is as what is not there", async (operation) => {
    const things = ENDS.test(operation) ? await makeThings(RED) : kept;
    const { status, text } = await ask(operation, things, BLUE);
    expect(status).toBe(404);
    const nothing = await ask(
      operation,
      mapValues(things, () => NOTHING),
      BLUE,
    );
    const known = Object.values(things).reduce((said, id) => said.replaceAll(id, NOTHING), text);
    expect({ status: nothing.status, text: nothing.text }).toEqual({ status, text: known });
    // And was not touched.
    const owner = await ask(operation, things, RED);
    expect([200, 204, 404, 409]).toContain(owner.status);
    if (!/DELETE|\{namespace\}|cancel/.test(operation)) expect(owner.status).not.toBe(404);
  });

  test("searches, counts and what is done to many leave it out", async () => {
    const { thread_id, run_id, cron_id, assistant_id } = await makeThings(RED);
    const blue = as(api.url, { user: "bly", org: `blue ${randomUUID()}` });
    for (const path of ["/threads", "/runs/crons", "/assistants"]) {
      const found = (await blue.post(`${path}/search`, { limit: 1000 })).body;
      const ids = found.flatMap((each: Any) => [
        each.thread_id,
        each.cron_id,
        path === "/assistants" && each.assistant_id,
      ]);
      expect(ids).not.toEqual(expect.arrayContaining([thread_id]));
      expect(ids).not.toEqual(expect.arrayContaining([cron_id]));
      expect(ids).not.toEqual(expect.arrayContaining([assistant_id]));
      expect((await blue.post(`${path}/count`, {})).body).toBe(found.length);
    }
    expect((await blue.post("/threads/search", { ids: [thread_id] })).body).toEqual([]);
    expect((await blue.post("/threads/prune", { thread_ids: [thread_id] })).body).toEqual({ pruned_count: 0 });
    expect((await blue.post("/runs/cancel", { thread_id, run_ids: [run_id] })).status).toBe(404);
    expect((await as(api.url, RED).get(`/threads/${thread_id}`)).status).toBe(200);
    expect((await as(api.url, RED).post("/threads/prune", { thread_ids: [thread_id] })).body).toEqual({
      pruned_count: 1,
    });
  });
});

describe("commands of streaming v2", () => {
  const params = ({ checkpoint_id, run_id }: Things): Readonly<Record<string, Body>> => ({
    "run.start": run,
    "input.respond": { namespace: [], interrupt_id: "a".repeat(32), response: 1 },
    "input.inject": { message: { role: "user", content: "hi" } },
    "state.fork": { checkpoint_id, input: {} },
    "agent.getTree": { run_id },
    "subscription.subscribe": { channels: ["values"] },
    "subscription.reconnect": { run_id },
  });
  const rows = (Object.entries(COMMAND_RULES) as [string, Rule][]).filter(
    ([name]) => !name.startsWith("subscription."),
  );
  const command = async (name: string, things: Things, who: As): Promise<Any> => {
    const body = { id: 1, method: name, params: params(things)[name] ?? {} };
    return (await as(api.url, who).post(`/threads/${things.thread_id}/commands`, body)).body;
  };

  let things: Things;
  let red: Things;
  beforeAll(async () => {
    [things, red] = await Promise.all([makeThings({}), makeThings(RED)]);
  });

  test.each(rows)("%s asks %j and no other", async (name, rule) => {
    const events = typeof rule === "string" ? [] : rule;
    for (const event of new Set(events)) {
      expect([event, await command(name, things, { deny: [event] })]).toMatchObject([
        event,
        { type: "error", error: "permission_denied", message: "Forbidden" },
      ]);
    }
    expect((await command(name, things, { deny: others(events) })).error).not.toBe("permission_denied");
  });

  test.each(rows)("%s on somebody else's thread is as on none", async (name) => {
    const things = red;
    const answer = await command(name, things, BLUE);
    expect(answer).toMatchObject({ type: "error", message: `Thread ${things.thread_id} not found` });
    // Its number says nothing about the thread.
    expect(answer.meta.applied_through_seq / 1000).toBeGreaterThan(Date.now() - 60_000);
    expect((await as(api.url, RED).get(`/threads/${things.thread_id}/runs`)).body).toHaveLength(1);
  });
});

describe("methods of MCP and A2A", () => {
  const sent: Readonly<Record<string, (run_id: string) => unknown>> = {
    "tools/list": () => ({}),
    "tools/call": () => ({ name: "plain", arguments: {} }),
    "message/send": () => hello,
    "message/stream": () => hello,
    ListTasks: () => ({}),
    "tasks/pushNotificationConfig/set": (id) => ({
      taskId: id,
      pushNotificationConfig: { url: "http://127.0.0.1:9/" },
    }),
    "tasks/pushNotificationConfig/delete": (id) => ({ id, pushNotificationConfigId: "none" }),
  };
  const isMcp = (method: string): boolean => method.startsWith("tools/");
  const call = async (method: string, run_id: string, who: As) => {
    const params = sent[method]?.(run_id) ?? { id: run_id };
    const path = isMcp(method) ? "/mcp" : "/a2a/chat";
    const { status, text } = await as(api.url, who).post(path, rpc(method, params), { headers: A2A_TYPES });
    return { status, text };
  };

  test.each(Object.entries(METHOD_RULES))("%s asks %j and no other", async (method, events) => {
    const { text } = await call("message/send", NOTHING, {});
    const { id } = JSON.parse(text).result;
    for (const event of new Set<string>(events)) {
      expect([event, (await call(method, id, { deny: [event] })).text]).toEqual([
        event,
        expect.stringContaining("Forbidden"),
      ]);
    }
    expect((await call(method, id, { deny: others(events) })).text).not.toContain("Forbidden");
  });

  test("tasks of somebody else are not found, and not listed", async () => {
    const { id } = JSON.parse((await call("message/send", NOTHING, RED)).text).result;
    for (const method of ["tasks/get", "tasks/cancel", "tasks/resubscribe", "tasks/pushNotificationConfig/list"]) {
      const known = (await call(method, id, BLUE)).text;
      expect(known).toContain("not found");
      expect(known.replaceAll(id, NOTHING)).toBe((await call(method, NOTHING, BLUE)).text);
    }
    expect((await call("ListTasks", NOTHING, BLUE)).text).not.toContain(id);
    expect((await call("ListTasks", NOTHING, RED)).text).toContain(id);
  });
});

function mapValues(things: Things, change: (id: string) => string): Things {
  return Object.fromEntries(Object.entries(things).map(([name, id]) => [name, change(id)])) as unknown as Things;
}
