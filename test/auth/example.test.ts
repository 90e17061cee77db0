/** The example of docs/auth.md, as it is told there. */
import { join } from "node:path";
import { AgentCard } from "@a2a-js/sdk";
import { expect, test } from "vitest";
import { useServer } from "../runs/support.ts";
import { http } from "../support/http.ts";
import { ROOT } from "../support/project.ts";

const api = useServer(() => ({ project: join(ROOT, "examples/auth") }));
const as = (name: string) => http(api.url, { headers: { authorization: `Bearer ${name}-token` } });
const run = { assistant_id: "whoami", input: { messages: [] } };

test("alice and bob share what is of their organisation, bob only looks, carol sees nothing of it", async () => {
  const refused = await http(api.url).post("/threads", {});
  expect([refused.status, refused.body, refused.headers.get("www-authenticate")]).toEqual([
    401,
    { detail: "Log in first" },
    "Bearer",
  ]);

  const { thread_id } = (await as("alice").post("/threads", { metadata: { org: "blue" } })).body;
  const answer = await as("alice").post(`/threads/${thread_id}/runs/wait`, run);
  expect(answer.body.messages[0].content).toBe("You are alice of red.");
  expect((await as("bob").get(`/threads/${thread_id}`)).body.metadata).toMatchObject({ org: "red" });
  expect((await as("bob").post(`/threads/${thread_id}/runs`, run)).status).toBe(403);
  expect((await as("carol").get(`/threads/${thread_id}`)).status).toBe(404);
  expect((await as("carol").post("/threads/search", {})).body).toEqual([]);
  expect((await as("carol").post("/runs/wait", run)).body.messages[0].content).toBe("You are carol of blue.");

  const item = { namespace: ["notes"], key: "k", value: { a: 1 } };
  expect((await as("alice").put("/store/items", item)).status).toBe(204);
  expect((await as("bob").get("/store/items?namespace=notes&key=k")).body.value).toEqual({ a: 1 });
  expect((await as("carol").get("/store/items?namespace=notes&key=k")).body).toBeNull();
  expect((await as("alice").post("/assistants", { graph_id: "whoami" })).status).toBe(403);
  expect((await as("alice").get("/assistants/whoami")).status).toBe(200);
});

test("an agent's card says how to log in, to clients of both versions", async () => {
  const { body } = await as("alice").get("/a2a/whoami/.well-known/agent-card.json");
  expect([body.securitySchemes.bearer, body.security]).toMatchObject([
    { type: "http", scheme: "bearer" },
    [{ bearer: [] }],
  ]);
  const card = AgentCard.fromJSON(body);
  expect(card.securitySchemes.bearer?.scheme).toMatchObject({
    $case: "httpAuthSecurityScheme",
    value: { scheme: "bearer" },
  });
  expect(card.securityRequirements).toEqual([{ schemes: { bearer: { list: [] } } }]);
});

test("the document says how to log in", async () => {
  const document = await api.get("/openapi.json");
  expect(document.components.securitySchemes).toEqual({ bearer: { type: "http", scheme: "bearer" } });
  expect(document.security).toEqual([{ bearer: [] }]);
  const refusals = (path: string) =>
    Object.keys(document.paths[path].get.responses).filter((status) => /40[13]/.test(status));
  expect([refusals("/threads/{thread_id}"), refusals("/ok")]).toEqual([["401", "403"], []]);
});
