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
  const gone = new AbortController();
  const check = (): void => {
    if (!outgoing.writableEnded) gone.abort(new Error("the client is gone"));
  };
  outgoing.once("close", check);
  if (outgoing.destroyed || incoming.socket.destroyed) check();
  const onLeft = (then: () => void): void => {
    const left = (): void => {
      if (!endedByServer.has(incoming.socket)) then();
    };
    if (gone.signal.aborted) left();
    else gone.signal.addEventListener("abort", left, { once: true });
  };
  return { signal: gone.signal, onLeft };
}
