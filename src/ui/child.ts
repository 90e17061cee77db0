/** Entry of the process that bundles components: one project, one answer. */
import { basename, dirname } from "node:path";
import { build, type Plugin } from "esbuild";
import { tailwindPlugin } from "esbuild-plugin-tailwindcss";
import type { UiComponents, UiSettings } from "../config.ts";
import type { Bundled, UiBundle, UiFile } from "./bundles.ts";

/** What a page brings: two copies of React in one page do not work. Source: `bootstrapUiContext` of the SDK. */
const PAGE_BRINGS = [
  "react",
  "react-dom",
  "react/jsx-runtime",
  "@langchain/langgraph-sdk/react",
  "@langchain/langgraph-sdk/react-ui",
];

process.once("message", async (project: UiSettings) => {
  process.send?.(await bundleAll(project));
});
process.on("disconnect", () => process.exit());

async function bundleAll({ dir, components, shared }: UiSettings): Promise<Bundled> {
  const bundles: UiBundle[] = [];
  for (const each of components) {
    try {
      bundles.push(await bundle(each, dir, [...PAGE_BRINGS, ...shared]));
    } catch (error) {
      const problem = error instanceof Error ? error.message : String(error);
      return { ...each, problem };
    }
  }
  return { bundles };
}

async function bundle({ namespace, file }: UiComponents, dir: string, brought: readonly string[]): Promise<UiBundle> {
  const global = globalOf(namespace);
  const { outputFiles } = await build({
    stdin: { contents: entry(file), resolveDir: dirname(file), sourcefile: "ui.js" },
    absWorkingDir: dir,
    outdir: "/",
    entryNames: "ui-[hash]",
    assetNames: "[name]-[hash]",
    bundle: true,
    minify: true,
    platform: "browser",
    target: "es2022",
    format: "iife",
    globalName: global,
    jsx: "automatic",
    jsxDev: false,
    define: { "process.env.NODE_ENV": '"production"' },
    loader: { ".png": "dataurl", ".jpg": "dataurl", ".svg": "dataurl", ".woff": "dataurl", ".woff2": "dataurl" },
    logLevel: "silent",
    write: false,
    plugins: [fromPage(brought), tailwindPlugin()],
  });
  return { namespace, global, files: outputFiles.map(({ path, contents }) => fileOf(basename(path), contents)) };
}

/** `render` puts a component where the page's `LoadExternalComponent` waits for it. Source: its `LGUI_EXT_STORE`. */
const entry = (file: string): string => `
  import components from ${JSON.stringify(file)};
  export function render(name, shadowRootId) {
    const component = Object.hasOwn(components, name) ? components[name] : undefined;
    if (component === undefined) throw new Error("ui: there is no component " + JSON.stringify(name));
    const target = document.createElement("div");
    document.getElementById(shadowRootId).shadowRoot.appendChild(target);
    window[Symbol.for("LGUI_EXT_STORE")].respond(shadowRootId, component, target);
  }`;

/** Any namespace as a name of JavaScript, no two alike. */
function globalOf(namespace: string): string {
  return `__LGUI_${namespace.replaceAll(/[^A-Za-z0-9_]/g, (sign) => `$${sign.codePointAt(0)?.toString(16)}$`)}`;
}

/** Modules that are asked of the page when the script runs. */
function fromPage(names: readonly string[]): Plugin {
  const brought = new Set(names);
  return {
    name: "from-page",
    setup({ onResolve, onLoad }) {
      onResolve({ filter: /.*/ }, ({ path }) => (brought.has(path) ? { path, namespace: "page" } : undefined));
      onLoad({ filter: /.*/, namespace: "page" }, ({ path }) => ({
        contents: `module.exports = window[Symbol.for("LGUI_REQUIRE")](${JSON.stringify(path)});`,
        loader: "js",
      }));
    },
  };
}

function fileOf(name: string, contents: Uint8Array): UiFile {
  if (name.endsWith(".js")) return { name, type: "text/javascript", contents };
  return { name, type: name.endsWith(".css") ? "text/css" : "application/octet-stream", contents };
}
