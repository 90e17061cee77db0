/** The server must not start on this data. The message is for the operator and stands without a stack. */
export class StorageRefused extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "StorageRefused";
  }
}
