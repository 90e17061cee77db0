/** Says who asks, and who may see the answer. */
import { AIMessage } from "@langchain/core/messages";
import { MessagesAnnotation, StateGraph } from "@langchain/langgraph";

interface User {
  readonly identity: string;
  readonly org: string;
}

export const graph = new StateGraph(MessagesAnnotation)
  .addNode("answer", (_state, { configurable }) => {
    const user = configurable?.langgraph_auth_user as User | undefined;
    return { messages: [new AIMessage(user ? `You are ${user.identity} of ${user.org}.` : "Nobody had to log in.")] };
  })
  .addEdge("__start__", "answer")
  .compile();
