/** How a run is answered, whether on a thread or stateless: at once, as a stream, or when it is done. */
import { z } from "@hono/zod-openapi";
import { QueryCancelOnDisconnect, QueryText, queryWord } from "../schemas/query.ts";
import type { OnDisconnect, Run, StreamMode } from "../schemas/runs.ts";
import type { RunRequest } from "../services/contract.ts";
import { type Client, watchClient } from "./connections.ts";
import { requestOf } from "./request.ts";
import { type LongAnswer, sse, waitForJson } from "./respond.ts";
import type { HttpContext, Room } from "./types.ts";

/** A run as its URL names it: `thread_id` null on stateless paths. */
export interface Place {
  readonly thread_id: string | null;
  readonly run_id: string;
}

/** Contract: `Content-Location` is exactly this; clients cut the run's id out of it. */
export const runUrl = ({ thread_id, run_id }: Place): string =>
  thread_id === null ? `/runs/${run_id}` : `/threads/${thread_id}/runs/${run_id}`;

/** Query of streaming and waiting POSTs: the docs' samples put there what the contract has in the body. */
export const DisconnectQuery = z.object({
  on_disconnect: queryWord(["cancel", "continue"]),
  cancel_on_disconnect: QueryCancelOnDisconnect,
});

/** Whether the run should end with its client; the body's word counts before the query's. */
export function cancelsWithClient(
  body: { readonly on_disconnect?: z.infer<typeof OnDisconnect> | null | undefined },
  query: z.output<typeof DisconnectQuery>,
): boolean {
  const word = body.on_disconnect ?? query.on_disconnect;
  return word === undefined ? query.cancel_on_disconnect : word === "cancel";
}

/** Where a joining reader starts. */
export const ResumeQuery = { last_event_id: QueryText };
export const ResumeHeaders = z.object({
  "Last-Event-ID": z.string().optional().describe("Events after this one; `-1` or nothing for all."),
});

/** The index after which to send. Anything but an index (`-1`, the old `ms-seq` form) means from the start. */
export function resumeAfter(c: HttpContext, query: string | undefined): number {
  const id = c.req.header("last-event-id") ?? query ?? "";
  const index = /^\d+$/.test(id) ? Number(id) : -1;
  return Number.isSafeInteger(index) ? index : -1;
}

/** The run itself, at once. */
export function answerRun(c: HttpContext, place: Place, run: Run): Response {
  return c.json(run, 200, { "content-location": runUrl(place) });
}

interface Creation {
  readonly thread_id: string | null;
  readonly create: (from: RunRequest) => Promise<Run>;
  readonly cancelWithClient: boolean;
}

/** Creates a run, or finds the one that this request has made before, and streams its events. */
export async function createAndStream(room: Room, c: HttpContext, creation: Creation): Promise<Response> {
  const client = watchClient(c);
  const { run_id } = await creation.create(requestOf(c));
  const place = { thread_id: creation.thread_id, run_id };
  return stream(room, c, client, place, { after: -1, modes: null, cancelWithClient: creation.cancelWithClient });
}

/** Creates a run, or finds the one that this request has made before, and answers with its output. */
export async function createAndWait(room: Room, c: HttpContext, creation: Creation): Promise<Response> {
  const client = watchClient(c);
  const from = requestOf(c);
  const { run_id } = await creation.create(from);
  const place = { thread_id: creation.thread_id, run_id };
  // The run may be an old one, and gone.
  if (from.repeatable !== undefined) return joinAs(room, c, client, place, creation.cancelWithClient);
  if (creation.cancelWithClient) cancelWith(room, c, client, place);
  const output = room.services(c).runs.wait(place.thread_id, run_id, client.signal);
  return waitForJson(c, output, longAnswer(room, client, place, "join"));
}

interface Following {
  readonly after: number;
  readonly modes: readonly StreamMode[] | null;
  readonly cancelWithClient: boolean;
}

/** Streams the events of a run that exists. */
export function joinStream(room: Room, c: HttpContext, place: Place, following: Following): Promise<Response> {
  return stream(room, c, watchClient(c), place, following);
}

/** Answers with the output of a run that exists. */
export function join(room: Room, c: HttpContext, place: Place, cancelWithClient: boolean): Promise<Response> {
  return joinAs(room, c, watchClient(c), place, cancelWithClient);
}

async function joinAs(
  room: Room,
  c: HttpContext,
  client: Client,
  place: Place,
  cancelWithClient: boolean,
): Promise<Response> {
  const output = room.services(c).runs.wait(place.thread_id, place.run_id, client.signal);
  // A 404 must be known before the headers go. `wait` may outlive the row (a deleted run whose output is kept),
  // so its answer decides where the row is missing.
  const known = room
    .services(c)
    .runs.get(place.thread_id, place.run_id)
    .catch(() => output);
  await Promise.race([output, known]);
  if (cancelWithClient) cancelWith(room, c, client, place);
  return waitForJson(c, output, longAnswer(room, client, place, "join"));
}

async function stream(
  room: Room,
  c: HttpContext,
  client: Client,
  place: Place,
  { after, modes, cancelWithClient }: Following,
): Promise<Response> {
  const { signal } = client;
  const events = await room.services(c).runs.follow(place.thread_id, place.run_id, { after, modes, signal });
  if (cancelWithClient) cancelWith(room, c, client, place);
  return sse(c, events, longAnswer(room, client, place, "stream"));
}

function cancelWith(room: Room, c: HttpContext, client: Client, { run_id }: Place): void {
  const { runs } = room.services(c);
  client.onLeft(() => runs.cancelOnDisconnect(run_id));
}

/** `Location` is where a client that lost the connection asks again. */
function longAnswer(room: Room, client: Client, place: Place, again: "stream" | "join"): LongAnswer {
  const url = runUrl(place);
  return {
    headers: { "content-location": url, location: `${url}/${again}` },
    heartbeatMs: room.heartbeatMs,
    signal: client.signal,
    logger: room.logger,
  };
}
