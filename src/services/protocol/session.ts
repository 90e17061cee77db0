/**
 * One connection of streaming v2 that carries both: commands in, their answers and the events of its subscriptions out.
 *
 * There is one pump. It follows the thread once, from the first subscription on, and sends each event once if any subscription wants
 * it; so everything on the connection is in the order of numbers, but for what a subscription gets of the time before it. That comes
 * between two batches of the pump, behind the answer to the subscription.
 */
import { SkeinError } from "../../errors.ts";
import type { Json } from "../../executor/protocol.ts";
import { invalidInput } from "../../schemas/issues.ts";
import { parseJson } from "../../schemas/json-text.ts";
import {
  type AgentTree,
  type ErrorCode,
  EventStreamRequest,
  malformed,
  ProtocolCommand,
  type ProtocolResponse,
  ReconnectParams,
  UnsubscribeParams,
} from "../../schemas/protocol.ts";
import { Bell } from "../../streaming/follow.ts";
import { type FilterRequest, filterOf, wantsName } from "../../streaming/protocol/filter.ts";
import type { FollowProtocolOptions } from "../../streaming/protocol/follow.ts";
import { envelope, GAP, type Gap, type ProtocolFrame, seqOfEventId } from "../../streaming/protocol/frames.ts";
import type { ProtocolSession, ProtocolSocket } from "../contract.ts";

export interface SessionOptions {
  readonly thread_id: string;
  readonly socket: ProtocolSocket;
  /** Resolves when runs that are made on the thread are made to be seen by streams. */
  readonly opened: () => Promise<void>;
  readonly follow: (
    reader: Pick<FollowProtocolOptions, "wants" | "since" | "through" | "signal">,
  ) => AsyncGenerator<readonly ProtocolFrame[], void>;
  readonly applied: () => Promise<number>;
  readonly tree: (run_id: string) => Promise<AgentTree>;
  readonly command: (command: ProtocolCommand) => Promise<ProtocolResponse>;
  readonly onError: (error: unknown) => void;
}

/** Reasons to close a connection. From 4400 on they are 4000 and the HTTP status that says the same. */
export const CLOSE = {
  error: [1011, "the server failed"],
  gone: [4404, "the thread was deleted"],
  slow: [4408, "this reader is too slow"],
  busy: [4429, "too many commands that are not answered yet"],
} as const satisfies Record<string, readonly [number, string]>;

const MOST_SUBSCRIPTIONS = 64;
/** Commands whose answers the network has not taken. */
const MOST_UNANSWERED = 256;
/** Of those, so many are carried out at a time: an answer may be a whole state, and a client need not read it. */
const MOST_AT_WORK = 16;
/** So much of a replay is kept in memory to say how long it is; of a longer one a subscription does not say it. */
const MOST_COUNTED = 1000;
const MOST_KEPT_CHARACTERS = 1 << 20;
/** Frames in one turn of the connection. */
const BATCH = 256;

/** Subscriptions that begin together. */
interface Beginning {
  readonly given: readonly (readonly [id: string, filter: FilterRequest])[];
  readonly since: number | null;
  /** Whether the length of the replay must be said, however long it is. */
  readonly mustCount: boolean;
  /** `replayed_events` is left out of a long one that need not be counted. */
  readonly answer: (replay: { readonly replayed_events?: number; readonly gap?: Gap }, through: number) => void;
}

interface NextBatch {
  /** Undefined until it is there. */
  step: IteratorResult<readonly ProtocolFrame[], void> | undefined;
}

class Subscription {
  readonly wants: (name: string) => boolean;
  /** It has all events up to this number. */
  readonly from: number;

  constructor(filter: FilterRequest, from: number) {
    this.wants = wantsName(filterOf(filter));
    this.from = from;
  }
}

export class Session implements ProtocolSession {
  readonly #options: SessionOptions;
  readonly #subscriptions = new Map<string, Subscription>();
  readonly #gone = new AbortController();
  readonly #bell = new Bell();
  /** What is to be done between two batches. */
  readonly #steps: (() => Promise<void>)[] = [];
  #count = 0;
  #unanswered = 0;
  readonly #commands: ProtocolCommand[] = [];
  #atWork = 0;
  #writing: Promise<void> = Promise.resolve();
  #working = false;
  #frames: AsyncGenerator<readonly ProtocolFrame[], void> | undefined;
  #next: NextBatch | undefined;
  /** The number up to which the pump has given what is wanted. */
  #position = -1;

  constructor(options: SessionOptions) {
    this.#options = options;
  }

  receive(text: string): void {
    this.#unanswered += 1;
    if (this.#unanswered > MOST_UNANSWERED) {
      this.#close(CLOSE.busy);
      return;
    }
    const command = read(text);
    if (command.type === "error") void this.#answer(command);
    else if (command.method === "subscription.subscribe") this.#step(command, () => this.#subscribe(command));
    else if (command.method === "subscription.unsubscribe") this.#step(command, () => this.#unsubscribe(command));
    else if (command.method === "subscription.reconnect") this.#step(command, () => this.#reconnect(command));
    else {
      this.#commands.push(command);
      this.#carryOut();
    }
  }

  closed(): void {
    this.#gone.abort();
    this.#commands.length = 0;
    this.#bell.ring();
  }

  /* ------------------------------------------------------------------------------ commands */

  /** Begins with commands that wait, as many as may be. */
  #carryOut(): void {
    if (this.#atWork >= MOST_AT_WORK) return;
    const command = this.#commands.shift();
    if (command === undefined) return;
    this.#atWork += 1;
    this.#options
      .command(command)
      .then((response) => this.#answer(response))
      .catch((error: unknown) => this.#fail(error))
      .finally(() => {
        this.#atWork -= 1;
        this.#carryOut();
      });
  }

  async #subscribe({ id, params }: ProtocolCommand): Promise<void> {
    const asked = EventStreamRequest.safeParse(params ?? {}, { reportInput: true });
    if (!asked.success) return this.#refuse(id, "invalid_argument", invalidInput(asked.error, "params").message);
    if (this.#subscriptions.size >= MOST_SUBSCRIPTIONS) {
      return this.#refuse(id, "invalid_argument", `there may be ${MOST_SUBSCRIPTIONS} subscriptions on a connection`);
    }
    const { channels, namespaces, depth, since } = asked.data;
    const filter: FilterRequest = { channels, namespaces, depth };
    this.#count += 1;
    const subscription_id = idOf(filter, this.#count);
    await this.#begin({
      given: [[subscription_id, filter]],
      since: since ?? null,
      mustCount: false,
      answer: (replay, through) => this.#succeed(id, { subscription_id, ...replay }, through),
    });
  }

  async #unsubscribe({ id, params }: ProtocolCommand): Promise<void> {
    const asked = UnsubscribeParams.safeParse(params ?? {}, { reportInput: true });
    if (!asked.success) return this.#refuse(id, "invalid_argument", invalidInput(asked.error, "params").message);
    const { subscription_id } = asked.data;
    if (!this.#subscriptions.delete(subscription_id)) {
      return this.#refuse(id, "no_such_subscription", `There is no subscription ${subscription_id}`);
    }
    this.#succeed(id, {}, await this.#options.applied());
  }

  /** Subscriptions of a connection that was lost, wherever that was: their ids say what they are. */
  async #reconnect({ id, params }: ProtocolCommand): Promise<void> {
    const asked = ReconnectParams.safeParse(params ?? {}, { reportInput: true });
    if (!asked.success) return this.#refuse(id, "invalid_argument", invalidInput(asked.error, "params").message);
    const { run_id, last_event_id, subscriptions } = asked.data;
    const given = subscriptions ?? [];
    const known = given.flatMap((name) => {
      const filter = filterOfId(name);
      return filter === undefined ? [] : [[name, filter] as const];
    });
    if (this.#subscriptions.size + known.length > MOST_SUBSCRIPTIONS) {
      return this.#refuse(id, "invalid_argument", `there may be ${MOST_SUBSCRIPTIONS} subscriptions on a connection`);
    }
    const tree = await this.#options.tree(run_id).catch((error: unknown) => error as Error);
    if (isForbidden(tree)) throw tree;
    if (tree instanceof Error) return this.#refuse(id, "no_such_run", tree.message);
    const since = last_event_id == null ? null : seqOfEventId(last_event_id);
    const begun: Beginning = {
      given: known,
      since: since ?? null,
      mustCount: true,
      answer: ({ replayed_events, gap }, through) => {
        const restored = known.length === given.length && since !== undefined && gap === undefined;
        const result = { restored, missed_events: replayed_events, current_namespaces: namespacesOf(tree), gap };
        this.#succeed(id, result, through);
      },
    };
    await this.#begin(begun);
  }

  /** Answers, then sends what is there for these subscriptions, then lets them join. */
  async #begin({ given, since, mustCount, answer }: Beginning): Promise<void> {
    await this.#options.opened();
    const through = Math.max(await this.#options.applied(), this.#position);
    const joining = given.map(
      ([id, filter]) => [id, new Subscription(filter, Math.max(through, since ?? -1))] as const,
    );
    const wants = (name: string): boolean => joining.some(([, subscription]) => subscription.wants(name));
    const { signal } = this.#gone;
    const past = { wants, since, through, signal };
    const replay = this.#options.follow(past);
    const first: ProtocolFrame[] = [];
    let isWhole = false;
    for (let kept = 0; !isWhole && first.length <= MOST_COUNTED && kept <= MOST_KEPT_CHARACTERS; ) {
      const step = await replay.next();
      if (step.done === true) isWhole = true;
      else {
        first.push(...step.value);
        kept += step.value.reduce((sum, { params }) => sum + params.length, 0);
      }
    }
    const gap = first.find(({ method }) => method === GAP);
    const told = gap === undefined ? {} : { gap: (JSON.parse(gap.params) as { readonly data: Gap }).data };
    const frames = isWhole ? first.length : mustCount ? await lengthOf(this.#options.follow(past)) : undefined;
    const length = frames === undefined ? {} : { replayed_events: frames - (gap === undefined ? 0 : 1) };
    answer({ ...length, ...told }, through);
    for (const [id, subscription] of joining) this.#subscriptions.set(id, subscription);
    await this.#send(first);
    if (!isWhole) for await (const frames of replay) await this.#send(frames);
    if (this.#frames === undefined) {
      this.#position = through;
      this.#frames = this.#options.follow({ wants: () => true, since: through, signal });
      this.#pull();
    }
  }

  #step(command: ProtocolCommand, work: () => Promise<void>): void {
    this.#steps.push(() => work().catch((error: unknown) => this.#failed(command, error)));
    this.#bell.ring();
    if (this.#working) return;
    this.#working = true;
    this.#work().catch((error: unknown) => this.#fail(error));
  }

  async #failed({ id }: ProtocolCommand, error: unknown): Promise<void> {
    if (isForbidden(error)) return this.#refuse(id, "permission_denied", error.message);
    this.#options.onError(error);
    this.#refuse(id, "unknown_error", "Internal Server Error");
  }

  /* ---------------------------------------------------------------------------------- pump */

  async #work(): Promise<void> {
    const { signal } = this.#gone;
    while (!signal.aborted) {
      const step = this.#steps.shift();
      if (step !== undefined) await step();
      else if (this.#next?.step !== undefined) {
        const { step: next } = this.#next;
        if (next.done === true) {
          // Ended by itself: nothing more will come on this thread.
          this.#close(CLOSE.gone);
          return;
        }
        await this.#deliver(next.value);
        this.#pull();
      } else await this.#bell.rung();
    }
    await this.#frames?.return();
  }

  /** Asks for the next batch; the bell rings when it is there. */
  #pull(): void {
    const next: NextBatch = { step: undefined };
    this.#next = next;
    this.#frames?.next().then(
      (step) => {
        next.step = step;
        this.#bell.ring();
      },
      (error: unknown) => this.#fail(error),
    );
  }

  async #deliver(frames: readonly ProtocolFrame[]): Promise<void> {
    const subscriptions = [...this.#subscriptions.values()];
    // What is lost is lost for all.
    const wanted = frames.filter(
      ({ seq, name, method }) =>
        method === GAP || subscriptions.some((subscription) => seq > subscription.from && subscription.wants(name)),
    );
    this.#position = Math.max(this.#position, frames.at(-1)?.seq ?? -1);
    await this.#send(wanted);
  }

  /* -------------------------------------------------------------------------------- writing */

  async #send(frames: readonly ProtocolFrame[]): Promise<void> {
    for (let at = 0; at < frames.length; at += BATCH) await this.#write(frames.slice(at, at + BATCH).map(envelope));
    const tooSlow = frames.some(({ method, params }) => method === GAP && params.includes('"reason":"slow"'));
    if (tooSlow) this.#close(CLOSE.slow);
  }

  /** Resolves when the connection has taken it; never rejects. */
  async #answer(response: ProtocolResponse): Promise<void> {
    await this.#write([JSON.stringify(response)]).catch((error: unknown) => this.#fail(error));
    this.#unanswered -= 1;
  }

  #succeed(id: number, result: Readonly<Record<string, unknown>>, applied_through_seq: number): void {
    const { thread_id } = this.#options;
    void this.#answer({ type: "success", id, result: { ...result }, meta: { thread_id, applied_through_seq } });
  }

  #refuse(id: number, error: ErrorCode, message: string): void {
    void this.#answer({ type: "error", id, error, message, meta: { thread_id: this.#options.thread_id } });
  }

  /** One after the other; resolves when the connection has taken it. */
  #write(texts: readonly Json[]): Promise<void> {
    this.#writing = this.#writing.then(() =>
      this.#gone.signal.aborted ? undefined : this.#options.socket.send(texts),
    );
    return this.#writing;
  }

  #fail(error: unknown): void {
    if (this.#gone.signal.aborted) return;
    this.#options.onError(error);
    this.#close(CLOSE.error);
  }

  #close([code, reason]: readonly [number, string]): void {
    if (this.#gone.signal.aborted) return;
    this.closed();
    this.#options.socket.close(code, reason);
  }
}

const isForbidden = (error: unknown): error is SkeinError => error instanceof SkeinError && error.kind === "forbidden";

async function lengthOf(replay: AsyncIterable<readonly ProtocolFrame[]>): Promise<number> {
  let length = 0;
  for await (const frames of replay) length += frames.length;
  return length;
}

/** A frame of text as the command it is, or as the answer to one that is none. */
function read(text: string): (ProtocolCommand & { readonly type?: undefined }) | ReturnType<typeof malformed> {
  let given: unknown;
  try {
    given = parseJson(text);
  } catch (error) {
    return malformed(undefined, (error as Error).message);
  }
  const command = ProtocolCommand.safeParse(given, { reportInput: true });
  if (!command.success) return malformed(given, invalidInput(command.error, "command").message);
  return { id: command.data.id, method: command.data.method, params: command.data.params };
}

/** A subscription's id says its filter, so that another process can take it up. */
const idOf = (filter: FilterRequest, count: number): string =>
  `${count}.${Buffer.from(JSON.stringify(filter)).toString("base64url")}`;

function filterOfId(id: string): FilterRequest | undefined {
  const [, text] = /^\d+\.([\w-]+)$/.exec(id) ?? [];
  if (text === undefined) return undefined;
  try {
    const filter = EventStreamRequest.safeParse(JSON.parse(Buffer.from(text, "base64url").toString()));
    return filter.success ? filter.data : undefined;
  } catch {
    // An id of ours is JSON inside; this is none.
    return undefined;
  }
}

/** The namespaces of all graphs of a run. */
const namespacesOf = ({ namespace, children = [] }: AgentTree): readonly (readonly string[])[] => [
  namespace,
  ...children.flatMap(namespacesOf),
];
