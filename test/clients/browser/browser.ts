/** Pages in a real browser: Chromium of the machine, and a server of its own so that every call is cross-origin. */
import { once } from "node:events";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { build, type Plugin } from "esbuild";
import { compile, compileModule } from "svelte/compiler";

/** Chromium of the distribution, or where `CHROMIUM` says. */
export const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";

/** Says what is missing, for `requireOrSkip`. */
export const chromiumMissing = (): string | undefined =>
  existsSync(CHROMIUM) ? undefined : `no ${CHROMIUM}; apt-get install chromium, or name another with CHROMIUM`;

const PAGE = fileURLToPath(new URL("./page.jsx", import.meta.url));
const SVELTE_PAGE = fileURLToPath(new URL("./page.svelte.js", import.meta.url));
const html = (name: string): string =>
  `<!doctype html><title>${name}</title><div id="root"></div><script type="module" src="/${name}.js"></script>`;

/** Serves a page once per package that has `useStream`: `/{name}` is the page with `packages[name]`. */
export async function servePages(packages: Readonly<Record<string, string>>, page = PAGE): Promise<Pages> {
  const bundles = await Promise.all(
    Object.entries(packages).map(async ([name, path]) => {
      return [name, await bundle(path, path.endsWith("/svelte") ? SVELTE_PAGE : page)] as const;
    }),
  );
  const files = new Map<string, [type: string, body: string]>();
  for (const [name, script] of bundles) {
    files.set(`/${name}`, ["text/html", html(name)]);
    files.set(`/${name}.js`, ["text/javascript", script]);
  }
  const server = createServer((request, response) => {
    const file = files.get(new URL(request.url ?? "", "http://page").pathname);
    response.writeHead(file === undefined ? 404 : 200, { "content-type": file?.[0] ?? "text/plain" }).end(file?.[1]);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await once(server.close(), "close");
    },
  };
}

export interface Pages extends AsyncDisposable {
  readonly url: string;
}

async function bundle(path: string, page: string): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [page],
    alias: { "use-stream": path },
    bundle: true,
    format: "esm",
    minify: true,
    jsx: "automatic",
    define: { "process.env.NODE_ENV": '"production"' },
    plugins: [svelte],
    logLevel: "error",
    write: false,
  });
  return outputFiles[0]?.text ?? "";
}

/** Components, and modules with runes: `@langchain/svelte` is such, for the bundler of whoever uses it. */
const svelte: Plugin = {
  name: "svelte",
  setup({ onLoad }) {
    onLoad({ filter: /\.svelte(\.js)?$/ }, async ({ path }) => {
      const source = await readFile(path, "utf8");
      const options = { filename: path, generate: "client" } as const;
      const { js } = path.endsWith(".js") ? compileModule(source, options) : compile(source, options);
      return { contents: js.code, loader: "js" };
    });
  },
};
