/**
 * The states in which runs have left their threads on this executor thread. A thread's next run usually comes to the same
 * executor thread, and to revive a long list of messages from storage costs more than the rest of a short run.
 *
 * An entry is only taken by who names the checkpoint that is the thread's latest in the database, so what another process
 * or a state update has done since is never missed.
 */
import type { CheckpointTuple } from "@langchain/langgraph-checkpoint";
import type { LangGraph } from "./langgraph.ts";
import { isUntouched, sizeOfList } from "./lists.ts";
import type { StoredForm } from "./saver.ts";

export interface KeptThread {
  /** The copy whose objects these are: a graph of another copy must not meet them. */
  readonly langgraph: LangGraph;
  readonly tuple: CheckpointTuple;
  readonly forms: ReadonlyMap<string, StoredForm>;
  /** Lists that the thread's values hold in parts, as they are in `forms`. */
  readonly inParts: ReadonlySet<string>;
}

/** Characters of JSON that the kept states would have; the live objects take some times more memory. */
const LIMIT = 8 * 1024 * 1024;

export class KeptThreads {
  /** Oldest first. */
  readonly #entries = new Map<string, KeptThread & { readonly size: number }>();
  #size = 0;

  keep(thread_id: string, entry: KeptThread): void {
    this.#drop(thread_id);
    const size = sizeOf(entry);
    this.#entries.set(thread_id, { ...entry, size });
    this.#size += size;
    for (const oldest of this.#entries.keys()) {
      if (this.#size <= LIMIT) return;
      this.#drop(oldest);
    }
  }

  /** The state of this thread at this checkpoint; undefined when it is not here, or was changed in passing. */
  find(thread_id: string, checkpoint_id: string, langgraph: LangGraph): KeptThread | undefined {
    const entry = this.#entries.get(thread_id);
    if (entry === undefined || entry.langgraph !== langgraph) return undefined;
    const isSound = entry.tuple.checkpoint.id === checkpoint_id && [...entry.forms.values()].every(isAsStored);
    if (isSound) return entry;
    this.#drop(thread_id);
    return undefined;
  }

  #drop(thread_id: string): void {
    this.#size -= this.#entries.get(thread_id)?.size ?? 0;
    this.#entries.delete(thread_id);
  }
}

const isAsStored = (form: StoredForm): boolean => !("list" in form) || isUntouched(form.list);

function sizeOf({ forms }: KeptThread): number {
  let size = 0;
  for (const form of forms.values()) {
    if ("inline" in form) size += form.inline.length;
    else if ("list" in form) size += sizeOfList(form.list);
  }
  return size;
}
