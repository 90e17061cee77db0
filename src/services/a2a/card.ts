/** The card by which an agent is found. Pure. */
import type { AgentCard } from "@a2a-js/sdk";
import type { Assistant } from "../../schemas/assistants.ts";
import type { Security } from "./security.ts";

const MODES = ["text/plain", "application/json"];
const BINDING = "JSONRPC";
const VERSIONS = ["1.0", "0.3"] as const;

export interface CardPlace {
  /** Where the agent is served. */
  readonly url: string;
  /** The server's version: agents have none of their own. */
  readonly version: string;
  /** How its clients log in; null: nobody has said so. */
  readonly security: Security | null;
}

/** As 1.0 has it. */
export function agentCard(
  assistant: Assistant,
  { url, version }: Pick<CardPlace, "url" | "version">,
  pushNotifications: boolean,
): AgentCard {
  const { assistant_id, graph_id, name } = assistant;
  const description = assistant.description || `The agent "${name}".`;
  return {
    name,
    description,
    supportedInterfaces: VERSIONS.map((protocolVersion) => ({
      url,
      protocolBinding: BINDING,
      tenant: "",
      protocolVersion,
    })),
    provider: undefined,
    version,
    capabilities: { streaming: true, pushNotifications, extensions: [], extendedAgentCard: false },
    securitySchemes: {},
    securityRequirements: [],
    defaultInputModes: MODES,
    defaultOutputModes: MODES,
    skills: [
      {
        id: assistant_id,
        name,
        description,
        tags: ["langgraph", graph_id],
        examples: [],
        inputModes: MODES,
        outputModes: MODES,
        securityRequirements: [],
      },
    ],
    signatures: [],
  };
}

/** What clients of 0.3 look for on the same card. */
export const legacyMembers = ({ url }: Pick<CardPlace, "url">) => ({
  url,
  preferredTransport: BINDING,
  protocolVersion: "0.3.0",
  additionalInterfaces: [{ url, transport: BINDING }],
  supportsAuthenticatedExtendedCard: false,
});
