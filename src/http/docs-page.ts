/**
 * `GET /docs`: the API reference as one page without any outside resource, so it works offline.
 * It reads `openapi.json` relative to its own URL, so it works behind a path prefix too.
 */
export const DOCS_PAGE = /* html */ `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>API reference</title>
<style>
:root {
  color-scheme: light dark;
  --line: color-mix(in srgb, currentColor 18%, transparent);
  --soft: color-mix(in srgb, currentColor 6%, transparent);
}
* {
  box-sizing: border-box;
}
body {
  font:
    15px / 1.5 system-ui,
    sans-serif;
  margin: 0 auto;
  max-width: 60rem;
  padding: 1.5rem 1rem 6rem;
}
h1 {
  margin: 0;
}
h2 {
  margin: 2.2rem 0 0.6rem;
}
code,
pre,
textarea,
input,
.path {
  font-family: ui-monospace, monospace;
  font-size: 0.9em;
}
details.op {
  border: 1px solid var(--line);
  border-radius: 0.5rem;
  margin: 0.4rem 0;
}
details.op > summary {
  padding: 0.5rem 0.75rem;
  cursor: pointer;
  display: flex;
  gap: 0.75rem;
  align-items: baseline;
  flex-wrap: wrap;
}
details.op > div {
  padding: 0 0.75rem 0.75rem;
  border-top: 1px solid var(--line);
}
.method {
  font-weight: 700;
  width: 3.2rem;
  text-transform: uppercase;
  font-size: 0.8em;
}
.get {
  color: #1769c2;
}
.post {
  color: #17803d;
}
.put,
.patch {
  color: #a35a00;
}
.delete {
  color: #b91c1c;
}
.note {
  opacity: 0.75;
}
table {
  border-collapse: collapse;
  width: 100%;
}
td,
th {
  text-align: left;
  vertical-align: top;
  padding: 0.25rem 0.5rem 0.25rem 0;
  border-bottom: 1px solid var(--line);
}
pre,
textarea {
  background: var(--soft);
  border: 1px solid var(--line);
  border-radius: 0.4rem;
  padding: 0.5rem;
  width: 100%;
  overflow: auto;
  max-height: 26rem;
  color: inherit;
  margin: 0.3rem 0;
}
input {
  width: 100%;
  padding: 0.25rem 0.4rem;
}
textarea {
  min-height: 7rem;
}
button {
  padding: 0.3rem 0.9rem;
  margin: 0.4rem 0.4rem 0 0;
  cursor: pointer;
}
h4 {
  margin: 0.9rem 0 0.2rem;
}
</style>
<header><h1 id="title">API reference</h1><p class="note" id="about">Loading …</p></header>
<main id="main"></main>
<script type="module">
const base = new URL(".", location.href);
const el = (tag, props, ...children) => {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children.filter((child) => child != null));
  return node;
};
const main = document.getElementById("main");

const response = await fetch(new URL("openapi.json", base)).catch((error) => ({
  ok: false,
  statusText: String(error),
}));
if (!response.ok)
  document.getElementById("about").textContent = "openapi.json could not be read: " + response.statusText;
else show(await response.json());

function show(doc) {
  document.title = doc.info.title + " API";
  document.getElementById("title").textContent = doc.info.title + " " + doc.info.version;
  document
    .getElementById("about")
    .replaceChildren(doc.info.description ?? "", " ", el("a", { href: "openapi.json", textContent: "openapi.json" }));
  const groups = new Map();
  for (const [path, methods] of Object.entries(doc.paths ?? {}))
    for (const [method, op] of Object.entries(methods)) {
      if (!op || !op.responses) continue;
      const tag = op.tags?.[0] ?? "Other";
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(operation(doc, path, method, op));
    }
  for (const [tag, nodes] of groups) main.append(el("h2", { textContent: tag }), ...nodes);
}

function operation(doc, path, method, op) {
  const body = el("div");
  const details = el(
    "details",
    { className: "op" },
    el(
      "summary",
      {},
      el("span", { className: "method " + method, textContent: method }),
      el("span", { className: "path", textContent: path }),
      el("span", { className: "note", textContent: op.summary ?? "" }),
    ),
    body,
  );
  details.addEventListener("toggle", () => {
    if (details.open && !body.hasChildNodes()) fill(doc, path, method, op, body);
  });
  return details;
}

function fill(doc, path, method, op, body) {
  const inputs = new Map();
  if (op.description) body.append(el("p", { textContent: op.description }));
  if (op.parameters?.length) {
    const rows = op.parameters.map((parameter) => {
      const input = el("input", { placeholder: String(parameter.schema?.default ?? "") });
      inputs.set(parameter, input);
      return el(
        "tr",
        {},
        el("td", {}, el("code", { textContent: parameter.name + (parameter.required ? " *" : "") })),
        el("td", { className: "note", textContent: parameter.in }),
        el("td", {
          textContent: brief(parameter.schema) + (parameter.description ? ": " + parameter.description : ""),
        }),
        el("td", {}, input),
      );
    });
    body.append(el("h4", { textContent: "Parameters" }), el("table", {}, ...rows));
  }
  const schema = op.requestBody?.content?.["application/json"]?.schema;
  let text = null;
  if (schema) {
    text = el("textarea", { spellcheck: false, value: JSON.stringify(sample(doc, schema, 0), null, 2) });
    body.append(
      el("h4", { textContent: "Body" + (op.requestBody.required ? " *" : "") }),
      schemaBox(doc, schema),
      text,
    );
  }
  body.append(el("h4", { textContent: "Responses" }));
  for (const [status, answer] of Object.entries(op.responses)) {
    const type = Object.keys(answer.content ?? {})[0];
    body.append(
      el(
        "p",
        {},
        el("code", { textContent: status }),
        " " + (answer.description ?? ""),
        el("span", { className: "note", textContent: type ? " (" + type + ")" : "" }),
      ),
    );
    const shape = type && answer.content[type].schema;
    if (shape && status === "200") body.append(schemaBox(doc, shape));
  }
  body.append(tryIt(path, method, inputs, text));
}

function tryIt(path, method, inputs, text) {
  const out = el("pre", { hidden: true });
  const stop = el("button", { textContent: "Stop", disabled: true });
  const send = el("button", {
    textContent: "Send",
    onclick: async () => {
      let target = path;
      const query = new URLSearchParams();
      const headers = {};
      for (const [{ name, in: where }, { value }] of inputs) {
        if (where === "path") target = target.replace("{" + name + "}", encodeURIComponent(value));
        else if (value !== "" && where === "query") query.append(name, value);
        else if (value !== "" && where === "header") headers[name] = value;
      }
      if (text) headers["content-type"] = "application/json";
      const abort = new AbortController();
      stop.onclick = () => abort.abort();
      stop.disabled = false;
      out.hidden = false;
      out.textContent = "…";
      try {
        const answer = await fetch(new URL("." + target + (query.size ? "?" + query : ""), base), {
          method: method.toUpperCase(),
          headers,
          body: text ? text.value : undefined,
          signal: abort.signal,
        });
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        let all = "";
        const head = answer.status + " " + answer.statusText + "\\n\\n";
        for (let part = await reader.read(); !part.done; part = await reader.read()) {
          all += part.value;
          out.textContent = head + all;
        }
        try {
          all = JSON.stringify(JSON.parse(all), null, 2);
        } catch {
          /* not JSON: shown as it came */
        }
        out.textContent = head + all;
      } catch (error) {
        out.textContent += "\\n" + error;
      }
      stop.disabled = true;
    },
  });
  return el("div", {}, send, stop, out);
}

const resolve = (doc, schema) =>
  schema?.$ref
    ? (schema.$ref
        .slice(2)
        .split("/")
        .reduce((at, key) => at?.[key], doc) ?? {})
    : (schema ?? {});
const schemaBox = (doc, schema) =>
  el(
    "details",
    {},
    el("summary", { textContent: "Schema: " + brief(schema) }),
    el("pre", { textContent: JSON.stringify(expand(doc, schema, 0), null, 2) }),
  );

function brief(schema) {
  if (!schema) return "any";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.enum) return schema.enum.join(" | ");
  const several = schema.anyOf ?? schema.oneOf;
  if (several) return several.map(brief).join(" | ");
  const type = [schema.type ?? "any"].flat().join(" | ");
  return schema.items ? type + " of " + brief(schema.items) : type;
}

function expand(doc, schema, depth) {
  const plain = resolve(doc, schema);
  if (depth > 4 || typeof plain !== "object" || plain === null) return plain;
  const copy = Array.isArray(plain) ? [] : {};
  for (const [key, value] of Object.entries(plain)) copy[key] = expand(doc, value, depth + (schema?.$ref ? 1 : 0));
  return copy;
}

function sample(doc, schema, depth) {
  const plain = resolve(doc, schema);
  const type = [plain.type].flat()[0];
  if (plain.default !== undefined) return plain.default;
  if (plain.enum) return plain.enum[0];
  if (type === "array") return depth < 2 && depth > 0 ? [] : [sample(doc, plain.items, depth + 1)];
  if (type === "object" || plain.properties)
    return Object.fromEntries(
      (plain.required ?? []).map((key) => [key, sample(doc, plain.properties[key], depth + 1)]),
    );
  return type === "integer" || type === "number" ? 0 : type === "boolean" ? false : type === "string" ? "" : null;
}
</script>
</html>
`;
