/**
 * What an attempt has begun to say in events of streaming v2 and will not say the end of: its executor thread died, or was not waited
 * for. A client waits for the end of each message, tool and graph it has heard of.
 */
import type { Json, WireEvent } from "../../executor/protocol.ts";
import { dataOf, paramsText } from "../../schemas/protocol-events.ts";
import type { RunEvent } from "../events.ts";
import type { RunLog } from "../run-log.ts";
import { ROOT_LIFECYCLE } from "./frames.ts";

interface Begun {
  readonly name: string;
  readonly params: Json;
  /** The data of the event that ends it. */
  readonly end: object;
}

type Said = Readonly<Record<string, unknown>>;

const UNFINISHED = "The attempt ended before this was finished.";

/** The events that end what those of a log have begun; `at`: epoch milliseconds. */
export async function endsOfUnfinished(log: Pick<RunLog, "read">, at: number): Promise<readonly WireEvent[]> {
  const begun = new Map<string, Begun>();
  for (let after = -1; ; ) {
    const page = await log.read(after);
    const last = page.at(-1);
    if (last === undefined) return [...begun.values()].reverse().map((each) => endOf(each, at));
    for (const event of page) note(begun, event);
    after = last.id;
  }
}

/** What began last ends first. */
function note(begun: Map<string, Begun>, { event: name, data: params }: RunEvent): void {
  const [method = ""] = name.split("|", 1);
  if (!ENDING.has(method) || name === ROOT_LIFECYCLE) return;
  const said = JSON.parse(dataOf(params)) as Said;
  const [isOver, id, end] = partOf(said);
  const key = `${name}|${String(id)}`;
  if (isOver) begun.delete(key);
  else if (!begun.has(key)) begun.set(key, { name, params, end });
}

/** Methods that say of something that it begins, and later that it ends. */
const ENDING: ReadonlySet<string> = new Set(["@messages", "@tools", "@lifecycle"]);

/** Whether it is over with this event, what of its kind and namespace it is, and how to end it. */
function partOf({ event, id, run_id, tool_call_id, graph_name }: Said): readonly [boolean, unknown, object] {
  switch (event) {
    case "message-finish":
    case "error":
      return [true, run_id, {}];
    case "tool-started":
    case "tool-output-delta":
      return [false, tool_call_id, { event: "tool-error", tool_call_id, message: UNFINISHED }];
    case "tool-finished":
    case "tool-error":
      return [true, tool_call_id, {}];
    case "started":
      // Not failed: some clients take that of any graph for the end of the run.
      return [false, "", { event: "interrupted", graph_name }];
    case "completed":
    case "failed":
    case "interrupted":
      return [true, "", {}];
    default:
      return [false, run_id, { event: "error", message: UNFINISHED, id, run_id }];
  }
}

function endOf({ name, params, end }: Begun, at: number): WireEvent {
  const { namespace, node } = JSON.parse(params) as { readonly namespace: readonly string[]; readonly node?: string };
  return { event: name, data: paramsText(namespace, at, node, JSON.stringify(end)) };
}
