/** A client that asks for a stream and does not read it. */
import { connect, type Socket } from "node:net";
import type { TestServer } from "../support/server.ts";
import { parseFrame } from "../support/sse.ts";

/** Asks for a stream and reads nothing of the answer until `resume`. */
export async function deafClient(server: TestServer, path: string): Promise<Socket> {
  const { hostname, port } = new URL(server.url);
  const socket = connect({ host: hostname, port: Number(port) });
  socket.pause();
  await new Promise((resolve) => socket.once("connect", resolve));
  socket.write(`GET ${path} HTTP/1.1\r\nhost: ${hostname}\r\nconnection: close\r\n\r\n`);
  return socket;
}

/** Reads to the end and returns the ids of the frames. */
export async function readIds(socket: Socket): Promise<number[]> {
  const ids: number[] = [];
  let text = "";
  socket.setEncoding("latin1").resume();
  for await (const chunk of socket) {
    // Frames end with their id: of the rest only what may hold one is kept.
    text += (chunk as string).replaceAll(/x{100,}/g, "x");
    const frames = text.split("\n\n");
    text = frames.pop() ?? "";
    for (const frame of frames) {
      const { id } = parseFrame(frame.replace(/^[\s\S]*?\r\n\r\n/, ""));
      if (id !== undefined) ids.push(Number(id));
    }
  }
  return ids;
}
