/** Wires the parts, starts them in order and stops them in reverse. The only file that imports from every room. */
import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { v4 as uuid4 } from "uuid";
import { type Project, SERVER_SECRETS, type Settings } from "./config.ts";
import { Attempts } from "./engine/attempts.ts";
import type { StorageHandler } from "./engine/executor-thread.ts";
import { ExecutorPool } from "./engine/pool.ts";
import { Queue } from "./engine/queue.ts";
import { Reconciler } from "./engine/reconciler.ts";
import { resealer } from "./engine/reseal.ts";
import { Scheduler, systemClock } from "./engine/scheduler.ts";
import { eventShelf, sweepEvents, sweepLeftovers } from "./engine/shelf.ts";
import { storageHandler } from "./engine/storage-calls.ts";
import { Store } from "./engine/store.ts";
import { type Sweep, Sweeps } from "./engine/sweeps.ts";
import type { RemovedRuns } from "./engine/thread-removal.ts";
import { sweepThreads } from "./engine/thread-ttl.ts";
import { checkWebhook, poster } from "./engine/webhook-target.ts";
import { sweepDeliveries, Webhooks } from "./engine/webhooks.ts";
import type { Json, LoadedGraph, Question, StateChange, UpdateQuestion } from "./executor/protocol.ts";
import { Types } from "./graphs/type-schemas.ts";
import { Doors } from "./http/doors.ts";
import { headerChooser } from "./http/headers.ts";
import { offerInProcess } from "./http/in-process.ts";
import { PROBES } from "./http/observed.ts";
import type { Answered } from "./http/types.ts";
import type { Logger } from "./observability/logger.ts";
import { Metrics } from "./observability/metrics.ts";
import { loadOwnCode, OwnCode } from "./own-code.ts";
import type { AgentTree } from "./schemas/protocol.ts";
import { Assistants, syncDefaultAssistants } from "./services/assistants.ts";
import { Crons } from "./services/crons.ts";
import { factsOf } from "./services/facts.ts";
import { guardedServices } from "./services/guarded/services.ts";
import { sweepKeys } from "./services/idempotency.ts";
import { Commands, findThread } from "./services/protocol/commands.ts";
import { Protocol } from "./services/protocol/service.ts";
import { agentTree } from "./services/protocol/tree.ts";
import { Runs } from "./services/runs.ts";
import { LongTermStore } from "./services/store.ts";
import { System } from "./services/system.ts";
import { Tasks } from "./services/tasks.ts";
import { ThreadStates } from "./services/thread-states.ts";
import { Threads } from "./services/threads.ts";
import { Ui } from "./services/ui.ts";
import { Cipher } from "./storage/cipher.ts";
import { openStorage } from "./storage/open.ts";
import type { Sealing } from "./storage/sealing.ts";
import type { Storage } from "./storage/storage.ts";
import * as events from "./storage/tables/events.ts";
import * as runs from "./storage/tables/runs.ts";
import { type Begun, type Broker, inProcess } from "./streaming/broker.ts";
import { databaseOnly } from "./streaming/database-relay.ts";
import { EventLogs } from "./streaming/event-logs.ts";
import { UiBundles } from "./ui/bundles.ts";
import { VERSION } from "./version.ts";

export interface SkeinServer {
  /** Where a client on this machine reaches it; the server of a host: where its graphs do. */
  readonly url: string;
  readonly doors: Pick<Doors, "fetch" | "handle" | "upgrade" | "listen">;
  /** Where the data lies. */
  readonly location: string;
  readonly graphs: readonly LoadedGraph[];
  /**
   * Loads changed code: of graphs, for new runs, and of `auth` and `http.app`, for new requests. Rejects, and keeps the old code, when
   * something does not load.
   */
  reload(changed: Pick<Project, "graphs" | "ui">): Promise<readonly LoadedGraph[]>;
  /** Takes no new runs, drains those in hand or hands them back, then closes everything. */
  stop(): Promise<void>;
}

/** Characters of a run's newest events kept in memory: a long answer of a chat model fits. */
const TAIL_LIMIT = 2 * 1024 * 1024;
const ENDED_LIMIT = 16 * 1024 * 1024;
const KEEP_ENDED_MS = 30_000;
const SILENT_MS = 500;
/** Clocks that somebody keeps agree better. */
const CLOCK_OFF_MS = 1000;
const SPARE_IDLE_MS = 30_000;
const SPARE_THREADS = 4;
/** Reading the types of a large project on a small machine. */
const TYPES_TIMEOUT_MS = 60_000;
/** Whoever looks at one graph's schemas often looks at the next one's. */
const TYPES_IDLE_MS = 5000;
const CANCEL_GRACE_MS = 5000;
const SWEEP_KEYS_MS = 10 * 60_000;
/** How often work of other processes is looked for, should the word of it be lost. */
const POLL_MS = 5000;
/** Time for the last answers to reach their clients when the server stops. */
const CLOSE_GRACE_MS = 1000;

/** How clients come in: by a port that the server listens on, or by a host that hands their requests on. */
export type Entrance = "port" | "host";

/** Starts a server. Rejects with GraphLoadError, AppError, StorageRefused, PortInUseError when it cannot serve. */
export async function startServer(
  project: Project,
  settings: Settings,
  logger: Logger,
  entrance: Entrance = "port",
): Promise<SkeinServer> {
  const stack: (() => unknown)[] = [];
  try {
    return await assemble(project, settings, logger, stack, entrance);
  } catch (error) {
    for (const undo of stack.reverse()) await undo();
    throw error;
  }
}

async function assemble(
  project: Project,
  settings: Settings,
  logger: Logger,
  stack: (() => unknown)[],
  entrance: Entrance,
): Promise<SkeinServer> {
  const onError = (error: unknown, doing: string): void => logger.error({ err: error }, `${doing} failed`);

  // The slow part first: executor threads load the graphs while the database opens.
  let onStorage: StorageHandler | undefined;
  const serverKey = randomBytes(32).toString("base64url");
  if (project.auth !== null || project.http.app !== null) showVariables(project);
  const pool = makePool(project, settings, serverKey, logger, (requests) => {
    if (onStorage === undefined) throw new Error("storage is not open yet");
    return onStorage(requests);
  });
  stack.push(() => pool.close());
  const loading = pool.start();
  loading.catch(() => undefined);
  const bundles = new UiBundles();
  const bundling = settings.role === "worker" ? Promise.resolve() : bundles.build(project.ui);
  bundling.catch(() => undefined);
  let entered: Doors | undefined;
  const call = async (request: Request): Promise<Response> => {
    if (entered === undefined) throw new Error("the server has not started yet: call it from lifespan.start on");
    return entered.call(request);
  };
  const withdraw = project.http.app === null ? undefined : offerInProcess(call);
  stack.push(() => withdraw?.());
  const ownLoading = loadOwnCode(project);
  ownLoading.catch(() => undefined);

  const sealing = sealingOf(settings);
  const database = await openStorage({
    database: settings.database,
    dataDir: settings.dataDir,
    onError: (error: unknown) => onError(error, "storage"),
    sealing,
  });
  const aheadMs = Date.now() - database.now();
  if (Math.abs(aheadMs) > CLOCK_OFF_MS) {
    logger.warn(
      { ahead_ms: aheadMs },
      "the clock of this machine is not that of the database: times that graphs take (`created_at` of a checkpoint) are by this one",
    );
  }
  const store = new Store({ storage: database, ttl: project.store.ttl, embedder: embedderName(project) });
  onStorage = storageHandler(database, store);
  stack.push(() => database.close());
  let graphs = await loading;
  await bundling;
  let specs = project.graphs;
  await syncDefaultAssistants(database, specs, database.now());
  await sweepLeftovers(database);

  const broker = await openBroker(settings, sealing, database.isShared, logger);
  stack.push(() => broker.close());
  const metrics = new Metrics({
    runsByStatus: () => database.read((db) => runs.countByStatus(db)),
    executors: () => ({ threads: pool.size, running: pool.running }),
    broker: () => broker.state,
    eventStreams: () => ({ sse: protocol.readers, websocket: doors.sockets }),
  });
  // Loaded only here, and only when it is asked for.
  const telemetry =
    settings.telemetry === null
      ? null
      : await (await import("./observability/otel.ts")).startTelemetry(settings.telemetry, metrics.registry, logger);
  stack.push(() => telemetry?.stop());
  const tracing = telemetry?.tracing ?? null;
  const shelf = eventShelf(database, (run_id) => attempts.fenceOf(run_id));
  const logs = new EventLogs({
    shelf,
    onError: (error) => onError(error, "storing events"),
    keepEndedMs: KEEP_ENDED_MS,
    endedLimit: ENDED_LIMIT,
    tailLimit: TAIL_LIMIT,
    onForget: (log) => {
      if (!log.resumable && log.hasStored) {
        shelf.remove(log.run_id).catch((error: unknown) => onError(error, "removing spilled events"));
      }
    },
    relay: broker.relay({
      shelf,
      inFlight: (run_ids) => database.read((db) => runs.inFlightAmong(db, run_ids)),
      begun: (thread_id, from) => begunOf(database, thread_id, from),
      now: () => database.now(),
      tailLimit: TAIL_LIMIT,
      keepEndedMs: KEEP_ENDED_MS,
      onError: (error) => onError(error, "following runs of other processes"),
    }),
  });
  stack.push(() => logs.close());

  let server_url = "http://127.0.0.1";
  const webhooks = new Webhooks({
    storage: database,
    logger,
    metrics,
    tracing,
    post: poster(() => server_url, project.webhooks),
    fields: project.webhooks.fields,
    notification: async (push, shown) => (await import("./services/a2a/push.ts")).notificationOf(push, shown),
    holdMs: settings.leaseMs * 2,
  });
  stack.push(() => webhooks.stop());

  const attempts: Attempts = new Attempts({
    storage: database,
    pool,
    logs,
    logger,
    metrics,
    tracing,
    maxAttempts: settings.maxAttempts,
    runTimeoutMs: settings.runTimeoutMs,
    cancelGraceMs: CANCEL_GRACE_MS,
    onWebhook: () => webhooks.nudge(),
    onUnshown: (thread_id) => void runService.showNewest(thread_id),
  });
  const { isShared } = database;
  const queue = new Queue({
    storage: database,
    owner: `${hostname()}:${process.pid}:${uuid4()}`,
    slots: settings.jobs,
    maxAttempts: settings.maxAttempts,
    leaseMs: settings.leaseMs,
    execute: (run, write) => attempts.execute(run, write),
    onExpired: (run) => attempts.expire(run),
    onBeat: () => attempts.heartbeat(),
    pollMs: isShared ? POLL_MS : null,
    onError,
    onLeft: () => broker.wake(1),
  });

  // One that nobody here holds has nobody to end its log.
  const stopRun = (run_id: string): void => {
    if (!attempts.cancel(run_id, "rollback")) logs.drop(run_id);
  };
  const stopRemoved = ({ thread_id, running, others }: RemovedRuns): void => {
    for (const run_id of others) logs.drop(run_id);
    for (const run_id of running) stopRun(run_id);
    const run_ids = [...others, ...running];
    if (run_ids.length > 0) broker.tell({ kind: "gone", run_ids });
    logs.closeThread(thread_id);
  };
  const ttl = project.threadTtl;

  const ask = (question: Question): Promise<Json> => pool.ask(question);
  const workOut = (question: UpdateQuestion): Promise<StateChange> => pool.ask(question);
  const checkUrl = project.webhooks.enabled
    ? (url: string, field?: string): void => checkWebhook(url, server_url, project.webhooks, field)
    : null;
  const runService: Runs = new Runs({
    storage: database,
    logs,
    logger,
    metrics,
    tracing,
    ask,
    queue: {
      nudge: () => queue.nudge(),
      reserve: () => queue.reserve(),
      ready: (runs) => broker.wake(runs - queue.free),
    },
    signalCancel: (run_id, action) => {
      if (!attempts.cancel(run_id, action)) broker.tell({ kind: "cancel", run_id, action });
    },
    signalOver: (run_ids) => broker.tell({ kind: "over", run_ids }),
    signalGone: (run_ids) => broker.tell({ kind: "gone", run_ids }),
    onWebhook: () => webhooks.nudge(),
    ttl: ttl.defaults,
    checkWebhook: checkUrl,
    langsmith: settings.langsmithProject,
  });
  const scheduler = new Scheduler({
    storage: database,
    create: (take, from) => runService.createDue(take, from),
    logger,
    metrics,
    tracing,
    clock: { ...systemClock, now: () => database.now() },
    ...(isShared ? { longestSleepMs: POLL_MS } : {}),
  });
  broker.hear((signal) => {
    if (signal.kind === "cancel") attempts.cancel(signal.run_id, signal.action);
    else if (signal.kind === "crons") scheduler.nudge();
    else if (signal.kind === "show") logs.show(signal.run_id);
    else if (signal.kind === "over") for (const run_id of signal.run_ids) logs.over(run_id);
    else for (const run_id of signal.run_ids) stopRun(run_id);
  });
  const types = new Types({
    graphs: () => specs,
    project_dir: project.dir,
    timeoutMs: TYPES_TIMEOUT_MS,
    idleMs: TYPES_IDLE_MS,
    onProblem: (file, problem) => logger.warn({ file, problem }, "the types of a TypeScript file were not read"),
  });
  stack.push(() => types.reset());
  const onCronChange = (): void => {
    scheduler.nudge();
    broker.tell({ kind: "crons" });
  };
  const assistants = new Assistants({
    storage: database,
    ask,
    graphs: () => specs,
    typesOf: (spec) => types.of(spec),
    onCancelled: (effects) => runService.act(effects),
    onRemoved: stopRemoved,
  });
  const threadService = new Threads({
    storage: database,
    states: new ThreadStates({ storage: database, ask, workOut }),
    ttl: ttl.defaults,
    onRemoved: stopRemoved,
  });
  const tree = (thread_id: string, run_id: string | undefined): Promise<AgentTree> =>
    agentTree({ storage: database, load: (id, after) => shelf.load(id, after) }, thread_id, run_id);
  const commands: Commands = new Commands({
    storage: database,
    find: (thread_id) => findThread(database, thread_id),
    runs: runService,
    threads: threadService,
    logger,
    tree,
    appliedThrough: (thread_id) => protocol.appliedThrough(thread_id),
  });
  const protocol: Protocol = new Protocol({
    storage: database,
    logs,
    runs: runService,
    threads: threadService,
    metrics,
    tree,
    onError: (error) => onError(error, "a stream of events"),
    command: (thread_id, command, from) => commands.run(thread_id, command, from),
  });
  const services = {
    assistants,
    threads: threadService,
    runs: runService,
    protocol,
    tasks: new Tasks({
      storage: database,
      onCancelled: (effects) => runService.act(effects),
      onWebhook: () => webhooks.nudge(),
      untilEnd: (run_id) => runService.wait(null, run_id, new AbortController().signal),
      checkWebhook: checkUrl,
    }),
    crons: new Crons({ storage: database, onChange: onCronChange, checkWebhook: checkUrl }),
    store: new LongTermStore({ store, ask }),
    system: new System({
      storage: database,
      metrics,
      graphs: () => graphs,
      broker: () => broker.state,
      langsmith: settings.langsmithProject !== null,
    }),
    ui: new Ui(bundles, assistants),
  };
  const own = new OwnCode(await ownLoading, {
    project,
    mode: settings.mode,
    logger,
    serverKey,
    services,
    guarded: (handlers) =>
      guardedServices({
        handlers,
        services,
        storage: database,
        logger,
        tree,
        ui: (found) => new Ui(bundles, found),
      }),
  });

  const observe = (answered: Answered): void => {
    const { route, method, status, ms } = answered;
    metrics.httpMs.observe({ route, method, status }, ms);
    const level = PROBES.has(route) ? "debug" : "info";
    logger[level]({ ...answered, ms: Math.round(ms * 10) / 10 }, "request");
  };
  const doors: Doors = new Doors({
    services,
    ...own.inFront,
    settings: {
      maxBodyBytes: settings.maxBodyBytes,
      version: VERSION,
      cors: settings.cors,
      mode: settings.mode,
      disabled: project.http.disabled,
      mountPrefix: project.http.mountPrefix,
      configurable: headerChooser(project.http.configurableHeaders),
      logged: headerChooser(project.http.loggingHeaders),
      auth: project.auth && (project.auth.openapi ?? {}),
    },
    logger,
    observe,
    tracing,
  });
  entered = doors;
  stack.push(() => doors.close(0));
  await own.start();
  stack.push(() => own.stop());
  const isWorker = settings.role === "worker";
  const at = { host: settings.host, port: settings.port };
  const listening = entrance === "host" ? null : await doors.listen(at, isWorker ? "system" : "all");
  // Graphs may call the server they run in, whoever else may not.
  const inner = listening === null || isWorker ? await doors.listenPrivately(entrance === "host") : listening;
  server_url = inner.url;
  pool.listening(server_url);
  let stopWork = (): void => undefined;
  if (settings.role !== "api") {
    await queue.start({ alone: !isShared });
    stopWork = broker.work({
      free: () => queue.free,
      whenFree: () => queue.whenFree(),
      claim: (runs) => queue.claim(runs),
    });
  }
  webhooks.nudge();
  scheduler.start();
  stack.push(() => scheduler.stop());
  const reconciler = new Reconciler({
    storage: database,
    logger,
    facts: () => factsOf(project, settings, { now: database.now(), isServed: true }),
    onMended: () => {
      queue.nudge();
      broker.wake(1);
    },
  });
  const sweeps = new Sweeps(
    [
      {
        name: "reconciling",
        everyMs: Math.max(settings.reconcileMs, 100),
        atOnce: true,
        run: () => reconciler.round(),
      },
      {
        name: "sweeping events",
        everyMs: Math.min(Math.max(settings.resumableTtlMs / 4, 1000), 30_000),
        run: () => sweepEvents(database, settings.resumableTtlMs),
      },
      {
        name: "sweeping threads",
        everyMs: ttl.sweepMs,
        run: () => sweepThreads({ storage: database, limit: ttl.sweepLimit, onRemoved: stopRemoved }),
      },
      ...storeSweeps(project, store),
      ...(isShared ? [{ name: "looking for webhooks", everyMs: POLL_MS, run: async () => webhooks.nudge() }] : []),
      { name: "sweeping idempotency keys", everyMs: SWEEP_KEYS_MS, run: () => sweepKeys(database) },
      {
        name: "sweeping records of webhook calls",
        everyMs: Math.min(Math.max(settings.deliveriesTtlMs / 4, 1000), 600_000),
        run: () => sweepDeliveries(database, settings.deliveriesTtlMs),
      },
      {
        name: "giving deleted data back to the disk",
        everyMs: Math.max(settings.reclaimMs, 100),
        run: () => database.reclaim(),
      },
      ...(sealing === null
        ? []
        : [
            {
              name: "encrypting what was written before",
              everyMs: 1000,
              run: resealer(database, sealing.cipher, logger),
            },
          ]),
    ],
    onError,
  );
  stack.push(() => sweeps.stop());

  return {
    url: (listening ?? inner).url,
    doors,
    location: database.location,
    get graphs() {
      return graphs;
    },
    async reload(changed) {
      const putInPlace = await own.reload();
      await bundles.build(changed.ui);
      graphs = await pool.reload(changed.graphs);
      specs = changed.graphs;
      types.reset();
      await syncDefaultAssistants(database, specs, database.now());
      await putInPlace();
      return graphs;
    },
    async stop() {
      types.reset();
      // Hints that come now are for others.
      stopWork();
      await sweeps.stop();
      await scheduler.stop();
      await drain(queue, pool, attempts, settings.shutdownGraceMs, logger);
      // What has ended is answered; followers of a run that was handed back are cut off, so that they come again.
      await doors.close(CLOSE_GRACE_MS);
      await own.stop();
      withdraw?.();
      await webhooks.stop();
      logs.close();
      await broker.close();
      await Promise.all([pool.close(), telemetry?.stop()]);
      await database.close();
    },
  };
}

/** Modules of the project that run in this thread look for its variables where they always do. */
function showVariables(project: Project): void {
  for (const [name, value] of Object.entries(graphEnv(project))) if (value !== undefined) process.env[name] ??= value;
}

/** How long a server that starts waits for Redis; then it serves without, until Redis is there. */
const REDIS_PATIENCE_MS = 3000;

async function openBroker(
  { broker: redis, role }: Settings,
  sealing: Sealing | null,
  isShared: boolean,
  logger: Logger,
): Promise<Broker> {
  if (!isShared) return inProcess;
  if (redis === null) {
    logger.warn(
      { role },
      "no REDIS_URI: runs, cancels and ends of other processes on this database are noticed seconds later, and their live events not at all",
    );
    return databaseOnly();
  }
  const { RedisBroker } = await import("./streaming/redis-broker.ts");
  const broker = new RedisBroker({
    ...redis,
    seal: sealing?.cipher ?? null,
    onTrouble: (err) =>
      logger.warn({ err }, "Redis is not to be had: other processes are heard of through the database"),
    onRecovery: () => logger.info("Redis answers again"),
  });
  try {
    await broker.start(REDIS_PATIENCE_MS);
    return broker;
  } catch (error) {
    await broker.close();
    throw error;
  }
}

/** Runs of the thread that began at a place or later, or run now, and where their logs stand. */
function begunOf(storage: Storage, thread_id: string, from: number | null): Promise<Begun[]> {
  return storage.read(async (db) => {
    const begun = await runs.begunOfThread(db, thread_id, from === null ? null : Math.floor(from / 1000));
    const logs = await events.logsOfThread(db, thread_id, from ?? 0);
    const places = new Map(logs.map(({ run_id, place }) => [run_id, place]));
    return begun
      .map(({ run_id, started_at, kwargs: { resumable } }) => {
        const place = places.get(run_id) ?? (started_at ?? 0) * 1000;
        return { run_id, thread_id, resumable, place };
      })
      .filter(({ place }) => from === null || place >= from);
  });
}

/** What vectors are known by: the same name means that they can be compared. */
function embedderName({ store: { index } }: Project): string | null {
  return index === null ? null : `${index.embed} ${index.dims}`;
}

function storeSweeps({ store: { ttl } }: Project, store: Store): Sweep[] {
  if (ttl.sweepMinutes === null) return [];
  return [{ name: "sweeping the store", everyMs: ttl.sweepMinutes * 60_000, run: () => store.sweep() }];
}

/** What seals the data; null when it is stored as it is. */
export function sealingOf({ encryption }: Pick<Settings, "encryption">): Sealing | null {
  if (encryption === null) return null;
  const { key, old, jsonKeys } = encryption;
  return { cipher: new Cipher({ key, old }), jsonKeys };
}

/** What user code sees of the environment. */
function graphEnv({ env }: Project): NodeJS.ProcessEnv {
  const seen = { ...env };
  for (const name of SERVER_SECRETS) delete seen[name];
  return seen;
}

function makePool(
  project: Project,
  settings: Settings,
  server_key: string,
  logger: Logger,
  onStorage: StorageHandler,
): ExecutorPool {
  return new ExecutorPool({
    size: settings.threads,
    limit: settings.threads + SPARE_THREADS,
    settings: {
      graphs: project.graphs,
      store_index: project.store.index,
      project_dir: project.dir,
      server_url: "",
      ...(project.auth === null ? {} : { server_key }),
    },
    tracesToLangsmith: settings.langsmithProject !== null,
    thread: {
      env: graphEnv(project),
      heapMb: settings.executorHeapMb,
      execArgv: settings.mode === "dev" ? ["--enable-source-maps"] : [],
      onStorage,
    },
    silentMs: SILENT_MS,
    spareIdleMs: SPARE_IDLE_MS,
    questionMs: settings.questionMs,
    onDeath: (reason) => logger.error({ reason }, "an executor thread died; it is replaced"),
  });
}

/** Runs stop at their next superstep boundary; those that do not in time are handed back as they are. */
async function drain(
  queue: Queue,
  pool: ExecutorPool,
  attempts: Attempts,
  graceMs: number,
  logger: Logger,
): Promise<void> {
  if (queue.running > 0) logger.info({ runs: queue.running, grace_ms: graceMs }, "draining");
  const stopped = queue.stop();
  pool.drain();
  const timer = setTimeout(() => attempts.abandonAll(), graceMs);
  await stopped;
  clearTimeout(timer);
}
