// The functional API: any JSON in, the same JSON out. An object with `previous: true` gets the thread's last answer back.
import { entrypoint, getPreviousState, task } from "@langchain/langgraph";

const echo = task("echo", async (input) => input);

export const graph = entrypoint({ name: "functional" }, async (input) =>
  input?.previous === true ? { previous: getPreviousState() ?? null } : echo(input),
);
