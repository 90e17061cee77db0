/** Who hung up: the client, or we ourselves while shutting down? A run must not be cancelled for the latter. */
import type { Socket } from "node:net";
import type { HttpContext } from "./types.ts";

const endedByServer = new WeakSet<Socket>();

/** To be called before the server destroys a connection that is still in use. */
export function markEndedByServer(socket: Socket): void {
  endedByServer.add(socket);
}

/** The client of one request, as far as it matters whether it is still there. */
export interface Client {
  /** Fires when the connection ends before the answer does, whoever ended it. */
  readonly signal: AbortSignal;
  /** Runs `then` when the client itself left early; at once if it already has. */
  onLeft(then: () => void): void;
}

/** Watches from before the first await, so that a client which leaves meanwhile is not missed. */
export function watchClient(c: HttpContext): Client {
  const { outgoing, incoming } = c.env;
  if (outgoing === undefined || incoming === undefined) return watchRequest(c);
  const gone = new AbortController();
  const check = (): void => {
    if (!outgoing.writableEnded) gone.abort(goneError());
  };
  outgoing.once("close", check);
  if (outgoing.destroyed || incoming.socket.destroyed) check();
  return clientOf(gone.signal, () => endedByServer.has(incoming.socket));
}

/** The client of a request that came by `fetch`: it leaves by its signal, or by no longer reading the answer. */
function watchRequest(c: HttpContext): Client {
  const gone = new AbortController();
  c.set("gone", gone);
  const { signal } = c.req.raw;
  const leave = (): void => gone.abort(goneError());
  if (signal.aborted) leave();
  else signal.addEventListener("abort", leave, { once: true });
  return clientOf(gone.signal, () => c.env.answers?.isCut === true);
}

const goneError = (): Error => new Error("the client is gone");

function clientOf(signal: AbortSignal, endedByUs: () => boolean): Client {
  const onLeft = (then: () => void): void => {
    const left = (): void => {
      if (!endedByUs()) then();
    };
    if (signal.aborted) left();
    else signal.addEventListener("abort", left, { once: true });
  };
  return { signal, onLeft };
}
