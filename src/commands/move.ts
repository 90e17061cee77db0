/** `skein move`: takes a database to another place: an embedded file to PostgreSQL, and back. */
import { ConfigError } from "../config.ts";
import { copyAll, MoveFailed, type Summary } from "../storage/move.ts";
import { endOf, nameOf, withSource, withTarget } from "../storage/move-ends.ts";
import { StorageRefused } from "../storage/refused.ts";
import { table } from "../text-table.ts";

export interface MoveFlags {
  /** A folder with `skein.db`, that file, or a PostgreSQL URI. */
  readonly from: string;
  readonly to: string;
  readonly json?: boolean;
}

/** Moves, says what it has moved, and returns the exit code. Rejects when it cannot; then the target is as empty as before. */
export async function move(flags: MoveFlags, print: (text: string) => void): Promise<number> {
  const [from, to] = [endOf(flags.from), endOf(flags.to)];
  const names = { from: nameOf(from), to: nameOf(to) };
  if (names.from === names.to) throw new ConfigError(`--from and --to are both ${names.from}`);
  try {
    const tables = await withSource(from, (source) => withTarget(to, (target) => copyAll(source, target)));
    print(flags.json === true ? JSON.stringify({ ...names, tables }, null, 2) : report(names, tables));
    return 0;
  } catch (error) {
    if (error instanceof MoveFailed) throw new StorageRefused(`Nothing was moved. ${error.message}`, { cause: error });
    throw error;
  }
}

function report({ from, to }: { from: string; to: string }, tables: readonly Summary[]): string {
  const rows = tables.map(({ table, rows, checksum }) => [table, rows, checksum.slice(0, 12)]);
  const total = tables.reduce((all, { rows }) => all + rows, 0);
  return [
    `${from} → ${to}`,
    "",
    ...table([["table", "rows", "checksum"], ...rows], [1]),
    "",
    `${total} rows moved; counts and checksums are the same on both sides. The source is as it was.`,
  ].join("\n");
}
