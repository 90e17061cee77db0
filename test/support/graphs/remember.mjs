// Keeps `note` in the long-term store under `user` and answers with all notes kept so far.
import { Annotation, END, START, StateGraph } from "@langchain/langgraph";

const State = Annotation.Root({ user: Annotation(), note: Annotation(), notes: Annotation() });

async function remember({ user, note }, { store }) {
  const namespace = ["notes", user ?? "anybody"];
  if (note) await store.put(namespace, note, { note });
  const items = await store.search(namespace);
  return { notes: items.map(({ value }) => value.note).sort() };
}

export const graph = new StateGraph(State)
  .addNode("remember", remember)
  .addEdge(START, "remember")
  .addEdge("remember", END)
  .compile();
