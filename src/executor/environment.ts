/**
 * The variables of an executor thread. Node keeps those of a thread in a native map behind a lock, and LangChain looks whether it is
 * traced several times for each token of a model: measured, 4 % of a stream of tokens. Here a look is a look at a property. Changes
 * go to both: what the graph's code starts (workers of its own) inherits the native ones.
 */
import { syncBuiltinESMExports } from "node:module";

/** Makes reading `process.env` of this thread cheap. It behaves as before: values become text, a symbol is refused. */
export function keepVariablesAtHand(): void {
  const native = process.env;
  process.env = new Proxy(
    { ...native },
    {
      set(variables, name: string, value: string) {
        native[name] = value;
        variables[name] = native[name];
        return true;
      },
      defineProperty(variables, name: string, descriptor) {
        Object.defineProperty(native, name, descriptor);
        return Reflect.defineProperty(variables, name, { ...descriptor, value: native[name] });
      },
      deleteProperty(variables, name: string) {
        return delete native[name] && delete variables[name];
      },
    },
  );
  // `import { env } from "node:process"` is the same object.
  syncBuiltinESMExports();
}
