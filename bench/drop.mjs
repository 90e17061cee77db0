/** `node drop.mjs NAME…`: removes databases of the bench, for a bench that is ended before it could (an exit handler waits for nothing but a process). */
import { dropDatabase } from "./cluster.mjs";

await Promise.all(process.argv.slice(2).map(dropDatabase));
