/** What `wait` answers of runs that went with their threads, for those who wait at another process and missed the word. */
import type { Json } from "../../executor/protocol.ts";
import { insertRows, prepared } from "../prepared.ts";
import type { Tx } from "../storage.ts";

const insertOutcome = insertRows("outcomes", ["run_id", "output", "ended_at"], (insert) =>
  insert.onConflict((conflict) => conflict.column("run_id").doNothing()),
);

/** Keeps the output of a run that ended at `now`, until it is swept. */
export async function keep(tx: Tx, run_id: string, output: Json, now: number): Promise<void> {
  await insertOutcome(tx, [{ run_id, output, ended_at: now }]);
}

const findOutcome = prepared<{ run_id: string }, { output: string }>((db, slots) =>
  db.selectFrom("outcomes").select("output").where("run_id", "=", slots.run_id),
);

/** The output that was kept; undefined when none is. */
export async function find(db: Tx, run_id: string): Promise<Json | undefined> {
  return (await findOutcome(db, { run_id })).rows[0]?.output;
}

/** Deletes those of runs that ended before. */
export async function sweep(tx: Tx, ended_before: number): Promise<void> {
  await tx.deleteFrom("outcomes").where("ended_at", "<", ended_before).execute();
}
