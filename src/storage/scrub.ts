/**
 * Wipes what SQLite leaves behind in pages that are in use. Deleted cells are overwritten (`secure_delete`), but when SQLite
 * moves cells between neighbouring pages, copies stay in the unused middle of a page until something is written there:
 *
 *   header · places of the cells · unused · cells
 *
 * Only that middle is touched, and only of pages that the file's own map says are part of a tree
 * (https://sqlite.org/fileformat.html#pointer_map_or_ptrmap_pages), so files without that map are left alone. Pages are read and
 * written through SQLite, inside a transaction: a crash or a backup sees either all of it or nothing.
 */
import type { LibsqlConnection } from "./libsql.ts";

/** SQLite locks bytes at this offset of a file; the page that holds them has no content. */
const LOCK_BYTES_AT = 0x40000000;
const RESERVED_BYTES_AT = 20;
const MAP_ENTRY_BYTES = 5;
const MAP_ROOT = 1;
const MAP_TREE = 5;
const ZEROS = Buffer.alloc(65_536);
const FIRST_HEADER_BYTES = 100;
const TREE_HEADER_BYTES: ReadonlyMap<number, number> = new Map([
  [0x02, 12],
  [0x05, 12],
  [0x0a, 8],
  [0x0d, 8],
]);

/** The page with its unused middle wiped; null when there is nothing to wipe, or it is not what a tree's page must be. */
export function wiped(page: Buffer, pgno: number): Buffer | null {
  const start = pgno === 1 ? FIRST_HEADER_BYTES : 0;
  const header = TREE_HEADER_BYTES.get(page[start] ?? 0);
  if (header === undefined) return null;
  const from = start + header + 2 * page.readUInt16BE(start + 3);
  // 0 stands for 65536.
  const to = page.readUInt16BE(start + 5) || 65_536;
  if (from >= to || to > page.length) return null;
  const zeros = ZEROS.subarray(0, to - from);
  if (page.subarray(from, to).equals(zeros)) return null;
  return Buffer.concat([page.subarray(0, from), zeros, page.subarray(to)]);
}

/** The map's page that has the entry of this page. Map pages are pages like others in number, so one comes again every so many. */
export function mapPageOf(pgno: number, pageSize: number): number {
  const perMap = Math.floor(pageSize / MAP_ENTRY_BYTES) + 1;
  const page = Math.floor((pgno - 2) / perMap) * perMap + 2;
  return page === LOCK_BYTES_AT / pageSize + 1 ? page + 1 : page;
}

/** Wipes pages from `first` on, `count` of them at most. To be called in a transaction; returns the page to go on with, or 1 at the end. */
export function scrub(connection: LibsqlConnection, first: number, count: number): number {
  // Bytes that an extension keeps for itself at the end of each page would shift the map.
  if (pageOf(connection, 1)?.[RESERVED_BYTES_AT] !== 0) return 1;
  const rows = connection
    .prepare("select pgno, data from sqlite_dbpage where pgno >= ? and pgno < ? order by pgno")
    .all([first, first + count]) as unknown as { readonly pgno: number; readonly data: Buffer }[];
  const maps = new Map<number, Buffer | undefined>();
  for (const { pgno, data } of rows) {
    if (!isTreePage(connection, maps, pgno, data.length)) continue;
    const clean = wiped(data, pgno);
    if (clean !== null) connection.prepare("update sqlite_dbpage set data = ? where pgno = ?").run([clean, pgno]);
  }
  return rows.length < count ? 1 : first + count;
}

function isTreePage(
  connection: LibsqlConnection,
  maps: Map<number, Buffer | undefined>,
  pgno: number,
  pageSize: number,
): boolean {
  if (pgno === 1) return true;
  const map = mapPageOf(pgno, pageSize);
  if (pgno <= map) return false;
  if (!maps.has(map)) maps.set(map, pageOf(connection, map));
  const type = maps.get(map)?.[(pgno - map - 1) * MAP_ENTRY_BYTES];
  return type === MAP_ROOT || type === MAP_TREE;
}

function pageOf(connection: LibsqlConnection, pgno: number): Buffer | undefined {
  const [row] = connection.prepare("select data from sqlite_dbpage where pgno = ?").all([pgno]);
  return row?.data as Buffer | undefined;
}
