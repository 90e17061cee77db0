/** A setting is wrong: the server says which and does not start. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}
