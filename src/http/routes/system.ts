/** Is it up, what is it, how is it doing, and what can it do. */
import { z } from "@hono/zod-openapi";
import { JsonObject } from "../../schemas/common.ts";
import { QueryBoolean, queryWord } from "../../schemas/query.ts";
import { DOCS_PAGE } from "../docs-page.ts";
import { jsonText } from "../respond.ts";
import { mount } from "../route.ts";
import type { App, HttpSettings, Room } from "../types.ts";
import { withAuth } from "../with-auth.ts";

const tag = "System";
/** Takes `true` and `false` as well as the numbers that clients know. */
const CheckDatabase = QueryBoolean.openapi({
  type: "integer",
  enum: [0, 1],
  default: 0,
  description: "Ask the database too.",
});
const Ok = z
  .object({
    ok: z.literal(true),
    broker: z
      .enum(["none", "connected", "unreachable"])
      .optional()
      .describe(
        "How this process hears of others, where there may be others. Without it, runs go on and are heard of later.",
      ),
  })
  .openapi("Ok");

export function systemRoutes(room: Room, settings: HttpSettings): void {
  const { logger, system } = room;

  mount(
    room,
    {
      method: "get",
      path: "/ok",
      id: "health",
      tag,
      summary: "Is the server up",
      query: z.object({ check_db: CheckDatabase }),
      answer: { description: "It is.", schema: Ok },
      errors: [422, 500],
    },
    async ({ query: { check_db } }, c) => {
      if (!check_db) return c.json({ ok: true });
      try {
        await system.checkDatabase();
        return c.json({ ok: true, ...system.broker() });
      } catch (err) {
        logger.error({ err }, "the database does not answer");
        return c.json({ detail: "The database does not answer" }, 500);
      }
    },
  );

  if (!settings.disabled.has("meta")) metaRoutes(room, settings);
}

/** What the server is and does; `/ok` is there in any case. */
function metaRoutes(room: Room, settings: HttpSettings): void {
  const { app, system } = room;

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
    (_, c) => c.json(system.info()),
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
      answer: { description: "Prometheus text, or JSON.", schema: z.string(), type: "text/plain", orJson: JsonObject },
      errors: [422],
    },
    async ({ query: { format } }, c) => {
      if (format === "json") return c.json(await system.metricsJson());
      const text = await system.metricsText();
      return c.body(text, 200, { "content-type": "text/plain; version=0.0.4; charset=utf-8" });
    },
  );

  mount(
    room,
    {
      method: "get",
      path: "/docs",
      id: "docs",
      tag,
      summary: "This API as a page",
      answer: { description: "HTML that loads nothing from elsewhere.", schema: z.string(), type: "text/html" },
      errors: [],
    },
    (_, c) => c.html(DOCS_PAGE),
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
}

function openApiDocument(app: App, { version, mode, mountPrefix, auth }: HttpSettings) {
  const document = app.getOpenAPI31Document({
    openapi: "3.1.0",
    ...(mountPrefix === "" ? {} : { servers: [{ url: mountPrefix }] }),
    info: { title: "Skein", version, description: `An open Agent Server for LangGraph.js (${mode}).` },
  });
  return auth == null ? document : withAuth(document, auth);
}
