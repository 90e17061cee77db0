/** Several processes seal one PostgreSQL anew at the same time, while others write. */
import { pino } from "pino";
import { beforeEach, expect, test } from "vitest";
import { resealer } from "../../src/engine/reseal.ts";
import { Cipher } from "../../src/storage/cipher.ts";
import * as encryption from "../../src/storage/tables/encryption.ts";
import * as runs from "../../src/storage/tables/runs.ts";
import { onPostgres, requirePostgres } from "../support/postgres.ts";
import { newRun, openTempPostgres, tempPostgres } from "./support.ts";

const OLD = Buffer.from("0123456789abcdef");
const NEW = Buffer.from("fedcba9876543210");
const COUNT = 400;

beforeEach(requirePostgres);

test("each value is sealed under the new key and none is lost, whoever does it", async () => {
  const uri = await tempPostgres();
  const old = new Cipher({ key: OLD, old: [] });
  const before = await openTempPostgres({ uri, sealing: { cipher: old, jsonKeys: [] } });
  const made = Array.from({ length: COUNT }, (_, index) => {
    const run = newRun({ thread_id: `${index}` });
    return { ...run, kwargs: { ...run.kwargs, input: { text: `${index}`.padEnd(500, "x") } } };
  });
  for (const run of made) await before.write((tx) => runs.insert(tx, run));
  await before.close();

  const cipher = new Cipher({ key: NEW, old: [OLD] });
  const lines: string[] = [];
  const logger = pino({}, { write: (line: string) => void lines.push(line) });
  const processes = await Promise.all(
    [0, 1, 2].map(() => openTempPostgres({ uri, sealing: { cipher, jsonKeys: [] } })),
  );
  const [writer] = processes;
  // The server's own writes of the same rows go on beside it.
  const writing = (async () => {
    for (const { run_id } of made.slice(0, 100)) {
      await writer?.write((tx) => runs.setCancel(tx, run_id, "interrupt", 1));
    }
  })();
  await Promise.all(
    processes.map(async (storage) => {
      const round = resealer(storage, cipher, logger);
      const isDone = async (): Promise<boolean> => {
        const keys = await storage.read((db) => encryption.keys(db));
        return keys.length === 1 && keys[0]?.sealed_all_at !== null;
      };
      while (!(await isDone())) await round();
      await round();
    }),
  );
  await writing;

  const alone = new Cipher({ key: NEW, old: [] });
  const rows = await onPostgres<{ run_id: string; kwargs: string }>(uri, "select run_id, kwargs from runs");
  expect(rows.length).toBe(COUNT);
  const opened = new Map(rows.map(({ run_id, kwargs }) => [run_id, alone.openText(kwargs)]));
  for (const { run_id, kwargs } of made) expect(opened.get(run_id)).toBe(JSON.stringify(kwargs));
  const keys = await onPostgres<{ key_id: string }>(uri, "select key_id from encryption_keys");
  expect(keys).toEqual([{ key_id: cipher.keyId }]);
  expect(lines.length).toBeGreaterThan(0);
  for (const storage of processes) await storage.close();
});

test("rows that others write in part, between two looks, are met all the same", async () => {
  const uri = await tempPostgres();
  const before = await openTempPostgres({ uri, sealing: { cipher: new Cipher({ key: OLD, old: [] }), jsonKeys: [] } });
  for (const index of Array.from({ length: 60 }).keys()) {
    await before.write((tx) => runs.insert(tx, newRun({ thread_id: `${index}` })));
  }
  await before.close();
  const storage = await openTempPostgres({
    uri,
    sealing: { cipher: new Cipher({ key: NEW, old: [OLD] }), jsonKeys: [] },
  });
  let place: encryption.Place | undefined = encryption.START;
  while (place !== undefined) {
    const from: encryption.Place = place;
    place = await storage.write((tx) => encryption.resealSome(tx, from, 20));
    // Each row comes to lie elsewhere, and its sealed values are not written.
    await onPostgres(uri, "update runs set updated_at = updated_at + 1");
  }
  const alone = new Cipher({ key: NEW, old: [] });
  const rows = await onPostgres<{ kwargs: string }>(uri, "select kwargs from runs");
  expect(rows.map(({ kwargs }) => alone.openText(kwargs)).filter((text) => text === undefined)).toEqual([]);
  await storage.close();
});
