/** What holds for every operation: errors, text, headers, CORS. */
import { expect } from "vitest";
import { behaviour, json, NOBODY, names, of, refused } from "../kit.ts";

behaviour("http.error.shape", async ({ api }) => {
  for (const path of [`/threads/${NOBODY}`, "/threads/nonsense", "/nowhere"]) {
    const answer = await api.http.get(path);
    expect(Object.keys(answer.body)).toEqual(["detail"]);
    expect(answer.headers.get("content-type")).toContain("application/json");
  }
});

behaviour("http.error.field-path", async ({ api }) => {
  const deep = { assistant_id: "plain", command: { goto: [{ node: 7 }] } };
  await refused(api.http.post("/runs", deep), 422, "command.goto.0.node");
});

behaviour("http.error.query-field", async ({ api }) => {
  const thread_id = await api.thread();
  await refused(api.http.get(`/threads/${thread_id}/runs?limit=many`), 422, "limit");
});

behaviour("http.error.path-id", async ({ api }) => {
  await refused(api.http.get("/threads/nonsense"), 422, "thread_id");
});

behaviour("http.error.malformed-json", async ({ api }) => {
  for (const text of ['{"assistant_id":', "plain", "{'a':1}"]) await refused(api.http.post("/runs", text), 422, "JSON");
});

behaviour("http.error.empty-body", async ({ api }) => {
  const answer = await api.raw("/runs", { method: "POST" });
  expect(answer.status).toBe(422);
  expect(await answer.json()).toEqual({ detail: expect.any(String) });
});

behaviour("http.error.body-of-other-kind", async ({ api }) => {
  for (const text of ["null", "7", '"text"', "[7]"]) await refused(api.http.post("/threads/search", text), 422);
});

behaviour("http.error.unknown-route", async ({ api }) => {
  await refused(api.http.get("/nowhere/at/all"), 404);
});

behaviour("http.error.method", async ({ api }) => {
  const answer = await api.raw("/runs/wait", { method: "PUT" });
  expect(answer.status).toBe(405);
  expect(answer.headers.get("allow")).toContain("POST");
  expect(await answer.json()).toEqual({ detail: expect.any(String) });
});

behaviour("http.unknown-fields", async ({ api }) => {
  const mark = api.mark();
  const thread_id = await api.thread({ metadata: { mark }, langsmith_tracer: {}, whatever: [1] });
  expect(await api.get(`/threads/${thread_id}`)).not.toHaveProperty("whatever");
});

behaviour("http.null-is-absent", async ({ api }) => {
  const body = { metadata: null, thread_id: null, if_exists: null };
  expect(await api.post("/threads", body)).toMatchObject({ metadata: {} });
});

behaviour("http.any-content-type", async ({ api }) => {
  const body = JSON.stringify({ metadata: { a: 1 } });
  for (const type of ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-8"]) {
    const answer = await api.raw("/threads", { method: "POST", body, headers: { "content-type": type } });
    expect(await answer.json()).toMatchObject({ metadata: { a: 1 } });
  }
});

behaviour("http.text.nul", async ({ api }) => {
  const body = '{"metadata":{"a\\u0000b":"x\\u0000y"}}';
  expect(await api.post("/threads", body)).toMatchObject({ metadata: { "a\uFFFDb": "x\uFFFDy" } });
});

behaviour("http.text.surrogates", async ({ api }) => {
  const body = '{"metadata":{"a":"\\ud800","b":"\\ud83d\\ude42"}}';
  expect(await api.post("/threads", body)).toMatchObject({ metadata: { a: "\uFFFD", b: "🙂" } });
});

behaviour("http.text.nul-in-query", async ({ api }) => {
  const mark = api.mark();
  await api.put("/store/items", { namespace: [mark], key: "a\uFFFDb", value: { a: 1 } });
  expect(await api.get(`/store/items?namespace=${mark}&key=a%00b`)).toMatchObject({ value: { a: 1 } });
});

behaviour("http.uppercase-ids", async ({ api }) => {
  const thread_id = await api.thread();
  expect(await api.get(`/threads/${thread_id.toUpperCase()}`)).toMatchObject({ thread_id });
});

behaviour("http.encoded-paths", async ({ api }) => {
  const thread_id = await api.thread();
  expect(await api.get(`/threads/${thread_id.replaceAll("-", "%2D")}`)).toMatchObject({ thread_id });
});

behaviour("http.proto-key", async ({ api }) => {
  await refused(api.http.post("/threads", '{"metadata":{"__proto__":{"a":1}}}'), 422, "__proto__");
});

behaviour("http.deep-nesting", async ({ api }) => {
  const nested = `${"[".repeat(5000)}${"]".repeat(5000)}`;
  await refused(api.http.post("/threads", `{"metadata":{"a":${nested}}}`), 422);
});

behaviour("http.metadata.reserved-keys", async ({ api }) => {
  const thread_id = await api.thread({
    metadata: { langgraph_auth_user_id: "root", langgraph_request_id: "x", own: 1 },
  });
  expect((await api.get(`/threads/${thread_id}`)).metadata).toEqual({ own: 1 });
});

behaviour("http.request-id", async ({ api }) => {
  const answer = await api.raw("/ok", { headers: { "x-request-id": "my-request.1" } });
  expect(answer.headers.get("x-request-id")).toBe("my-request.1");
  expect((await api.raw("/ok")).headers.get("x-request-id")).toMatch(/\S/);
});

behaviour("http.cors.any-origin", async ({ api }) => {
  const answer = await api.raw("/ok", { headers: { origin: "https://studio.example" } });
  expect(["*", "https://studio.example"]).toContain(answer.headers.get("access-control-allow-origin"));
});

behaviour("http.cors.exposed", async ({ api }) => {
  const answer = await api.raw("/ok", { headers: { origin: "https://studio.example" } });
  const exposed = (answer.headers.get("access-control-expose-headers") ?? "").toLowerCase();
  for (const name of ["content-location", "location", "x-pagination-total", "x-pagination-next"]) {
    expect(exposed).toContain(name);
  }
});

behaviour("http.cors.preflight", async ({ api }) => {
  const answer = await api.raw("/threads", {
    method: "OPTIONS",
    headers: {
      origin: "https://studio.example",
      "access-control-request-method": "POST",
      "access-control-request-headers": "content-type,x-api-key",
    },
  });
  expect(answer.status).toBeLessThan(300);
  expect(answer.headers.get("access-control-allow-methods")).toContain("POST");
  const headers = (answer.headers.get("access-control-allow-headers") ?? "").toLowerCase();
  expect(headers === "*" || headers.includes("x-api-key")).toBe(true);
});

behaviour("http.cors.private-network", async ({ api }) => {
  const answer = await api.raw("/threads", {
    method: "OPTIONS",
    headers: {
      origin: "https://studio.example",
      "access-control-request-method": "POST",
      "access-control-request-private-network": "true",
    },
  });
  expect(answer.headers.get("access-control-allow-private-network")).toBe("true");
});

behaviour("http.head", async ({ api }) => {
  const answer = await api.raw("/ok", { method: "HEAD" });
  expect(answer.status).toBe(200);
  expect(await answer.text()).toBe("");
});

behaviour("http.allow.head", async ({ api }) => {
  const answer = await api.raw("/ok", { method: "DELETE" });
  expect(answer.status).toBe(405);
  expect(answer.headers.get("allow")?.split(/, */).sort()).toEqual(expect.arrayContaining(["GET", "HEAD"]));
});

behaviour("http.large-body", async ({ api }) => {
  const text = "x".repeat(5_000_000);
  const output = await api.run("functional", { text });
  expect(output.text.length).toBe(text.length);
});

behaviour("http.sse.headers", async ({ api }) => {
  await using stream = await api.open("/runs/stream", { body: { assistant_id: "plain", input: {} } });
  expect(stream.headers["content-type"]).toContain("text/event-stream");
  expect(stream.headers["cache-control"]).toContain("no-");
});

behaviour("http.sse.frame", async ({ api }) => {
  const frames = await api.stream("plain", { value: 1 });
  for (const frame of frames) {
    expect(frame.raw.split("\n").filter((line) => line.startsWith("data:"))).toHaveLength(1);
    expect(json(frame)).toBeDefined();
  }
});

behaviour("http.sse.injection", async ({ api }) => {
  const frames = await api.stream("functional", "a\r\nevent: evil\r\ndata: {}\n\n", { stream_mode: "values" });
  expect(names(frames)).not.toContain("evil");
  expect(of(frames, "values").at(-1)).toBe("a\r\nevent: evil\r\ndata: {}\n\n");
});

behaviour("http.post.without-body-length-zero", async ({ api }) => {
  const thread_id = await api.ranPlain();
  const answer = await api.raw(`/threads/${thread_id}/copy`, { method: "POST", headers: { "content-length": "0" } });
  expect(answer.status).toBe(200);
});
