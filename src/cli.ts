#!/usr/bin/env node
/** The commands of `skein`. What only some of them or some settings need is loaded by those: the rest starts without it. */
import { isDeepStrictEqual } from "node:util";
import { Command } from "commander";
import getPort, { portNumbers } from "get-port";
import { AuthLoadError } from "./auth/load.ts";
import { type DockerfileFlags, dockerfile } from "./commands/dockerfile.ts";
import type { DoctorFlags } from "./commands/doctor.ts";
import type { MoveFlags } from "./commands/move.ts";
import { type CompatFlags, compat, NoDocumentError } from "./compat/command.ts";
import {
  ConfigError,
  type Flags,
  loadProject,
  type Mode,
  type Project,
  readSettings,
  type Settings,
} from "./config.ts";
import { optimizeEarly } from "./early-optimization.ts";
import { GraphLoadError, IndexLoadError } from "./engine/executor-thread.ts";
import { PortInUseError } from "./http/listen.ts";
import { createLogger, type Logger } from "./observability/logger.ts";
import { poolRandomValues } from "./pooled-random.ts";
import { type SkeinServer, sealingOf, startServer } from "./server.ts";
import { openStorage, StorageRefused } from "./storage/open.ts";
import { UiBuildError } from "./ui/bundles.ts";
import { VERSION } from "./version.ts";

const PORTS_TO_TRY = 100;

async function main(): Promise<void> {
  const program = new Command("skein").description("Agent Server for LangGraph.js").version(VERSION);
  addServeCommand(program, "dev", "Serve a project and reload it when its code changes.");
  addServeCommand(program, "start", "Serve a project: no watching, JSON logs.").option(
    "--no-worker",
    "serve clients, and leave runs to other processes on the same DATABASE_URI",
  );
  addServeCommand(program, "worker", "Execute runs that other processes take in; serves only /ok, /metrics and /info.");
  addMigrateCommand(program);
  addDoctorCommand(program);
  addMoveCommand(program);
  addDockerfileCommand(program);
  addCompatCommand(program);
  await program.parseAsync();
}

function addServeCommand(program: Command, command: Mode | "worker", description: string): Command {
  return program
    .command(command)
    .description(description)
    .option("--config <path>", "langgraph.json, or its folder", ".")
    .option("--host <host>", "address to listen on (default 127.0.0.1)")
    .option("--port <port>", "port to listen on (default 2024)")
    .option("--data <folder>", "folder of the database (default .skein beside the config)")
    .option("--jobs <n>", "runs at once (default N_JOBS_PER_WORKER or 10)")
    .option("--threads <n>", "executor threads (default: cores minus one, at least 1)")
    .action((flags: Flags) => serve(command, flags));
}

function addMigrateCommand(program: Command): void {
  program
    .command("migrate")
    .description("Bring the schema of the database up to date. Servers do it themselves when they start.")
    .option("--config <path>", "langgraph.json, or its folder", ".")
    .option("--data <folder>", "folder of the database (default .skein beside the config)")
    .action(migrate);
}

async function migrate(flags: Flags): Promise<void> {
  try {
    const settings = readSettings("start", flags, loadProject(flags.config ?? ".", process.env));
    const applied: string[] = [];
    const storage = await openStorage({
      ...settings,
      sealing: sealingOf(settings),
      onMigrated: (names) => applied.push(...names),
    });
    await storage.close();
    const done = applied.length === 0 ? "is up to date" : `now has ${applied.join(", ")}`;
    process.stdout.write(`The schema of ${storage.location} ${done}.\n`);
  } catch (error) {
    refuse(error);
  }
}

function addDoctorCommand(program: Command): void {
  program
    .command("doctor")
    .description("Say what is wrong in the database; exits with 1 when something is.")
    .option("--config <path>", "langgraph.json, or its folder", ".")
    .option("--data <folder>", "folder of the database (default .skein beside the config)")
    .option("--fix", "mend it, and say what was done")
    .option("--waiting <seconds>", "how long a run may wait before that is wrong (default 300)")
    .option("--json", "print the findings as JSON")
    .action((flags: DoctorFlags) =>
      answer(async (print) => (await import("./commands/doctor.ts")).doctor(flags, print)),
    );
}

function addMoveCommand(program: Command): void {
  program
    .command("move")
    .description("Take a database that no server works on to an empty place: a file to PostgreSQL, or back.")
    .requiredOption("--from <place>", "folder of the database, or postgres://…")
    .requiredOption("--to <place>", "folder of the database, or postgres://…")
    .option("--json", "print what was moved as JSON")
    .action((flags: MoveFlags) => answer(async (print) => (await import("./commands/move.ts")).move(flags, print)));
}

function addDockerfileCommand(program: Command): void {
  program
    .command("dockerfile")
    .description("Print a Dockerfile for the project, or write it with a .dockerignore.")
    .argument("[path]", "file to write")
    .option("--config <path>", "langgraph.json, or its folder", ".")
    .action((path: string | undefined, flags: DockerfileFlags) => answer((print) => dockerfile(flags, path, print)));
}

/** A command that prints, and ends with an exit code. */
async function answer(command: (print: (text: string) => void) => Promise<number>): Promise<void> {
  // A reader that has seen enough (`| head`) closes the pipe.
  process.stdout.on("error", () => process.exit(1));
  try {
    process.exitCode = await command((text) => process.stdout.write(`${text}\n`));
  } catch (error) {
    refuse(error);
  }
}

function addCompatCommand(program: Command): void {
  program
    .command("compat")
    .description(
      "Ask a running server how much of the Agent Server API it serves; exits with 1 when something is missing.",
    )
    .option("--url <url>", "where the server is", "http://127.0.0.1:2024")
    .option("--json", "print all differences as JSON")
    .option("--list", "print the list of operations as JSON, and ask nobody")
    .action((flags: CompatFlags) => answer((print) => compat(flags, print)));
}

async function serve(command: Mode | "worker", flags: Flags): Promise<void> {
  poolRandomValues();
  const mode = command === "worker" ? "start" : command;
  try {
    const project = loadProject(flags.config ?? ".", process.env);
    const settings = readSettings(mode, flags, project, command === "worker");
    const logger = createLogger({
      level: settings.logLevel,
      ...(mode === "dev" && { pretty: (await import("pino-pretty")).default }),
    });
    const server = await startOnPort(project, settings, logger);
    optimizeEarly();
    const stopWatching = mode === "dev" ? await watch(server, flags, project, logger) : undefined;
    announce(server, project, settings, logger);
    stopOnSignals(async () => {
      await stopWatching?.();
      await server.stop();
    }, logger);
  } catch (error) {
    refuse(error);
  }
}

/** `dev` moves on to the next free port and says so; `start` refuses. */
async function startOnPort(project: Project, settings: Settings, logger: Logger): Promise<SkeinServer> {
  const port = settings.mode === "dev" ? await freePort(settings, logger) : settings.port;
  try {
    return await startServer(project, { ...settings, port }, logger);
  } catch (error) {
    throw explained(error, settings);
  }
}

async function freePort({ host, port }: Settings, logger: Logger): Promise<number> {
  if (port === 0) return 0;
  const last = Math.min(65_535, port + PORTS_TO_TRY);
  const free = await getPort({ host, port: portNumbers(port, last) });
  if (free !== port) logger.warn(`port ${port} is taken, using ${free}`);
  return free;
}

function explained(error: unknown, { portSource }: Settings): unknown {
  return error instanceof PortInUseError ? new ConfigError(`${error.message} (asked for by ${portSource})`) : error;
}

function announce(server: SkeinServer, project: Project, settings: Settings, logger: Logger): void {
  const graphs = server.graphs.map(({ graph_id }) => graph_id);
  const facts = {
    url: server.url,
    graphs,
    data: server.location,
    threads: settings.threads,
    jobs: settings.jobs,
    role: settings.role,
  };
  if (settings.mode === "start") {
    logger.info({ ...facts, config: project.file }, "listening");
    return;
  }
  logger.info(`Skein ${VERSION} serves ${graphs.join(", ")}`);
  logger.info(`  API      ${server.url}`);
  logger.info(`  Docs     ${server.url}/docs`);
  logger.info(`  Data     ${server.location}`);
  logger.info(
    `  Threads  ${settings.threads} executor ${settings.threads === 1 ? "thread" : "threads"}, ${settings.jobs} runs at once`,
  );
}

async function watch(
  server: SkeinServer,
  flags: Flags,
  project: Project,
  logger: Logger,
): Promise<() => Promise<void>> {
  const { watchProject } = await import("./watch.ts");
  let reloading = Promise.resolve();
  return watchProject(project.dir, (files) => {
    reloading = reloading.then(async () => {
      try {
        const changed = loadProject(flags.config ?? ".", process.env);
        const loaded = (await server.reload(changed)).map(({ graph_id }) => graph_id);
        const own = [project.auth && "auth", project.http.app && "http.app"].filter((each) => each !== null);
        logger.info(`reloaded ${[...loaded, ...own].join(", ")} (${files.join(", ")} changed)`);
        if (!isDeepStrictEqual([changed.http, changed.auth], [project.http, project.auth])) {
          logger.warn("the blocks http and auth are as they were at the start: restart to change them");
        }
      } catch (error) {
        logger.error(`not reloaded, the code before keeps serving: ${textOf(error)}`);
      }
    });
  });
}

/** The first signal drains, the second quits. */
function stopOnSignals(stop: () => Promise<void>, logger: Logger): void {
  let stopping = false;
  const onSignal = (signal: NodeJS.Signals): void => {
    if (stopping) process.exit(130);
    stopping = true;
    logger.info(`${signal}: draining; once more to quit at once`);
    stop().then(
      () => process.exit(0),
      (error: unknown) => {
        logger.error({ err: error }, "stopping failed");
        process.exit(1);
      },
    );
  };
  process.on("SIGINT", onSignal);
  process.on("SIGTERM", onSignal);
}

function refuse(error: unknown): never {
  process.stderr.write(`skein: ${textOf(error)}\n`);
  process.exit(1);
}

/** Errors whose message says it all go without a stack; a graph's failure shows where in the user's code. */
function textOf(error: unknown): string {
  const saysItAll = [ConfigError, AuthLoadError, StorageRefused, IndexLoadError, NoDocumentError, UiBuildError].some(
    (kind) => error instanceof kind,
  );
  if (saysItAll && error instanceof Error) return error.message;
  if (error instanceof GraphLoadError) return `${error.message}\n${error.stack ?? ""}`;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

await main();
