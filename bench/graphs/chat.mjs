// One turn of a chat: a question comes, an answer goes. The thread's list of messages grows by two.
import { AIMessage } from "@langchain/core/messages";
import { END, MessagesAnnotation, START, StateGraph } from "@langchain/langgraph";

const answer = ({ messages }) => ({
  messages: [new AIMessage(`You have said ${(messages.length + 1) / 2} things to me.`)],
});

export const graph = new StateGraph(MessagesAnnotation)
  .addNode("answer", answer)
  .addEdge(START, "answer")
  .addEdge("answer", END)
  .compile();
