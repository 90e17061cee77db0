/** Set up before each file of the projects on PostgreSQL: files share a process, so the hook cannot be a module's that they import. */
import { afterAll } from "vitest";
import { dropDatabases } from "./server.ts";

afterAll(dropDatabases);
