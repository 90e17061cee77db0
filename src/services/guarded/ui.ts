/** Components, as a user may load them: those of assistants that are the user's to read. Their files are code, the same for all. */
import type { UiBundle, UiFile } from "../../ui/bundles.ts";
import { assistantIdOf } from "../assistants.ts";
import type { UiService } from "../contract.ts";
import type { Access } from "./access.ts";

export class GuardedUi implements UiService {
  readonly #inner: UiService;
  readonly #access: Access;

  /** `inner` finds assistants as the user may. */
  constructor(inner: UiService, access: Access) {
    this.#inner = inner;
    this.#access = access;
  }

  async find(id: string): Promise<UiBundle> {
    await this.#access.ask("assistants:read", { fixed: { assistant_id: assistantIdOf(id) } });
    return this.#inner.find(id);
  }

  file(namespace: string, name: string): UiFile {
    return this.#inner.file(namespace, name);
  }
}
