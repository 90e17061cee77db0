import { expect, test } from "vitest";
import { textsAt } from "../../src/executor/text-paths.ts";

const value = {
  title: "Birds",
  year: 1999,
  draft: false,
  none: null,
  meta: { title: "On birds", deep: { a: "x" } },
  chapters: [{ content: "one" }, { content: "two", notes: ["n1", "n2"] }, { other: 1 }],
  authors: ["Ann", "Bob"],
  "": "empty",
};

test.each<[string, string[]]>([
  ["$", [JSON.stringify(value, null, 2)]],
  ["title", ["Birds"]],
  ["$.title", ["Birds"]],
  ["meta.title", ["On birds"]],
  ["meta.deep", ['{\n  "a": "x"\n}']],
  ["year", ["1999"]],
  ["draft", ["false"]],
  ["none", []],
  ["missing", []],
  ["title.missing", []],
  ["toString", []],
  ["chapters[*].content", ["one", "two"]],
  ["chapters[*].notes[*]", ["n1", "n2"]],
  ["chapters[1].content", ["two"]],
  ["authors[0]", ["Ann"]],
  ["authors[-1]", ["Bob"]],
  ["authors[7]", []],
  ["authors[x]", []],
  ["title[0]", []],
  ["meta.*", ["On birds", '{\n  "a": "x"\n}']],
  ["{title, meta.title,missing}", ["Birds", "On birds"]],
])("%s", (path, texts) => {
  expect(textsAt(value, path)).toEqual(texts);
});
