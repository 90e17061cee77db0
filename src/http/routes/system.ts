/** Is it up, what is it, how is it doing, and what can it do. */
import { z } from "@hono/zod-openapi";
import { JsonObject } from "../../schemas/common.ts";
import { QueryBoolean, queryWord } from "../../schemas/query.ts";
import { DOCS_PAGE } from "../docs-page.ts";
import { jsonText } from "../respond.ts";
import { mount } from "../route.ts";
import type { App, HttpSettings, Room } from "../types.ts";

const tag = "System";
const Ok = z.object({ ok: z.literal(true) }).openapi("Ok");

export function systemRoutes(room: Room, settings: HttpSettings): void {
  const { app, logger, services } = room;

  mount(
    room,
    {
      method: "get",
      path: "/ok",
      id: "health",
      tag,
      summary: "Is the server up",
      query: z.object({ check_db: QueryBoolean.openapi({ description: "Ask the database too." }) }),
      answer: { description: "It is.", schema: Ok },
      errors: [422, 500],
    },
    async ({ query: { check_db } }, c) => {
      if (!check_db) return c.json({ ok: true });
      try {
        await services.system.checkDatabase();
        return c.json({ ok: true });
      } catch (err) {
        logger.error({ err }, "the database does not answer");
        return c.json({ detail: "The database does not answer" }, 500);
      }
    },
  );

  mount(
    room,
    {
      method: "get",
      path: "/info",
      id: "server_info",
      tag,
      summary: "Versions and abilities of the server",
      answer: { description: "About this server.", schema: JsonObject },
      errors: [],
    },
    (_, c) => c.json(services.system.info()),
  );

  mount(
    room,
    {
      method: "get",
      path: "/metrics",
      id: "server_metrics",
      tag,
      summary: "Metrics",
      query: z.object({ format: queryWord(["prometheus", "json"]).openapi({ default: "prometheus" }) }),
      answer: { description: "Prometheus text, or JSON.", schema: z.string(), type: "text/plain" },
      errors: [422],
    },
    async ({ query: { format } }, c) => {
      if (format === "json") return c.json(await services.system.metricsJson());
      const text = await services.system.metricsText();
      return c.body(text, 200, { "content-type": "text/plain; version=0.0.4; charset=utf-8" });
    },
  );

  unlisted(app, settings);
}

/** Routes that are about the API rather than part of it. */
function unlisted(app: App, settings: HttpSettings): void {
  app.get("/", (c) => {
    c.set("route", "/");
    return c.json({ ok: true });
  });

  // Made on first use: by then every room has added its operations.
  let document: string | null = null;
  app.get("/openapi.json", (c) => {
    c.set("route", "/openapi.json");
    document ??= JSON.stringify(openApiDocument(app, settings));
    return jsonText(c, document);
  });

  app.get("/docs", (c) => {
    c.set("route", "/docs");
    return c.html(DOCS_PAGE);
  });
}

function openApiDocument(app: App, { version, mode }: HttpSettings) {
  return app.getOpenAPI31Document({
    openapi: "3.1.0",
    info: { title: "Skein", version, description: `An open Agent Server for LangGraph.js (${mode}).` },
  });
}
