/** Metadata of threads that have gone with their runs: whoever was allowed to see such a run may come again for a while. */
import { integer, text } from "../expressions.ts";
import { prepared } from "../prepared.ts";
import type { Tx } from "../storage.ts";

interface Departing {
  readonly run_id: string;
  readonly thread_id: string;
  readonly now: number;
}

const insertDeparting = prepared<Departing>((db, slots) =>
  db
    .insertInto("departed_runs")
    .columns(["run_id", "metadata", "ended_at"])
    .expression((eb) =>
      eb
        .selectFrom("threads")
        .select([text(slots.run_id).as("run_id"), "metadata", integer(slots.now).as("ended_at")])
        .where("thread_id", "=", slots.thread_id),
    )
    .onConflict((conflict) => conflict.column("run_id").doNothing()),
);

/** To be called while the thread is there. */
export async function keep(tx: Tx, departing: Departing): Promise<void> {
  await insertDeparting(tx, departing);
}

/** Deletes those of runs that ended before. */
export async function sweep(tx: Tx, ended_before: number): Promise<void> {
  await tx.deleteFrom("departed_runs").where("ended_at", "<", ended_before).execute();
}
