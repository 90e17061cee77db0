/** What a caller with limited rights adds to what services do. Without it everything may be done to everything. */
import type { AuthUser } from "../schemas/auth.ts";
import type { MetadataFilter } from "../storage/filter.ts";
import type { Tx } from "../storage/storage.ts";

/** Throws when the caller may not see the thing, as if it was not there. Asked in the transaction that changes it. */
export type Admit = (db: Tx) => Promise<void>;

/** What may be seen; null: all. */
export type Visible = MetadataFilter | null;

/** By whom something is made that has runs, or is one. */
export interface MadeBy {
  readonly user: AuthUser;
  /** Metadata of a thread that comes to be with a run. */
  readonly stamp: Readonly<Record<string, unknown>>;
  /** The id that handlers were told. Absent: a new one. */
  readonly id?: string;
  /** Assistant and thread may be seen. Absent: that was asked before. */
  readonly admit?: Admit;
  /** The request as it came: a repetition is told by it, whatever handlers make of it. */
  readonly asked?: unknown;
}
