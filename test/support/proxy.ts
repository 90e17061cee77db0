/** A TCP proxy before a real server, whose line a test can cut at the worst moment. */
import { createConnection, createServer, type Socket } from "node:net";

export interface Proxy extends AsyncDisposable {
  readonly port: number;
  /** Called with what goes to the server; `cut` before or after it is passed on, or let it pass. */
  onSent: ((data: Buffer) => "cut before" | "cut after" | "pass") | undefined;
  /** No connection comes through. */
  closed: boolean;
  cutAll(): void;
}

export async function proxyTo(port: number, host = "127.0.0.1"): Promise<Proxy> {
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    if (proxy.closed) return void client.destroy();
    const upstream = createConnection(port, host);
    let severed = false;
    const end = (): void => {
      client.destroy();
      upstream.destroy();
    };
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on("error", end).on("close", () => {
        sockets.delete(socket);
        end();
      });
    }
    client.on("data", (data) => {
      const verdict = proxy.onSent?.(data) ?? "pass";
      if (verdict === "cut before") return end();
      if (verdict === "cut after") severed = true;
      upstream.write(data);
    });
    // The server has answered, so it has done what it was told; nobody hears the answer.
    upstream.on("data", (data) => (severed ? end() : client.write(data)));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const proxy: Proxy = {
    port: (server.address() as { port: number }).port,
    onSent: undefined,
    closed: false,
    cutAll() {
      for (const socket of sockets) socket.destroy();
    },
    async [Symbol.asyncDispose]() {
      this.cutAll();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return proxy;
}
