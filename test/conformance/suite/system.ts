/** Health, versions, metrics, documents. */
import { expect } from "vitest";
import { behaviour, refused } from "../kit.ts";

behaviour("system.ok", async ({ api }) => {
  expect(await api.get("/ok")).toEqual({ ok: true });
});

behaviour("system.ok.database", async ({ api }) => {
  for (const value of ["1", "true", "0", "false"]) {
    // Where processes share a database it may also say how they hear of each other.
    const { broker: _, ...rest } = await api.get(`/ok?check_db=${value}`);
    expect(rest).toEqual({ ok: true });
  }
});

behaviour("system.ok.bad-flag", async ({ api }) => {
  await refused(api.http.get("/ok?check_db=perhaps"), 422, "check_db");
});

behaviour("system.root", async ({ api }) => {
  expect((await api.http.get("/")).status).toBe(200);
});

behaviour("system.info", async ({ api }) => {
  const info = await api.get("/info");
  expect(info).toMatchObject({ version: expect.any(String), flags: expect.any(Object), metadata: expect.any(Object) });
  expect(info).toHaveProperty("langgraph_py_version");
});

behaviour("system.info.javascript", async ({ api }) => {
  expect((await api.get("/info")).langgraph_js_version).toMatch(/^\d+\.\d+/);
});

behaviour("system.metrics.prometheus", async ({ api }) => {
  const answer = await api.http.get("/metrics");
  expect(answer.headers.get("content-type")).toContain("text/plain");
  expect(answer.text).toMatch(/^# TYPE \w+ \w+$/m);
});

behaviour("system.metrics.json", async ({ api }) => {
  const answer = await api.http.get("/metrics?format=json");
  expect(answer.headers.get("content-type")).toContain("application/json");
  expect(answer.body).toEqual(expect.any(Object));
});

behaviour("system.metrics.bad-format", async ({ api }) => {
  await refused(api.http.get("/metrics?format=xml"), 422, "format");
});

behaviour("system.docs", async ({ api }) => {
  const answer = await api.http.get("/docs");
  expect(answer.headers.get("content-type")).toContain("text/html");
  expect(answer.text).toContain("<html");
});

behaviour("system.docs.alone", async ({ api }) => {
  const { text } = await api.http.get("/docs");
  expect(text).not.toMatch(/(src|href)="https?:/);
});

behaviour("system.openapi", async ({ api }) => {
  const document = await api.get("/openapi.json");
  expect(document.openapi).toMatch(/^3\.1/);
  expect(Object.keys(document.paths).length).toBeGreaterThan(20);
});

behaviour("system.openapi.references", async ({ api }) => {
  const { text } = await api.http.get("/openapi.json");
  const document = JSON.parse(text);
  const names = [...text.matchAll(/"#\/components\/schemas\/([^"]+)"/g)].map(([, name]) => name);
  expect(names.filter((name) => !(String(name) in document.components.schemas))).toEqual([]);
});
