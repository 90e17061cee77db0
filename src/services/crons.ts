/** Crons: runs that are made again and again. Firing them is the scheduler's. */
import { v7 as uuid7 } from "uuid";
import { checkTiming, nextTick, type Timing } from "../engine/schedule.ts";
import { isoTime } from "../engine/wire.ts";
import { invalid, notFound } from "../errors.ts";
import {
  type Cron,
  type CronCreate,
  type CronFilter,
  type CronPatch,
  type CronSearch,
  payloadOf,
  type ThreadCronCreate,
} from "../schemas/crons.ts";
import { lockThread, shareAssistant } from "../storage/locks.ts";
import type { CronRecord, Storage, Tx } from "../storage/storage.ts";
import * as assistants from "../storage/tables/assistants.ts";
import * as crons from "../storage/tables/crons.ts";
import * as threads from "../storage/tables/threads.ts";
import type { Admit, MadeBy, Visible } from "./access.ts";
import { assistantIdOf } from "./assistants.ts";
import type { CronsService } from "./contract.ts";

export interface CronsOptions {
  readonly storage: Storage;
  /** A cron was made or changed: its next tick may come before all others. */
  readonly onChange: () => void;
  /** Throws when a webhook may not be called. Null: the server makes no webhook calls at all. */
  readonly checkWebhook: ((url: string) => void) | null;
}

export class Crons implements CronsService {
  readonly #options: CronsOptions;

  constructor(options: CronsOptions) {
    this.#options = options;
  }

  async create(request: CronCreate, by?: MadeBy): Promise<Cron> {
    return this.#create(null, request.on_run_completed ?? "delete", request, by);
  }

  async createOnThread(thread_id: string, request: ThreadCronCreate, by?: MadeBy): Promise<Cron> {
    return this.#create(thread_id, null, request, by);
  }

  async get(cron_id: string): Promise<Cron> {
    return toWire(found(await this.#options.storage.read((db) => crons.find(db, cron_id)), cron_id));
  }

  async patch(cron_id: string, change: CronPatch, admit?: Admit): Promise<Cron> {
    this.#checkWebhook(change.webhook);
    const { storage } = this.#options;
    const record = await storage.write(async (tx) => {
      await admit?.(tx);
      const changed = patched(found(await crons.findLocked(tx, cron_id), cron_id), change, storage.now());
      await crons.update(tx, changed);
      return changed;
    });
    this.#options.onChange();
    return toWire(record);
  }

  async delete(cron_id: string, admit?: Admit): Promise<void> {
    const deleted = await this.#options.storage.write(async (tx) => {
      await admit?.(tx);
      return crons.remove(tx, cron_id);
    });
    if (!deleted) throw notFound(`Cron ${cron_id} not found`);
  }

  async search(
    request: CronSearch,
    visible: Visible = null,
  ): Promise<{ items: readonly Partial<Cron>[]; total: number }> {
    const query = { ...request, ...byAssistantId(request), visible };
    const { items, total } = await this.#options.storage.read(async (db) => ({
      items: await crons.search(db, query),
      total: await crons.count(db, query),
    }));
    return { items: items.map((record) => pick(toWire(record), request.select)), total };
  }

  async count(filter: CronFilter, visible: Visible = null): Promise<number> {
    return this.#options.storage.read((db) => crons.count(db, { ...filter, ...byAssistantId(filter), visible }));
  }

  async #create(
    thread_id: string | null,
    on_run_completed: CronRecord["on_run_completed"],
    request: CronCreate | ThreadCronCreate,
    by: MadeBy | undefined,
  ): Promise<Cron> {
    const now = this.#options.storage.now();
    const timing = timingOf(request);
    checkTiming(timing);
    this.#checkWebhook(request.webhook);
    const enabled = request.enabled ?? true;
    const record: CronRecord = {
      cron_id: by?.id ?? uuid7(),
      assistant_id: assistantIdOf(request.assistant_id),
      thread_id,
      on_run_completed,
      ...timing,
      enabled,
      next_run_date: enabled ? nextTick(timing, now) : null,
      created_at: now,
      updated_at: now,
      metadata: request.metadata ?? {},
      payload: payloadOf(request),
      made_by: by && { user: by.user, stamp: by.stamp },
    };
    await this.#options.storage.write(async (tx) => {
      shareAssistant(tx, record.assistant_id);
      if (thread_id !== null) lockThread(tx, thread_id);
      await by?.admit?.(tx);
      await requireTargets(tx, record, request.assistant_id);
      await crons.insert(tx, record);
    });
    this.#options.onChange();
    return toWire(record);
  }

  #checkWebhook(webhook: string | null | undefined): void {
    if (webhook != null) this.#options.checkWebhook?.(webhook);
  }
}

async function requireTargets(tx: Tx, { assistant_id, thread_id }: CronRecord, asked: string): Promise<void> {
  if ((await assistants.find(tx, assistant_id)) === undefined) {
    throw notFound(`Assistant or graph "${asked}" not found`);
  }
  if (thread_id !== null && (await threads.findBare(tx, thread_id)) === undefined) {
    throw notFound(`Thread ${thread_id} not found`);
  }
}

const timingOf = ({ schedule, timezone, end_time }: CronCreate | ThreadCronCreate): Timing => ({
  schedule,
  timezone: timezone ?? null,
  end_time: end_time ?? null,
});

/** The cron with the change made. Throws when it cannot be. */
export function patched(cron: CronRecord, change: CronPatch, now: number): CronRecord {
  const { schedule, timezone, end_time, enabled, on_run_completed, metadata } = change;
  if (cron.thread_id !== null && on_run_completed === "delete") {
    throw invalid("on_run_completed", "this cron runs on a thread, which outlives its runs");
  }
  const changed: CronRecord = {
    ...cron,
    ...(schedule === undefined ? {} : { schedule }),
    ...(timezone === undefined ? {} : { timezone }),
    ...(end_time === undefined ? {} : { end_time }),
    ...(enabled === undefined ? {} : { enabled }),
    ...(on_run_completed === undefined || cron.thread_id !== null ? {} : { on_run_completed }),
    metadata: { ...cron.metadata, ...metadata },
    payload: { ...cron.payload, ...payloadOf({ ...change, multitask_strategy: undefined }) },
    updated_at: now,
  };
  checkTiming(changed);
  return { ...changed, next_run_date: nextAfterChange(cron, changed, now) };
}

/** A change that leaves the ticks alone must not lose one that is due just now. */
function nextAfterChange(before: CronRecord, after: CronRecord, now: number): number | null {
  if (!after.enabled) return null;
  const { next_run_date } = before;
  const sameTicks = before.schedule === after.schedule && before.timezone === after.timezone;
  if (!sameTicks || next_run_date === null) return nextTick(after, now);
  return after.end_time !== null && next_run_date >= after.end_time ? null : next_run_date;
}

function found(record: CronRecord | undefined, cron_id: string): CronRecord {
  if (record === undefined) throw notFound(`Cron ${cron_id} not found`);
  return record;
}

const byAssistantId = ({ assistant_id }: CronFilter): Pick<CronFilter, "assistant_id"> =>
  assistant_id == null ? {} : { assistant_id: assistantIdOf(assistant_id) };

function toWire({ made_by, ...record }: CronRecord): Cron {
  const { end_time, next_run_date, assistant_id } = record;
  return {
    ...record,
    end_time: end_time === null ? null : isoTime(end_time),
    next_run_date: next_run_date === null ? null : isoTime(next_run_date),
    payload: { assistant_id, ...record.payload },
    // Whoever made it, where users log in.
    user_id: made_by?.user.identity ?? null,
    created_at: isoTime(record.created_at),
    updated_at: isoTime(record.updated_at),
  };
}

function pick(cron: Cron, fields: CronSearch["select"]): Partial<Cron> {
  if (fields == null) return cron;
  return Object.fromEntries(fields.map((field) => [field, cron[field]]));
}
