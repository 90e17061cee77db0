/**
 * Counts what a server sends to PostgreSQL and Redis: a proxy in front of each that reads along. For counting only; what goes through it is not timed.
 * A round trip is a burst: all that is sent before something comes back.
 */
import { createConnection, createServer } from "node:net";

const PORTS = { "postgres:": 5432, "redis:": 6379 };

/** `uri` as seen through a counter, and the counts so far. */
export async function counterOf(uri) {
  const { protocol, hostname, port } = new URL(uri);
  const kind = protocol.startsWith("postgres") ? "postgres:" : "redis:";
  const readerOf = kind === "postgres:" ? statementReader : commandReader;
  const counts = { roundTrips: 0, bytes: 0, bytesBack: 0, calls: 0, byText: new Map(), connections: 0 };
  const server = createServer((near) => {
    const far = createConnection({ host: hostname, port: Number(port) || PORTS[kind] });
    for (const socket of [near, far]) socket.setNoDelay(true);
    counts.connections++;
    const read = readerOf((text) => {
      counts.calls++;
      counts.byText.set(text, (counts.byText.get(text) ?? 0) + 1);
    });
    let isAnswered = true;
    near.on("data", (bytes) => {
      if (isAnswered) counts.roundTrips++;
      isAnswered = false;
      counts.bytes += bytes.length;
      read(bytes);
      far.write(bytes);
    });
    far.on("data", (bytes) => {
      isAnswered = true;
      counts.bytesBack += bytes.length;
      near.write(bytes);
    });
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ]) {
      socket.on("error", () => other.destroy());
      socket.on("close", () => {
        counts.connections -= socket === near ? 1 : 0;
        other.destroy();
      });
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const through = new URL(uri);
  through.hostname = "127.0.0.1";
  through.port = String(server.address().port);
  return { uri: through.href, counts, close: () => server.close() };
}

/** Bytes that come in pieces: `take` gives as many whole messages as there are. */
function whole(lengthOf, onMessage) {
  let rest = Buffer.alloc(0);
  return (bytes) => {
    rest = rest.length === 0 ? bytes : Buffer.concat([rest, bytes]);
    for (;;) {
      const length = lengthOf(rest);
      if (length === undefined || rest.length < length) return;
      onMessage(rest.subarray(0, length));
      rest = rest.subarray(length);
    }
  };
}

/** PostgreSQL's protocol: a letter, a length; the first message of a connection has no letter. */
function statementReader(onStatement) {
  let started = false;
  let text = "";
  const named = new Map();
  const lengthOf = (bytes) => {
    const at = started ? 1 : 0;
    return bytes.length < at + 4 ? undefined : at + bytes.readUInt32BE(at);
  };
  return whole(lengthOf, (message) => {
    if (!started) {
      started = true;
      return;
    }
    const kind = String.fromCharCode(message[0]);
    const [first, second] = message.subarray(5).toString("latin1").split("\0", 2);
    if (kind === "Q") onStatement(brief(first));
    else if (kind === "P") {
      text = brief(second);
      named.set(first, text);
    } else if (kind === "B") text = named.get(second) ?? text;
    else if (kind === "E") onStatement(text);
  });
}

const brief = (sql) => sql.replace(/\s+/g, " ").slice(0, 110);

/** Redis: an array of strings, each with its length. */
function commandReader(onCommand) {
  const lineEnd = (bytes, from) => {
    const at = bytes.indexOf("\r\n", from);
    return at === -1 ? undefined : at;
  };
  const partsOf = (bytes) => {
    let end = lineEnd(bytes, 0);
    if (end === undefined) return undefined;
    const parts = [];
    let at = end + 2;
    for (let left = Number(bytes.subarray(1, end)); left > 0; left--) {
      end = lineEnd(bytes, at);
      if (end === undefined) return undefined;
      const from = end + 2;
      at = from + Number(bytes.subarray(at + 1, end)) + 2;
      parts.push([from, at - 2]);
    }
    return {
      length: at,
      name: bytes
        .subarray(...parts[0])
        .toString("latin1")
        .toLowerCase(),
    };
  };
  return whole(
    (bytes) => partsOf(bytes)?.length,
    (message) => onCommand(partsOf(message).name),
  );
}
