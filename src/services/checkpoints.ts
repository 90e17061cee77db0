/** Checkpoints as requests name them. */
import { notFound } from "../errors.ts";
import type { Tx } from "../storage/storage.ts";
import * as checkpoints from "../storage/tables/checkpoints.ts";

/** Who names a checkpoint must not be given another. A reference without an id means the latest, which is always there. */
export async function requireCheckpoint(
  db: Tx,
  thread_id: string,
  { checkpoint_id, checkpoint_ns }: { readonly checkpoint_id?: unknown; readonly checkpoint_ns?: unknown },
): Promise<void> {
  if (checkpoint_id == null) return;
  const key = { thread_id, checkpoint_ns: String(checkpoint_ns ?? ""), checkpoint_id: String(checkpoint_id) };
  if (await checkpoints.exists(db, key)) return;
  throw notFound(`Checkpoint ${key.checkpoint_id} of thread ${thread_id} not found`, "checkpoint");
}
