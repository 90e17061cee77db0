/** Crons, as a user may use them. Their runs are made later in the user's name, so making one needs the right to make runs, too. */
import { v7 as uuid7 } from "uuid";
import {
  type Cron,
  type CronCreate,
  type CronFilter,
  type CronPatch,
  type CronSearch,
  payloadOf,
  type ThreadCronCreate,
} from "../../schemas/crons.ts";
import type { MadeBy } from "../access.ts";
import { assistantIdOf } from "../assistants.ts";
import type { CronsService } from "../contract.ts";
import type { Crons } from "../crons.ts";
import { type Access, addedTo, given, markOf, metadataIn, openMetadata } from "./access.ts";
import { admitOnThread, mayUse } from "./runs.ts";

export class GuardedCrons implements CronsService {
  readonly #inner: Crons;
  readonly #access: Access;

  constructor(inner: Crons, access: Access) {
    this.#inner = inner;
    this.#access = access;
  }

  async create(request: CronCreate): Promise<Cron> {
    const { metadata, by } = await this.#mayMake(null, request);
    return this.#inner.create({ ...request, metadata }, by);
  }

  async createOnThread(thread_id: string, request: ThreadCronCreate): Promise<Cron> {
    const { metadata, by } = await this.#mayMake(thread_id, request);
    return this.#inner.createOnThread(thread_id, { ...request, metadata }, by);
  }

  async get(cron_id: string): Promise<Cron> {
    await this.#access.cron("crons:read", cron_id);
    return this.#inner.get(cron_id);
  }

  async patch(cron_id: string, change: CronPatch): Promise<Cron> {
    const { schedule, metadata } = change;
    const fixed = given({ schedule, payload: Object.freeze(payloadOf(change)) });
    const { value, admit } = await this.#access.cron("crons:update", cron_id, fixed, openMetadata(metadata));
    return this.#inner.patch(cron_id, { ...change, metadata: metadataIn(value, "crons:update") }, admit);
  }

  async delete(cron_id: string): Promise<void> {
    const { admit } = await this.#access.cron("crons:delete", cron_id);
    await this.#inner.delete(cron_id, admit);
  }

  async search(request: CronSearch): ReturnType<CronsService["search"]> {
    const { metadata, filter } = await this.#maySearch(request);
    return this.#inner.search({ ...request, metadata }, filter);
  }

  async count(request: CronFilter): Promise<number> {
    const { metadata, filter } = await this.#maySearch(request);
    return this.#inner.count({ ...request, metadata }, filter);
  }

  async #maySearch(request: CronFilter & Partial<Pick<CronSearch, "limit" | "offset">>) {
    const { assistant_id, thread_id, enabled, limit, offset } = request;
    const { value, filter } = await this.#access.ask("crons:search", {
      fixed: given({ assistant_id, thread_id, enabled, limit, offset }),
      open: openMetadata(request.metadata),
    });
    return { metadata: metadataIn(value, "crons:search"), filter };
  }

  async #mayMake(
    thread_id: string | null,
    request: CronCreate | ThreadCronCreate,
  ): Promise<{ readonly metadata: Cron["metadata"]; readonly by: MadeBy }> {
    const access = this.#access;
    const cron_id = uuid7();
    const { schedule, end_time, assistant_id: named } = request;
    const assistant_id = assistantIdOf(named);
    const payload = Object.freeze(payloadOf(request));
    const cron = await access.ask("crons:create", {
      fixed: { cron_id, thread_id, assistant_id, schedule, end_time, payload, user_id: access.identity },
      open: openMetadata(request.metadata),
    });
    const metadata = metadataIn(cron.value, "crons:create");
    const run = await access.ask("threads:create_run", {
      fixed: {
        thread_id,
        assistant_id,
        run_id: null,
        status: "pending",
        multitask_strategy: payload.multitask_strategy ?? null,
        prevent_insert_if_inflight: payload.multitask_strategy === "reject",
        if_not_exists: null,
        after_seconds: null,
        kwargs: payload,
      },
      open: openMetadata(metadata),
    });
    const admitAssistant = await mayUse(access, named);
    const admitThread = thread_id === null ? undefined : admitOnThread(thread_id, run.filter, false);
    const stamp = { ...addedTo(request.metadata, run.value.metadata), ...markOf(access) };
    const admit: MadeBy["admit"] = async (db) => {
      await admitThread?.(db);
      await admitAssistant?.(db);
    };
    return { metadata, by: { user: access.user, id: cron_id, stamp, admit } };
  }
}
