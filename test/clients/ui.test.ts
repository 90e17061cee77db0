/** Generative UI: a graph pushes components, and a page of another origin shows them. */
import { fileURLToPath } from "node:url";
import { type Browser, chromium } from "playwright-core";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { loadProject } from "../../src/config.ts";
import { useServer } from "../runs/support.ts";
import { project, put } from "../support/project.ts";
import { requireOrSkip } from "../support/requirements.ts";
import { startServer } from "../support/server.ts";
import { CHROMIUM, chromiumMissing, type Pages, servePages } from "./browser/browser.ts";

const PROJECT = fileURLToPath(new URL("./ui", import.meta.url));
const GRAPH = "weather-cards";
const api = useServer(() => ({ project: PROJECT }));
const askFor = (assistant: string, name: unknown) => api.http.post(`/ui/${assistant}`, { name });

describe("in a browser", () => {
  let pages: Pages;
  let browser: Browser;
  beforeAll(async () => {
    if (chromiumMissing() !== undefined) return;
    const page = fileURLToPath(new URL("./ui/page.jsx", import.meta.url));
    [pages, browser] = await Promise.all([
      servePages({ sdk: "@langchain/langgraph-sdk/react" }, page),
      chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-gpu"] }),
    ]);
  });
  beforeEach((context) => requireOrSkip("Chromium", chromiumMissing, context));
  afterAll(async () => {
    await browser?.close();
    await pages?.[Symbol.asyncDispose]();
  });

  test.each(["the graph's id", "the assistant's id"])("a pushed component is shown, named by %s", async (by) => {
    const [{ assistant_id }] = (await api.http.post("/assistants/search", { graph_id: GRAPH })).body as [Any];
    const assistant = by === "the graph's id" ? GRAPH : assistant_id;
    const page = await browser.newPage();
    const failures: Error[] = [];
    page.on("pageerror", (error) => failures.push(error));
    await page.goto(`${pages.url}/sdk?${new URLSearchParams({ api: api.url, assistant })}`);
    await page.getByRole("button", { name: "Ask" }).click();
    await page.getByRole("heading", { name: "Oslo" }).waitFor();
    // It shares the page's React and stream: it keeps state, and sees the conversation.
    await page.getByRole("button", { name: "More days" }).click();
    await page.getByText("2 days, 2 messages").waitFor();
    // Its own rules and Tailwind's.
    const styles = new Function(
      "card",
      "return ['borderTopWidth', 'paddingLeft'].map((name) => getComputedStyle(card)[name])",
    );
    await expect.poll(() => page.locator("section").evaluate(styles as () => string[])).toEqual(["7px", "16px"]);
    expect(failures).toEqual([]);
    await page.close();
  });
});

// biome-ignore lint/suspicious/noExplicitAny: what `expect` looks at.
type Any = any;

describe("over HTTP", () => {
  test("the fragment names files that are there, for ever", async () => {
    const fragment = await (
      await fetch(`${api.url}/ui/${GRAPH}`, {
        method: "POST",
        headers: { "content-type": "application/json", "x-forwarded-host": "agents.example, inner:8080" },
        body: JSON.stringify({ name: "weather" }),
      })
    ).text();
    const files = [...fragment.matchAll(/(?:src|href)="\/\/agents\.example(\/ui\/[^"]+)"/g)].map(([, path]) => path);
    expect(files).toHaveLength(2);
    for (const path of files) {
      const file = await fetch(`${api.url}${path}`);
      expect(file.status).toBe(200);
      expect(file.headers.get("cache-control")).toContain("immutable");
      expect(file.headers.get("content-type")).toContain(path?.endsWith(".css") ? "text/css" : "text/javascript");
    }
  });

  test("a name cannot break out of the fragment", async () => {
    const response = await fetch(`${api.url}/ui/${GRAPH}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ name: `"><img src=x onerror='alert(1)'>` }),
    });
    const text = await response.text();
    expect(text).not.toContain("<img");
    expect(text.match(/<(?!link|script|\/script)/g)).toBeNull();
  });

  test.each([
    ["an unknown assistant", "nobody", "weather", 404, /no ui for nobody/],
    ["an assistant that is not there", "0190a6a0-0000-7000-8000-000000000000", "weather", 404, /no ui for 0190a6a0/],
    ["no name", GRAPH, undefined, 422, /name/],
    ["a name that is no string", GRAPH, 7, 422, /name/],
    ["an empty name", GRAPH, "", 422, /name/],
  ])("%s is refused", async (_, assistant, name, status, detail) => {
    expect(await askFor(assistant, name)).toMatchObject({ status, body: { detail: expect.stringMatching(detail) } });
  });

  test.each(["ui-NOTHERE.js", "..%2f..%2fpackage.json", "constructor"])("there is no file %s", async (file) => {
    expect(await api.http.get(`/ui/${GRAPH}/${file}`)).toMatchObject({ status: 404 });
  });
});

const GRAPH_CODE = `import { Annotation, START, StateGraph } from "@langchain/langgraph";
export const graph = new StateGraph(Annotation.Root({})).addNode("n", () => ({})).addEdge(START, "n").compile();`;

describe("the project", () => {
  test("components that cannot be bundled are named, and the server does not start", async () => {
    await using broken = await project(
      { "a.mjs": GRAPH_CODE, "card.tsx": "export default { a: ) };" },
      { ui: { a: "./card.tsx" } },
    );
    await expect(startServer({ project: broken })).rejects.toThrow(
      /ui "a" \(.*card\.tsx\) cannot be bundled(?:.|\n)*card\.tsx:1:/,
    );
  });

  test("a file that is not there is named", async () => {
    await using missing = await project({ "a.mjs": GRAPH_CODE }, { ui: { a: "./gone.tsx" } });
    expect(() => loadProject(missing.dir, {})).toThrow(/ui "a": .*gone\.tsx does not exist/);
  });

  test("`http.disable_ui` serves none", async () => {
    await using off = await project(
      { "a.mjs": GRAPH_CODE, "card.tsx": "export default {};" },
      { ui: { a: "./card.tsx" }, http: { disable_ui: true } },
    );
    await using server = await startServer({ project: off });
    const response = await fetch(`${server.url}/ui/a`, {
      method: "POST",
      body: '{"name":"x"}',
      headers: { "content-type": "application/json" },
    });
    expect(response.status).toBe(404);
  });

  test("`skein dev` serves a changed component", async () => {
    await using mine = await project(
      { "a.mjs": GRAPH_CODE, "card.tsx": 'export default { a: () => "before" };' },
      { ui: { a: "./card.tsx" } },
    );
    await using server = await startServer({ project: mine, command: "dev" });
    const script = async (): Promise<string> => {
      const fragment = await fetch(`${server.url}/ui/a`, {
        method: "POST",
        body: '{"name":"a"}',
        headers: { "content-type": "application/json" },
      });
      const [, path] = /src="\/\/[^/]+([^"]+)"/.exec(await fragment.text()) ?? [];
      return (await fetch(`${server.url}${path}`)).text();
    };
    expect(await script()).toContain("before");
    await put(`${mine.dir}/card.tsx`, 'export default { a: () => "afterwards" };');
    await expect.poll(script, { timeout: 20_000 }).toContain("afterwards");
  });
});
