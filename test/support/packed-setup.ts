/** Before the tests of each project: only the first has something to do. */
export { pack as setup } from "./packed.ts";
