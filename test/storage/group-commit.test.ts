import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { sql } from "kysely";
import { expect, test } from "vitest";
import { openSqlite } from "../../src/storage/sqlite.ts";
import type { Storage } from "../../src/storage/storage.ts";
import * as runs from "../../src/storage/tables/runs.ts";
import { newRun, openTemp, tempDir } from "./support.ts";

const total = async (storage: Storage): Promise<number> => (await storage.read((db) => runs.countByStatus(db))).pending;

test("one work that throws takes back only itself", async () => {
  const storage = await openTemp();
  const works = ["good", "bad", "good"].map((kind) =>
    storage.write(async (tx) => {
      const run = await runs.insert(tx, newRun());
      if (kind === "bad") throw new Error("changed my mind");
      return run.run_id;
    }),
  );
  const results = await Promise.allSettled(works);
  expect(results.map((result) => result.status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
  expect(results[1]).toMatchObject({ reason: { message: "changed my mind" } });
  expect(await total(storage)).toBe(2);
});

test("an error of the database takes back only its work too", async () => {
  const storage = await openTemp();
  const run = newRun();
  const [first, twin, last] = await Promise.allSettled([
    storage.write((tx) => runs.insert(tx, run)),
    storage.write(async (tx) => {
      await runs.insert(tx, newRun());
      await runs.insert(tx, run);
    }),
    storage.write((tx) => runs.insert(tx, newRun())),
  ]);
  expect([first?.status, twin?.status, last?.status]).toEqual(["fulfilled", "rejected", "fulfilled"]);
  expect(await total(storage)).toBe(2);
});

test("a write waits a turn of the event loop for company, unless those before came alone", async () => {
  const storage = await openTemp();
  const order = async (writes: number): Promise<string[]> => {
    // Longer than writes are apart that count as coming one by one.
    await delay(5);
    const order: string[] = [];
    const turn = new Promise<void>((resolve) => setImmediate(resolve)).then(() => order.push("turn"));
    const work = (): Promise<number> => storage.write(async () => order.push("write"), { durable: false });
    await Promise.all([turn, ...Array.from({ length: writes }, work)]);
    return order;
  };
  await order(1);
  expect(await order(2)).toEqual(["write", "write", "turn"]);
  expect(await order(1)).toEqual(["turn", "write"]);
  expect(await order(1)).toEqual(["write", "turn"]);
});

test("readers never see what is not committed, and see it once the write has settled", async () => {
  const storage = await openTemp();
  const seen: number[] = [];
  const write = storage.write(async (tx) => {
    await runs.insert(tx, newRun());
    seen.push(await total(storage));
  });
  const neighbour = storage.write(async (tx) => {
    seen.push((await runs.countByStatus(tx)).pending);
    seen.push(await total(storage));
  });
  await Promise.all([write, neighbour]);
  expect(seen).toEqual([0, 1, 0]);
  expect(await total(storage)).toBe(1);
});

test("works of a batch run one after another", async () => {
  const storage = await openTemp();
  const steps: string[] = [];
  const work = (name: string) =>
    storage.write(async (tx) => {
      steps.push(`${name} starts`);
      await runs.countByStatus(tx);
      steps.push(`${name} ends`);
    });
  await Promise.all([work("a"), work("b")]);
  expect(steps).toEqual(["a starts", "a ends", "b starts", "b ends"]);
});

test("when the commit itself fails, everybody hears of it and the next write works", async () => {
  const storage = await openTemp();
  const bad = storage.write(async (tx) => {
    await runs.insert(tx, newRun());
    await sql`rollback`.execute(tx); // what SQLite does by itself when the disk is full
    throw new Error("disk full");
  });
  const victim = storage.write((tx) => runs.insert(tx, newRun()));
  await expect(bad).rejects.toThrow("disk full");
  await expect(victim).rejects.toThrow("disk full");
  await storage.write((tx) => runs.insert(tx, newRun()));
  expect(await total(storage)).toBe(1);
});

test("the reader cannot write", async () => {
  const storage = await openTemp();
  await expect(storage.read((db) => runs.insert(db, newRun()))).rejects.toThrow(/readonly/);
});

test("a parameter that libsql cannot bind is an error, not the end of the process", async () => {
  const storage = await openTemp();
  for (const value of [true, undefined, new Date()]) {
    await expect(storage.read((db) => sql`select ${sql.val(value)}`.execute(db))).rejects.toThrow(TypeError);
  }
});

test("close waits for writes under way and refuses later ones; the data is in one file", async () => {
  const dir = tempDir();
  const storage = await openSqlite({ dir });
  const write = storage.write((tx) => runs.insert(tx, newRun()));
  await storage.close();
  await write;
  await expect(storage.write((tx) => runs.insert(tx, newRun()))).rejects.toThrow(/closed/);
  await expect(storage.read((db) => runs.countByStatus(db))).rejects.toThrow(/closed/);
  const copy = tempDir();
  fs.copyFileSync(path.join(dir, "skein.db"), path.join(copy, "skein.db"));
  expect(await total(await openTemp(copy))).toBe(1);
});

test("what was acknowledged survives kill -9, and the folder is free again", async () => {
  const dir = tempDir();
  const child = spawn(process.execPath, ["--import", "tsx", path.join(import.meta.dirname, "support-writer.ts"), dir], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = await once(child.stdout, "data");
  await expect(openSqlite({ dir })).rejects.toThrow(/Another Skein process/);
  child.kill("SIGKILL");
  await once(child, "exit");
  const acknowledged = Number(String(line).trim().split("\n").at(-1));
  expect(acknowledged).toBeGreaterThan(0);
  expect(await total(await openTemp(dir))).toBeGreaterThanOrEqual(acknowledged);
}, 20_000);
