/**
 * Events of streaming v2 as they go to a client, and how they are numbered.
 *
 * `seq` is the place of the run on its thread plus the event's index in the run. Places are microseconds and an event takes longer
 * than one to make, so the numbers of a run stay below those of the next. They are stored with the events: the same on any process,
 * and after a restart.
 */
import type { Json } from "../../executor/protocol.ts";
import { paramsText, protocolName } from "../../schemas/protocol-events.ts";

export interface ProtocolFrame {
  readonly seq: number;
  /** Unique for the life of the thread. */
  readonly event_id: string;
  /** One of several frames that one event of a run became. They share a `seq`, so who has seen that may have missed others of it. */
  readonly isPart?: true;
  readonly method: string;
  /** As in the log (`protocolName`); a filter decides by it. */
  readonly name: string;
  /** JSON text. */
  readonly params: Json;
}

/** A frame as the text of an event on the wire. Source: protocol `Event`. */
export const envelope = ({ seq, event_id, method, params }: ProtocolFrame): Json =>
  `{"type":"event","event_id":"${event_id}","seq":${seq},"method":"${method}","params":${params}}`;

const ATTEMPT = 2 ** 32;
/** Events that an attempt may have before its numbers run into the next one's. */
const PER_ATTEMPT = 2 ** 20;

/**
 * The number of an event on its thread. Later attempts of logs that are not kept begin at multiples of 2^32 (`firstOfAttempt`); they
 * are put closer together, or numbers would run hours ahead of the clock.
 */
export const seqOf = (place: number, index: number): number =>
  index < ATTEMPT ? place + index : place + Math.floor(index / ATTEMPT) * PER_ATTEMPT + (index % ATTEMPT);

/** The index after which events have a greater number than `since`, for a log whose indexes have no gaps. */
export const indexAfter = (place: number, since: number): number => Math.max(since - place, -1);

export const eventId = (place: number, index: number): string => `${place}-${index}`;

/** An id that says it was made of what the server knows, as clients look for it at the root's beginning and end. */
export const rootEventId = (run_id: string, place: number, index: number): string =>
  `synth:${run_id}:${eventId(place, index)}`;

/** The number of the event that has this id; undefined for one that is not ours. */
export function seqOfEventId(event_id: string): number | undefined {
  const [, place, index] = /^(?:synth:[^:]+:)?(\d{1,16})-(\d{1,15})(?:\.\d+)?$/.exec(event_id) ?? [];
  return place === undefined || index === undefined ? undefined : seqOf(Number(place), Number(index));
}

/** Name of the root's lifecycle events. */
export const ROOT_LIFECYCLE = protocolName("lifecycle", []);

/** What the root's end needs. */
export interface RootEnd {
  readonly run_id: string;
  readonly place: number;
  readonly index: number;
  readonly graph_name: string;
  /** Epoch milliseconds. */
  readonly at: number;
  /** Members of `data` beside the graph's name: `event`, `error` … */
  readonly data: Readonly<Record<string, unknown>>;
}

/** The event that says how a run ended. No log has it: it has the index behind the log's last. */
export function rootEnd({ run_id, place, index, graph_name, at, data }: RootEnd): ProtocolFrame {
  return {
    seq: seqOf(place, index),
    event_id: rootEventId(run_id, place, index),
    method: "lifecycle",
    name: ROOT_LIFECYCLE,
    params: paramsText([], at, undefined, JSON.stringify({ ...data, graph_name })),
  };
}

/** Method of the event that says that others before it cannot be had. An extension: clients ignore methods they do not know. */
export const GAP = "gap";

export interface Gap {
  /** The reader's last number. */
  readonly after: number;
  /** From this number on everything follows. */
  readonly resumes_at: number;
  readonly reason: "expired" | "slow";
}

/** Told to every reader, whatever it asked for. */
export function gapFrame(gap: Gap, at: number): ProtocolFrame {
  return {
    seq: gap.resumes_at - 1,
    event_id: `synth:gap:${gap.after}-${gap.resumes_at}`,
    method: GAP,
    name: `@${GAP}`,
    params: paramsText([], at, undefined, JSON.stringify(gap)),
  };
}
