// Shows a card of the weather beside what it says.

import { AIMessage } from "@langchain/core/messages";
import { Annotation, MessagesAnnotation, START, StateGraph } from "@langchain/langgraph";
import { typedUi, uiMessageReducer } from "@langchain/langgraph-sdk/react-ui/server";

const State = Annotation.Root({
  ...MessagesAnnotation.spec,
  ui: Annotation({ reducer: uiMessageReducer, default: () => [] }),
});

function answer(state, config) {
  const ui = typedUi(config);
  const message = new AIMessage({ id: crypto.randomUUID(), content: "Here it is." });
  ui.push({ name: "weather", props: { city: state.messages.at(-1).text } }, { message });
  return { messages: [message] };
}

export const graph = new StateGraph(State).addNode("answer", answer).addEdge(START, "answer").compile();
