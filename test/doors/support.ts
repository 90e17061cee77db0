/** Clients of the doors: the SDK's own for both versions of A2A, raw JSON-RPC, and somebody who wants to be notified. */

import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { type Message, Role, type StreamResponse, type Task } from "@a2a-js/sdk";
import { type Client, ClientFactory } from "@a2a-js/sdk/client";
import { A2AClient } from "a2a-0.3/client";
import { http } from "../support/http.ts";
import { eventually, type TestServer } from "../support/server.ts";

/** The client of 1.0, found by the agent's card. */
export function agent(server: Pick<TestServer, "url">, assistant_id: string): Promise<Client> {
  return new ClientFactory().createFromUrl(`${server.url}/a2a/${assistant_id}/`);
}

/** The client of 0.3, found by the same card. */
export function legacyAgent(server: Pick<TestServer, "url">, assistant_id: string): Promise<A2AClient> {
  return A2AClient.fromCardUrl(`${server.url}/.well-known/agent-card.json?assistant_id=${assistant_id}`);
}

export interface Say {
  readonly text?: string;
  readonly data?: unknown;
  readonly contextId?: string;
  readonly taskId?: string;
}

const part = (content: Message["parts"][number]["content"]): Message["parts"][number] => ({
  content,
  metadata: undefined,
  filename: "",
  mediaType: "",
});

export function message({ text, data, contextId = "", taskId = "" }: Say): Message {
  const parts = [
    ...(text === undefined ? [] : [part({ $case: "text", value: text })]),
    ...(data === undefined ? [] : [part({ $case: "data", value: data })]),
  ];
  const messageId = randomUUID();
  return {
    messageId,
    contextId,
    taskId,
    role: Role.ROLE_USER,
    parts,
    metadata: undefined,
    extensions: [],
    referenceTaskIds: [],
  };
}

export interface SendOptions {
  readonly returnImmediately?: boolean;
  readonly push?: { readonly url: string; readonly token?: string };
}

/** Sends, and returns the task. */
export async function send(
  client: Client,
  say: Say,
  { returnImmediately = false, push }: SendOptions = {},
): Promise<Task> {
  const taskPushNotificationConfig = push && {
    tenant: "",
    id: "",
    taskId: "",
    url: push.url,
    token: push.token ?? "",
    authentication: undefined,
  };
  const result = await client.sendMessage({
    tenant: "",
    message: message(say),
    configuration: { acceptedOutputModes: [], taskPushNotificationConfig, returnImmediately },
    metadata: undefined,
  });
  if (!("status" in result)) throw new Error("the answer is no task");
  return result;
}

export const streamOf = (client: Client, say: Say): AsyncGenerator<StreamResponse, void, undefined> =>
  client.sendMessageStream({ tenant: "", message: message(say), configuration: undefined, metadata: undefined });

export async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

/** What a client that follows the rules of `append` has of an artifact. */
export function artifactText(events: readonly StreamResponse[], name = "Assistant Response"): string {
  let text = "";
  for (const { payload } of events) {
    if (payload?.$case !== "artifactUpdate" || payload.value.artifact?.name !== name) continue;
    const piece = payload.value.artifact.parts
      .map(({ content }) => (content?.$case === "text" ? content.value : ""))
      .join("");
    text = payload.value.append ? text + piece : piece;
  }
  return text;
}

export const lastStatus = (events: readonly StreamResponse[]) => {
  const payload = events.at(-1)?.payload;
  return payload?.$case === "statusUpdate" ? payload.value.status?.state : undefined;
};

/** Text of a part. */
export const texts = (parts: Message["parts"] | undefined): string[] =>
  (parts ?? []).flatMap(({ content }) => (content?.$case === "text" ? [content.value] : []));

export const JSON_ACCEPT = { accept: "application/json" };

/** A request as it is on the wire; version 0.3 where no header says more. */
export const rpc = (
  server: Pick<TestServer, "url">,
  assistant_id: string,
  method: string,
  params: unknown,
  headers: Readonly<Record<string, string>> = {},
) =>
  http(server.url).post(
    `/a2a/${assistant_id}`,
    { jsonrpc: "2.0", id: "1", method, params },
    { headers: { ...JSON_ACCEPT, ...headers } },
  );

export interface Notified {
  readonly body: Record<string, unknown>;
  readonly headers: IncomingHttpHeaders;
}

/** Somebody's endpoint for notifications. */
export class Inbox implements AsyncDisposable {
  readonly calls: Notified[] = [];
  readonly #server = createServer(async (request, response) => {
    let text = "";
    for await (const chunk of request) text += chunk;
    this.calls.push({ body: JSON.parse(text), headers: request.headers });
    response.writeHead(200).end();
  });

  static async open(): Promise<Inbox> {
    const inbox = new Inbox();
    inbox.#server.listen(0, "127.0.0.1");
    await once(inbox.#server, "listening");
    return inbox;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/tasks`;
  }

  async wait(count = 1): Promise<Notified[]> {
    return eventually(() => (this.calls.length >= count ? this.calls : undefined), { ms: 20_000 });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}
