/** Where a page of a search lies among all that matches; clients page by these headers. */
import { type HttpContext, setHeader } from "./types.ts";

/** Page size where the caller names none. Source: contract, `limit` of every search. */
export const DEFAULT_LIMIT = 10;

/** For `Answer.headers`. */
export const PAGE_HEADERS = {
  "X-Pagination-Total": "How many match in all.",
  "X-Pagination-Next": "Offset of the next page; absent on the last.",
};

interface Page {
  readonly offset?: number | null | undefined;
  readonly limit?: number | null | undefined;
}

export function paginate(c: HttpContext, { offset, limit }: Page, total: number): void {
  const next = (offset ?? 0) + (limit ?? DEFAULT_LIMIT);
  setHeader(c, "x-pagination-total", String(total));
  if (next < total) setHeader(c, "x-pagination-next", String(next));
}
