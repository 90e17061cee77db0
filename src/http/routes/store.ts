/** The long-term store: items under namespaces. */
import { z } from "@hono/zod-openapi";
import { QueryOptionalBoolean } from "../../schemas/query.ts";
import {
  Item,
  ListNamespaceResponse,
  QueryNamespace,
  SearchItemsResponse,
  StoreDelete,
  StoreListNamespaces,
  StorePut,
  StoreSearch,
} from "../../schemas/store.ts";
import { jsonText } from "../respond.ts";
import { mount } from "../route.ts";
import type { Room } from "../types.ts";

const tag = "Store";
const done = { description: "Done.", schema: z.null() };

export function storeRoutes(room: Room): void {
  mount(
    room,
    {
      method: "put",
      path: "/store/items",
      id: "put_item",
      tag,
      summary: "Store or update an item",
      body: { schema: StorePut, rule: "required" },
      answer: done,
      empty: "always",
      errors: [413, 422, 503],
    },
    async ({ body }, c) => {
      await room.services(c).store.put(body);
      return c.body(null, 204);
    },
  );

  mount(
    room,
    {
      method: "get",
      path: "/store/items",
      id: "get_item",
      tag,
      summary: "Get an item",
      query: z.object({
        namespace: QueryNamespace,
        key: z.preprocess((value) => [value].flat().at(-1), z.string()).openapi({ type: "string" }),
        refresh_ttl: QueryOptionalBoolean,
      }),
      answer: { description: "The item; null when there is none.", schema: Item.nullable() },
      errors: [422],
    },
    async ({ query: { namespace, key, refresh_ttl } }, c) =>
      jsonText(c, await room.services(c).store.get(namespace, key, refresh_ttl)),
  );

  mount(
    room,
    {
      method: "delete",
      path: "/store/items",
      id: "delete_item",
      tag,
      summary: "Delete an item",
      body: { schema: StoreDelete, rule: "required" },
      answer: done,
      empty: "always",
      errors: [422],
    },
    async ({ body }, c) => {
      await room.services(c).store.delete(body);
      return c.body(null, 204);
    },
  );

  mount(
    room,
    {
      method: "post",
      path: "/store/items/search",
      id: "search_items",
      tag,
      summary: "Search items",
      description: "Last updated first; with a query and an index, by likeness to the query.",
      body: { schema: StoreSearch, rule: "optional" },
      answer: { description: "A page of items.", schema: SearchItemsResponse },
      errors: [422, 503],
    },
    async ({ body }, c) => jsonText(c, `{"items":${await room.services(c).store.search(body)}}`),
  );

  mount(
    room,
    {
      method: "post",
      path: "/store/namespaces",
      id: "list_namespaces",
      tag,
      summary: "List namespaces",
      body: { schema: StoreListNamespaces, rule: "optional" },
      answer: { description: "Namespaces in use.", schema: ListNamespaceResponse },
      errors: [422],
    },
    async ({ body }, c) => c.json({ namespaces: await room.services(c).store.namespaces(body) }),
  );
}
