/**
 * A network between one process and one service, to be broken at will: every server process has its own to PostgreSQL
 * and to Redis, so that one can be cut off while the others go on.
 */
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import type { Filter } from "./resp.ts";

/**
 * - `pass`: bytes go through, both ways
 * - `deaf`: as `pass`, but what Redis publishes does not reach its subscribers
 * - `refuse`: nobody listens; connections that are open stay
 * - `drop`: connections are accepted and stay, and whatever is sent, either way, is lost: a half-open network
 * - `pause`: bytes wait, and go on their way when the mode changes
 */
export type Mode = "pass" | "deaf" | "refuse" | "drop" | "pause";

interface Pair {
  readonly client: Socket;
  readonly service: Socket;
  readonly filter: Filter;
  /** Bytes were lost: nobody can make sense of what follows. */
  hasLost: boolean;
}

const asTheyCome: Filter = (chunk) => chunk;

/** `filter` makes the filter of one connection; only one that knows the protocol can be deaf. */
export async function startWire(target: number, filter: () => Filter = () => asTheyCome): Promise<Wire> {
  const wire = new Wire(target, filter);
  await wire.listen();
  return wire;
}

export class Wire implements AsyncDisposable {
  readonly #target: number;
  readonly #makeFilter: () => Filter;
  readonly #pairs = new Set<Pair>();
  #server: Server | undefined;
  #port = 0;
  #mode: Mode = "pass";

  constructor(target: number, filter: () => Filter) {
    this.#target = target;
    this.#makeFilter = filter;
  }

  get port(): number {
    return this.#port;
  }

  /** Connections that go through this proxy now. */
  get connections(): number {
    return this.#pairs.size;
  }

  /** Listens on the port it had before, or a free one. */
  async listen(): Promise<void> {
    this.#server = createServer({ allowHalfOpen: true }, (client) => this.#join(client));
    this.#server.listen(this.#port, "127.0.0.1");
    await once(this.#server, "listening");
    this.#port = (this.#server.address() as { port: number }).port;
  }

  async set(mode: Mode): Promise<void> {
    const before = this.#mode;
    this.#mode = mode;
    if (mode === "refuse" && before !== "refuse") this.#server?.close();
    if (mode !== "refuse" && before === "refuse") await this.listen();
    for (const pair of this.#pairs) this.#apply(pair);
  }

  /** Resets every open connection, as a router does that has forgotten them. Returns how many. */
  cut(): number {
    const count = this.#pairs.size;
    for (const pair of this.#pairs) this.#part(pair);
    return count;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server?.close();
    this.cut();
  }

  #join(client: Socket): void {
    const service = connect({ port: this.#target, host: "127.0.0.1", allowHalfOpen: true });
    const pair: Pair = { client, service, filter: this.#makeFilter(), hasLost: false };
    this.#pairs.add(pair);
    this.#link(pair, client, service);
    this.#link(pair, service, client);
    client.on("data", (chunk: Buffer) => this.#carry(pair, chunk, client, service));
    service.on("data", (chunk: Buffer) => {
      this.#carry(pair, pair.filter(chunk, this.#mode === "deaf"), service, client);
    });
    this.#apply(pair);
  }

  /** The end of one side is the end of the other, when what came before it has gone through. */
  #link(pair: Pair, from: Socket, to: Socket): void {
    from.setNoDelay(true);
    // An error is followed by `close`. A half-open network does not tell the other side.
    from.on("error", () => undefined);
    from.on("end", () => {
      if (this.#mode !== "drop") to.end();
    });
    from.on("close", (hadError) => {
      if (this.#mode === "drop") return;
      if (hadError || to.destroyed) this.#part(pair);
      else to.end();
    });
  }

  #apply(pair: Pair): void {
    const { client, service } = pair;
    const isOver = pair.hasLost || client.destroyed || service.destroyed;
    if (this.#mode !== "drop" && isOver) {
      this.#part(pair);
      return;
    }
    for (const socket of [client, service]) {
      if (this.#mode === "pause") socket.pause();
      else socket.resume();
    }
  }

  #part(pair: Pair): void {
    this.#pairs.delete(pair);
    for (const socket of [pair.client, pair.service]) if (!socket.destroyed) socket.resetAndDestroy();
  }

  #carry(pair: Pair, chunk: Buffer, from: Socket, to: Socket): void {
    if (this.#mode === "drop") pair.hasLost = true;
    else if (chunk.length > 0 && !to.destroyed && !to.write(chunk)) {
      from.pause();
      to.once("drain", () => {
        if (this.#mode !== "pause") from.resume();
      });
    }
  }
}
