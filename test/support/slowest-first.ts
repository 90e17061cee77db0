/** The order of test files: the long ones begin first, so that none of them ends alone while a core idles. */
import { basename } from "node:path";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** By seconds on a quiet machine, the longest first. What is not here follows, as Vitest sorts it. */
const LONG = [
  "kill-rounds",
  "races",
  "threads",
  "use-stream",
  "schemas",
  "processes",
  "move",
  "crash",
  "traces",
  "doctor",
  "redis",
  "bad-input",
  "mount",
  "shutdown",
];

export class SlowestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    return sorted.sort((a, b) => groupOf(a) - groupOf(b) || placeOf(a) - placeOf(b));
  }
}

const groupOf = ({ project }: TestSpecification): number => project.config.sequence.groupOrder;

function placeOf({ moduleId }: TestSpecification): number {
  const place = LONG.indexOf(basename(moduleId, ".test.ts"));
  return place === -1 ? LONG.length : place;
}
