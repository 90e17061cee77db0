/** How clients of an agent log in, as its card says it: what the project says of it in OpenAPI's words. Pure. */

export interface Security {
  /** As OpenAPI has them, by name. */
  readonly schemes: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  /** One of these is enough; of each, all. */
  readonly required: readonly Readonly<Record<string, readonly string[]>>[];
}

/** Members of 1.0 by OpenAPI's types. */
const MEMBERS: Readonly<Record<string, string>> = {
  apiKey: "apiKeySecurityScheme",
  http: "httpAuthSecurityScheme",
  oauth2: "oauth2SecurityScheme",
  openIdConnect: "openIdConnectSecurityScheme",
  mutualTLS: "mtlsSecurityScheme",
};

/** The same for clients of both versions: 0.3 has OpenAPI's own shape, 1.0 puts it into a member that is named for its type. */
export function securityMembers({ schemes, required }: Security): object {
  return {
    securitySchemes: Object.fromEntries(Object.entries(schemes).map(([name, scheme]) => [name, inBoth(scheme)])),
    security: required,
    securityRequirements: required.map((each) => ({
      schemes: Object.fromEntries(Object.entries(each).map(([name, scopes]) => [name, { list: scopes }])),
    })),
  };
}

function inBoth(scheme: Readonly<Record<string, unknown>>): object {
  const { type, in: location, ...rest } = scheme;
  const member = typeof type === "string" ? MEMBERS[type] : undefined;
  if (member === undefined) return scheme;
  return { ...scheme, [member]: location === undefined ? rest : { ...rest, location } };
}
