/**
 * A long report, one section per superstep. Progress is streamed as custom events (`stream_mode: "custom"`),
 * and cancelling the run stops it in the middle of a section.
 */
import { END, type LangGraphRunnableConfig, ReducedValue, START, StateGraph, StateSchema } from "@langchain/langgraph";
import { z } from "zod";
import { pause } from "../scripted-model.ts";

const State = new StateSchema({
  topic: z.string().default("the tides"),
  step_ms: z.number().nonnegative().default(120).describe("Length of one step of work in milliseconds"),
  outline: z.array(z.string()).default([]),
  sections: new ReducedValue(z.array(z.string()).default([]), {
    inputSchema: z.array(z.string()),
    reducer: (written, added) => [...written, ...added],
  }),
  report: z.string().default(""),
});
type StateType = typeof State.State;

const STEPS = ["reading", "checking", "writing"] as const;

/** What a client sees on the `custom` stream. */
interface Progress {
  readonly section: string;
  readonly step: (typeof STEPS)[number];
  readonly percent: number;
}

function plan({ topic }: StateType) {
  return { outline: ["Background", "Findings", "Objections", "Outlook"].map((title) => `${title} of ${topic}`) };
}

async function writeSection({ outline, sections, step_ms }: StateType, config: LangGraphRunnableConfig) {
  const section = outline[sections.length] ?? "Appendix";
  for (const [index, step] of STEPS.entries()) {
    await pause(step_ms, config.signal);
    config.writer?.({ section, step, percent: percent(sections.length * STEPS.length + index + 1, outline) });
  }
  return { sections: [`## ${section}\n\nAll that is known about it fits in this sentence.`] };
}

function percent(done: number, outline: readonly string[]): Progress["percent"] {
  return Math.round((100 * done) / (outline.length * STEPS.length));
}

const nextStep = ({ outline, sections }: StateType) => (sections.length < outline.length ? "section" : "bind");

export const graph = new StateGraph(State)
  .addNode("plan", plan)
  .addNode("section", writeSection)
  .addNode("bind", ({ topic, sections }) => ({ report: [`# Report on ${topic}`, ...sections].join("\n\n") }))
  .addEdge(START, "plan")
  .addEdge("plan", "section")
  .addConditionalEdges("section", nextStep, ["section", "bind"])
  .addEdge("bind", END)
  .compile();
