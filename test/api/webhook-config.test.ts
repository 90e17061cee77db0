/** The `webhooks` block of langgraph.json: headers, signatures, fields, and what is recorded of each call. */
import { createHmac, timingSafeEqual } from "node:crypto";
import type { lookup } from "node:dns";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { loadProject, type WebhookSettings } from "../../src/config.ts";
import { poster, refusal } from "../../src/engine/webhook-target.ts";
import { Api, database, fixturesWith } from "../runs/support.ts";
import { ROOT } from "../support/project.ts";
import { eventually, startServer } from "../support/server.ts";

interface Call {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

const calls: Call[] = [];
/** Answers with the status the path asks for: `/x?status=503`. */
const receiver = createServer(async (request, response) => {
  let body = "";
  for await (const chunk of request) body += chunk;
  const { pathname, searchParams } = new URL(request.url ?? "", "http://x");
  calls.push({ path: pathname, headers: request.headers, body });
  const status = Number(searchParams.get("status") ?? 200);
  response.writeHead(status, status < 400 && status >= 300 ? { location: "/followed" } : {}).end();
});
const url = (path: string): string => `http://127.0.0.1:${(receiver.address() as AddressInfo).port}${path}`;
const callTo = (path: string): Promise<Call> => eventually(() => calls.find((call) => call.path === path));

beforeAll(async () => {
  receiver.listen(0, "127.0.0.1");
  await once(receiver, "listening");
});
afterAll(() => {
  receiver.close();
  receiver.closeAllConnections();
});

const plain = { assistant_id: "plain", input: { value: 1 } };
const loopback = { disable_loopback: false };
const env = { LG_WEBHOOK_TOKEN: "tok-en", LG_WEBHOOK_SECRET: "s3cret" };
/** As it is written in langgraph.json. */
const variable = (name: string): string => `\${{ env.${name} }}`;

test("headers are filled in, calls are signed, only the fields named are sent", async () => {
  const webhooks = {
    url: loopback,
    headers: { Authorization: `Bearer ${variable("LG_WEBHOOK_TOKEN")}`, "X-Static": "yes", "user-agent": "ours" },
    signing_secret: [variable("LG_WEBHOOK_SECRET"), "the next one"],
    fields: ["run_id", "status", "values", "webhook_sent_at"],
  };
  await using own = await fixturesWith({ webhooks });
  await using server = await startServer({ project: own, env });
  const api = new Api(server);
  const { run_id } = await api.background({ ...plain, webhook: url("/signed") });
  const { headers, body } = await callTo("/signed");
  expect(headers).toMatchObject({ authorization: "Bearer tok-en", "x-static": "yes", "user-agent": "ours" });
  expect(JSON.parse(body)).toEqual({
    run_id,
    status: "success",
    values: { value: 4, steps: ["first", "second"] },
    webhook_sent_at: expect.any(String),
  });
  // The receiver's side exactly as docs/webhooks.md gives it.
  const verify = snippet();
  const header = headers["x-skein-signature"] as string;
  expect(header).toMatch(/^t=\d{10},v1=[0-9a-f]{64},v1=[0-9a-f]{64}$/);
  expect([verify(header, body, "s3cret"), verify(header, body, "the next one")]).toEqual([true, true]);
  expect([verify(header, body, "another"), verify(header, `${body} `, "s3cret")]).toEqual([false, false]);
  expect(verify(header.replace(/t=\d+/, "t=1600000000"), body, "s3cret")).toBe(false);
  expect(verify("", body, "s3cret")).toBe(false);
});

type Verify = (header: string, body: string, secret: string) => boolean;

/** The function in the documentation, run as a receiver would. */
function snippet(): Verify {
  const page = readFileSync(join(ROOT, "docs", "webhooks.md"), "utf8");
  const [, code = ""] = /```js\n([\s\S]*?function verify[\s\S]*?)```/.exec(page) ?? [];
  const body = code.replace(/^import .*$/m, "");
  return new Function("createHmac", "timingSafeEqual", `${body}\nreturn verify;`)(createHmac, timingSafeEqual);
}

test("each call leaves a record, without the secrets of its URL, for as long as is configured", async () => {
  await using own = await fixturesWith({ webhooks: { url: loopback } });
  await using server = await startServer({ project: own });
  const api = new Api(server);
  const failing = await api.background({ ...plain, webhook: url("/failing/p4th-secret?status=503&token=t0ken") });
  const taken = await api.background({ ...plain, webhook: url("/taken") });
  const moved = await api.background({ ...plain, webhook: url("/moved?status=302") });
  const closed = await api.background({ ...plain, webhook: "http://127.0.0.1:9/x" });
  await callTo("/taken");
  await eventually(() => server.logs().filter(({ outcome }) => outcome === "retried").length >= 3);
  const text = await (await fetch(`${server.url}/metrics`)).text();
  expect(text).toMatch(/skein_webhooks_total\{outcome="delivered"\} 1/);
  expect(text).toContain("skein_webhook_duration_seconds_count");
  await server.stop();

  const db = database(server.data);
  const of = (run_id: string) => db.all("select * from webhook_deliveries where run_id = ? order by attempt", run_id);
  const target = url("");
  expect(await of(taken.run_id)).toMatchObject([
    { attempt: 1, target, outcome: "delivered", status: 200, error: null },
  ]);
  expect((await of(failing.run_id))[0]).toMatchObject({
    attempt: 1,
    target,
    outcome: "retried",
    status: 503,
    error: null,
  });
  // A redirect is not followed: it would lead past the check of the address.
  expect((await of(moved.run_id))[0]).toMatchObject({ outcome: "retried", status: 302 });
  expect((await of(closed.run_id))[0]).toMatchObject({
    outcome: "retried",
    status: null,
    error: expect.stringMatching(/connect/i),
  });
  for (const row of await db.all("select * from webhook_deliveries")) {
    expect(row.started_at).toBeGreaterThan(Date.now() - 60_000);
    expect(row.duration_ms).toBeGreaterThanOrEqual(0);
  }
  db.close();
  expect(calls.some(({ path }) => path === "/followed")).toBe(false);
  expect(server.output).not.toMatch(/p4th-secret|t0ken/);
});

test("records older than the retention go", async () => {
  await using own = await fixturesWith({ webhooks: { url: loopback } });
  await using server = await startServer({ project: own, env: { SKEIN_WEBHOOK_DELIVERIES_TTL_SECS: "0" } });
  await new Api(server).background({ ...plain, webhook: url("/swept") });
  await callTo("/swept");
  const db = database(server.data);
  await eventually(async () => (await db.all("select 1 from webhook_deliveries")).length === 0);
  db.close();
});

test.each([
  [
    { headers: { A: variable("LG_WEBHOOK_MISSING") } },
    {},
    /webhooks\.headers\.A: the variable LG_WEBHOOK_MISSING is not set/,
  ],
  [{ headers: { A: variable("HOME") } }, {}, /HOME may not be used here: only variables that start with LG_WEBHOOK_/],
  [{ env_prefix: "HOOK_", headers: { A: variable("LG_WEBHOOK_TOKEN") } }, env, /start with HOOK_/],
  [
    { headers: { A: variable("x").replace("env", "secrets") } },
    {},
    /webhooks\.headers\.A: \$\{\{ secrets\.x \}\} is not understood/,
  ],
  [{ headers: { "Content-Type": "text/plain" } }, {}, /Content-Type: the server sets this header itself/],
  [{ headers: { "X-Skein-Signature": "x" } }, {}, /the server sets this header itself/],
  [{ headers: { "a b": "x" } }, {}, /webhooks\.headers\.a b is no valid header/],
  [
    { headers: { A: variable("LG_WEBHOOK_TOKEN") } },
    { LG_WEBHOOK_TOKEN: "line\nbreak" },
    /headers\.A is no valid header/,
  ],
  [{ signing_secret: "" }, {}, /webhooks\.signing_secret is empty/],
  [{ signing_secret: variable("LG_WEBHOOK_SECRET") }, {}, /webhooks\.signing_secret: the variable LG_WEBHOOK_SECRET/],
  [{ fields: ["status", "nonsense"] }, {}, /webhooks\.fields\.1/],
  [{ url: { allowed_ports: [70_000] } }, {}, /webhooks\.url\.allowed_ports\.0/],
])("%j does not start", async (webhooks, variables, message) => {
  await using own = await fixturesWith({ webhooks });
  expect(() => loadProject(own.dir, variables)).toThrow(message);
});

test("a prefix of one's own; LANGGRAPH_WEBHOOKS in place of the file's block", async () => {
  await using own = await fixturesWith({ webhooks: { env_prefix: "HOOK_", headers: { A: variable("HOOK_A") } } });
  expect(loadProject(own.dir, { HOOK_A: "1" }).webhooks.headers).toEqual({ a: "1" });
  const block = { headers: { B: "2" }, url: { require_https: true } };
  const { headers, requireHttps } = loadProject(own.dir, { LANGGRAPH_WEBHOOKS: JSON.stringify(block) }).webhooks;
  expect([headers, requireHttps]).toEqual([{ b: "2" }, true]);
  expect(() => loadProject(own.dir, { LANGGRAPH_WEBHOOKS: "{" })).toThrow(/LANGGRAPH_WEBHOOKS is not JSON/);
  expect(() => loadProject(own.dir, { LANGGRAPH_WEBHOOKS: '{"headers":1}' })).toThrow(/LANGGRAPH_WEBHOOKS: headers/);
});

/* ---------------------------------------------------------------------- which addresses are called */

const nothing: WebhookSettings = {
  enabled: true,
  allowLoopback: false,
  allowPrivate: false,
  requireHttps: false,
  allowedDomains: null,
  allowedPorts: null,
  maxUrlLength: 65_536,
  headers: {},
  signingSecrets: [],
  fields: null,
};
const base = "http://127.0.0.1:1";

test.each([
  ["https://hooks.example.com/x", { allowedDomains: ["hooks.example.com"] }, null],
  ["https://HOOKS.example.com./x", { allowedDomains: ["hooks.example.com"] }, null],
  ["https://a.example.org/x", { allowedDomains: ["*.example.org"] }, null],
  ["https://example.org/x", { allowedDomains: ["*.example.org"] }, /allowed_domains/],
  ["https://badexample.org/x", { allowedDomains: ["*.example.org"] }, /allowed_domains/],
  ["https://93.184.216.34/x", { allowedDomains: ["*.example.org"] }, /allowed_domains/],
  ["https://example.org:8443/x", {}, /port 8443/],
  ["https://example.org:8443/x", { allowedPorts: [8443] }, null],
  ["http://example.org/x", { requireHttps: true }, /https/],
  ["http://host.docker.internal/x", {}, /disable_loopback/],
  ["http://localhost./x", {}, /disable_loopback/],
  ["http://[::ffff:7f00:1]/x", {}, /disable_loopback/],
  ["http://[64:ff9b::7f00:1]/x", {}, /allow_private/],
  ["http://[2002:7f00:1::]/x", {}, /allow_private/],
  ["http://100.64.0.1/x", {}, /allow_private/],
  ["http://user:pass@10.1.2.3/x", {}, /allow_private/],
  ["http://10.1.2.3/x", { allowPrivate: true }, null],
  ["http://127.0.0.1/x", { allowPrivate: true }, /disable_loopback/],
])("%s under %j", (target, policy, reason) => {
  const said = refusal(target, base, { ...nothing, ...policy });
  if (reason === null) expect(said).toBeNull();
  else expect(said).toMatch(reason);
});

/** A name server that gives another address each time it is asked. */
function rebinding(...addresses: readonly string[]) {
  const asked: string[] = [];
  const resolve = ((name: string, _: unknown, answer: (error: null, found: unknown) => void) => {
    const address = addresses[asked.push(name) - 1] ?? "127.0.0.1";
    answer(null, [{ address, family: 4 }]);
  }) as unknown as typeof lookup;
  return { asked, resolve };
}

test("a name that resolves to this machine or a private network is refused when the call connects", async () => {
  for (const address of ["127.0.0.1", "10.0.0.1", "169.254.169.254"]) {
    const post = poster(() => base, nothing, rebinding(address).resolve);
    await expect(post("http://hooks.example.com/x", "{}", "id")).rejects.toThrow(
      /targets (this machine|a \w+ address)/,
    );
  }
});

test("a name is looked up once for a connection, and the socket goes to what was checked", async () => {
  const allowed = { ...nothing, allowLoopback: true, allowedPorts: [(receiver.address() as AddressInfo).port] };
  const names = rebinding("127.0.0.1", "10.0.0.1");
  const target = new URL(url("/rebound"));
  target.hostname = "hooks.example.com";
  expect(await poster(() => base, allowed, names.resolve)(target.href, "{}", "id")).toBe(200);
  expect(names.asked).toEqual(["hooks.example.com"]);
});
