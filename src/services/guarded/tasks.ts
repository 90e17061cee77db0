/** Tasks of A2A, as a user may use them: runs, and so what may be done to their threads. */
import { notFound } from "../../errors.ts";
import type { PushConfig } from "../../schemas/runs.ts";
import type { TaskPage, TasksService, TaskView } from "../contract.ts";
import type { Tasks } from "../tasks.ts";
import type { Access } from "./access.ts";

export class GuardedTasks implements TasksService {
  readonly #inner: Tasks;
  readonly #access: Access;

  constructor(inner: Tasks, access: Access) {
    this.#inner = inner;
    this.#access = access;
  }

  get canPush(): boolean {
    return this.#inner.canPush;
  }

  checkPush(url: string, field: string): void {
    this.#inner.checkPush(url, field);
  }

  async get(assistant_id: string, run_id: string): Promise<TaskView> {
    if (!this.#access.owns(run_id)) await this.#ask("threads:read", run_id);
    return this.#inner.get(assistant_id, run_id);
  }

  async list(assistant_id: string, page: TaskPage): ReturnType<TasksService["list"]> {
    const { thread_id, limit } = page;
    const { filter } = await this.#access.ask("threads:search", {
      fixed: { thread_id, limit },
      open: { metadata: {} },
    });
    return this.#inner.list(assistant_id, page, filter);
  }

  async cancel(assistant_id: string, run_id: string): Promise<void> {
    await this.#ask("threads:update", run_id, { action: "interrupt" });
    await this.#inner.cancel(assistant_id, run_id);
  }

  async setPush(assistant_id: string, run_id: string, config: PushConfig): Promise<void> {
    await this.#ask("threads:update", run_id);
    await this.#inner.setPush(assistant_id, run_id, config);
  }

  async deletePush(assistant_id: string, run_id: string, config_id: string): Promise<void> {
    await this.#ask("threads:update", run_id);
    await this.#inner.deletePush(assistant_id, run_id, config_id);
  }

  async #ask(event: "threads:read" | "threads:update", run_id: string, fixed = {}): Promise<void> {
    await this.#access.run(event, run_id, fixed, notFound(`Task ${run_id} not found`));
  }
}
