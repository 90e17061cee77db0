/** A network between a client and the server that can be cut. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

export class Network implements AsyncDisposable {
  readonly url: string;
  readonly #server: Server;
  readonly #sockets: Set<Socket>;
  /** Connections made so far. */
  readonly #count: () => number;

  private constructor(server: Server, sockets: Set<Socket>, count: () => number) {
    this.#server = server;
    this.#sockets = sockets;
    this.#count = count;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  static async to(url: string): Promise<Network> {
    const { hostname, port } = new URL(url);
    const sockets = new Set<Socket>();
    let count = 0;
    const server = createServer((near) => {
      count += 1;
      const far = connect(Number(port), hostname);
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const) {
        sockets.add(one);
        one.on("error", () => other.destroy());
        one.on("close", () => {
          sockets.delete(one);
          other.destroy();
        });
        one.pipe(other);
      }
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return new Network(server, sockets, () => count);
  }

  get connections(): number {
    return this.#count();
  }

  /** Every connection breaks; new ones work. */
  cut(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
    this.#server.close();
    await once(this.#server, "close");
  }
}
