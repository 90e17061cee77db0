/** Resolves when all that has been set off by promises so far, such as a message to an executor thread, has been done. No input or output comes in between. */
export const endOfTick = (): Promise<void> => new Promise((resolve) => process.nextTick(resolve));
