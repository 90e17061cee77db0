/** What `LoadExternalComponent` asks for: a fragment of HTML, and the files it names. */
import { z } from "@hono/zod-openapi";
import type { UiBundle } from "../../ui/bundles.ts";
import { mount } from "../route.ts";
import type { HttpContext, HttpSettings, Room } from "../types.ts";

const tag = "System";
const UiComponent = z.object({ name: z.string().min(1).describe("Name of the component.") }).openapi("UiComponent");
/** The name has a hash of the contents in it. */
const FOR_EVER = "public, max-age=31536000, immutable";

export function uiRoutes(room: Room, { mountPrefix }: HttpSettings): void {
  mount(
    room,
    {
      method: "post",
      path: "/ui/{assistant_id}",
      id: "get_ui_component",
      tag,
      summary: "HTML that loads a component of the assistant's ui",
      params: z.object({ assistant_id: z.string() }),
      body: { schema: UiComponent, rule: "required" },
      answer: { description: "A fragment of HTML.", schema: z.string(), type: "text/html" },
      errors: [404, 422],
    },
    async ({ params: { assistant_id }, body: { name } }, c) =>
      c.html(fragment(await room.services(c).ui.find(assistant_id), name, `${hostOf(c)}${mountPrefix}`)),
  );

  mount(
    room,
    {
      method: "get",
      path: "/ui/{assistant_id}/{file}",
      id: "get_ui_file",
      tag,
      summary: "A script or a style sheet of a ui",
      params: z.object({ assistant_id: z.string(), file: z.string() }),
      answer: { description: "The file.", schema: z.string(), type: "text/javascript" },
      errors: [404],
    },
    ({ params: { assistant_id, file } }, c) => {
      const { type, contents } = room.services(c).ui.file(assistant_id, file);
      return c.body(Uint8Array.from(contents), 200, { "content-type": type, "cache-control": FOR_EVER });
    },
  );
}

/** As the client's browser names this server. */
const hostOf = (c: HttpContext): string =>
  c.req.header("x-forwarded-host")?.split(",")[0]?.trim() || (c.req.header("host") ?? "localhost");

/** The client puts the id of its shadow root in the place of the first `{{shadowRootId}}`, and the browser does the rest. */
export function fragment({ namespace, global, files }: UiBundle, name: string, base: string): string {
  const urlOf = (file: string): string => attribute(`//${base}/ui/${encodeURIComponent(namespace)}/${file}`);
  const styles = files.filter(({ type }) => type === "text/css");
  const scripts = files.filter(({ type }) => type === "text/javascript");
  const onload = attribute(`${global}.render(${JSON.stringify(name)}, "{{shadowRootId}}")`);
  return [
    ...styles.map((file) => `<link rel="stylesheet" href="${urlOf(file.name)}">`),
    ...scripts.map((file) => `<script src="${urlOf(file.name)}" onload="${onload}"></script>`),
  ].join("\n");
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  '"': "&quot;",
  "'": "&#39;",
  "<": "&lt;",
  ">": "&gt;",
};
const attribute = (text: string): string => text.replaceAll(/[&"'<>]/g, (sign) => ENTITIES[sign] ?? sign);
