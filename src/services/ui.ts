/** Components for what graphs push to `ui`. */
import { notFound, SkeinError } from "../errors.ts";
import type { UiBundle, UiBundles, UiFile } from "../ui/bundles.ts";
import type { AssistantsService, UiService } from "./contract.ts";

export class Ui implements UiService {
  readonly #bundles: UiBundles;
  readonly #assistants: Pick<AssistantsService, "get">;

  constructor(bundles: UiBundles, assistants: Pick<AssistantsService, "get">) {
    this.#bundles = bundles;
    this.#assistants = assistants;
  }

  /** By its name in the configuration, or as an assistant of the graph of that name. */
  async find(id: string): Promise<UiBundle> {
    const bundle = this.#bundles.find(id) ?? this.#bundles.find(await this.#graphOf(id));
    if (bundle === undefined) throw notFound(`There is no ui for ${id}`);
    return bundle;
  }

  async #graphOf(assistant_id: string): Promise<string> {
    try {
      return (await this.#assistants.get(assistant_id)).graph_id;
    } catch (error) {
      if (error instanceof SkeinError && error.kind === "not_found")
        throw notFound(`There is no ui for ${assistant_id}`);
      throw error;
    }
  }

  file(namespace: string, name: string): UiFile {
    const file = this.#bundles.find(namespace)?.files.find((each) => each.name === name);
    if (file === undefined) throw notFound(`There is no file ${name} of a ui ${namespace}`);
    return file;
  }
}
