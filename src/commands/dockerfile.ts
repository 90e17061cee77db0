/** `skein dockerfile`: a Dockerfile for the project, small and without root. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { basename, dirname, join, posix, relative, sep } from "node:path";
import { z } from "zod";
import { ConfigError, loadProject } from "../config.ts";

export interface DockerfileFlags {
  readonly config?: string;
}

/** What of `langgraph.json` is about the image. */
const ImageKeys = z.looseObject({
  node_version: z.union([z.string(), z.number()]).nullish(),
  image_distro: z.string().nullish(),
  base_image: z.string().nullish(),
  dockerfile_lines: z.array(z.string()).nullish(),
  env: z.unknown().optional(),
});

const Manifest = z.looseObject({ dependencies: z.record(z.string(), z.string()).optional() });

/** Prints it; with a path, writes it there, with a `.dockerignore` beside it where there is none. */
export async function dockerfile(
  flags: DockerfileFlags,
  path: string | undefined,
  print: (text: string) => void,
): Promise<number> {
  const { file } = loadProject(flags.config ?? ".", process.env);
  const text = dockerfileOf(file);
  if (path === undefined) {
    print(text.trimEnd());
    return 0;
  }
  writeFileSync(path, text);
  const ignore = join(dirname(path), ".dockerignore");
  const isNew = !existsSync(ignore);
  if (isNew) writeFileSync(ignore, DOCKERIGNORE);
  print(`Wrote ${path}${isNew ? ` and ${ignore}` : `; ${ignore} is as it was`}.`);
  return 0;
}

/** What never goes into an image: secrets, data, and what the image makes itself. */
export const DOCKERIGNORE = `${["**/node_modules", "**/.skein", "**/.git", "**/.env", "**/.env.*", "Dockerfile", ".dockerignore"].join("\n")}\n`;

const OLDEST_NODE = 20;
const DEFAULT_NODE = "22";
const DISTROS: Readonly<Record<string, string>> = {
  debian: "slim",
  bookworm: "bookworm-slim",
  bullseye: "bullseye-slim",
};

/** The Dockerfile of the project whose `langgraph.json` this is. Throws ConfigError when no image can be made of it. */
export function dockerfileOf(file: string): string {
  const parsed = ImageKeys.safeParse(JSON.parse(readFileSync(file, "utf8")));
  if (!parsed.success)
    throw new ConfigError(`${file}: ${parsed.error.issues[0]?.path.join(".")}: ${parsed.error.issues[0]?.message}`);
  const keys = parsed.data;
  const root = contextOf(dirname(file));
  const tarballs = tarballsOf(root);
  const project = relative(root, file).split(sep).join(posix.sep);
  const workdir = posix.join("/app", posix.dirname(project));
  const config = basename(file) === "langgraph.json" ? [] : ["--config", basename(file)];
  const envFile = typeof keys.env === "string" ? [posix.join(workdir, keys.env)] : [];
  return [
    ...HEAD,
    ...(keys.base_image == null
      ? []
      : [`# base_image (${oneLine(keys.base_image)}) holds another server: it is not used.`]),
    `FROM node:${nodeOf(keys.node_version)}-${distroOf(keys.image_distro)} AS base`,
    ...(keys.dockerfile_lines ?? []),
    "",
    "FROM base AS build",
    "WORKDIR /app",
    "COPY package.json package-lock.json ./",
    ...tarballs.map((tarball) => `COPY ${tarball} ./${posix.dirname(tarball)}/`.replace("/./", "/")),
    "RUN npm ci --omit=dev --no-audit --no-fund",
    "COPY . .",
    ...envFile.flatMap((env) => [
      "# langgraph.json names this file. Its secrets stay out of the image: pass them as variables when it runs.",
      `RUN touch ${env}`,
    ]),
    "",
    "FROM base",
    "ENV NODE_ENV=production LANGGRAPH_SERVER_HOST=0.0.0.0 LANGGRAPH_SERVER_PORT=2024",
    `WORKDIR ${workdir}`,
    "COPY --from=build /app /app",
    "# The embedded database, where there is no DATABASE_URI: mount a volume here to keep it.",
    `RUN mkdir -p ${posix.join(workdir, ".skein")} && chown node:node ${posix.join(workdir, ".skein")}`,
    "USER node",
    "EXPOSE 2024",
    `HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 CMD ${JSON.stringify(["node", "-e", HEALTH])}`,
    "# No shell in between: SIGTERM reaches the server, which drains.",
    "STOPSIGNAL SIGTERM",
    `ENTRYPOINT ${JSON.stringify(["node", "/app/node_modules/skein/dist/cli.js"])}`,
    `CMD ${JSON.stringify(["start", ...config])}`,
    "",
  ].join("\n");
}

const HEAD = [
  "# Made by `skein dockerfile`.",
  "# Skein is on no registry: the image installs the tarball that package.json names (`npm pack` in Skein's folder makes it,",
  "# `npm install ./skein-….tgz` in the project writes it down). It is copied from the build context.",
];

/** Exits with 0 when the server answers. */
const HEALTH =
  "fetch('http://127.0.0.1:'+(process.env.LANGGRAPH_SERVER_PORT||2024)+'/ok').then(r=>process.exit(r.ok?0:1),()=>process.exit(1))";

const oneLine = (text: string): string => text.replaceAll(/\s+/g, " ");

function nodeOf(version: string | number | null | undefined): string {
  const text = String(version ?? DEFAULT_NODE);
  if (/^\d+(\.\d+){0,2}$/.test(text) && Number.parseInt(text, 10) >= OLDEST_NODE) return text;
  throw new ConfigError(`node_version: "${text}" is no version of Node from ${OLDEST_NODE} on`);
}

function distroOf(distro: string | null | undefined): string {
  const variant = DISTROS[distro ?? "debian"];
  if (variant !== undefined) return variant;
  throw new ConfigError(`image_distro: "${distro}" is not one of ${Object.keys(DISTROS).join(", ")}`);
}

/** The build context: the folder, here or above, whose lock file says what is installed. */
function contextOf(dir: string): string {
  if (existsSync(join(dir, "package-lock.json"))) return dir;
  if (dirname(dir) === dir)
    throw new ConfigError("there is no package-lock.json beside langgraph.json or above: run npm install first");
  return contextOf(dirname(dir));
}

/** Packages that lie in the project itself, Skein among them. */
function tarballsOf(root: string): string[] {
  const manifest = Manifest.safeParse(JSON.parse(readFileSync(join(root, "package.json"), "utf8")));
  const { skein, ...others } = manifest.data?.dependencies ?? {};
  if (skein === undefined) {
    throw new ConfigError(
      `${join(root, "package.json")} does not name skein. Run npm pack in Skein's folder, copy the tarball here, and run npm install ./skein-….tgz`,
    );
  }
  const local = [skein, ...Object.values(others)]
    .filter((place) => place.startsWith("file:"))
    .map((place) => place.slice(5));
  for (const place of local) {
    if (place.startsWith("..") || !/\.t(ar\.)?gz$/.test(place)) {
      throw new ConfigError(
        `package.json names ${place}, which an image cannot install: pack it (npm pack) into the project`,
      );
    }
  }
  return local;
}
