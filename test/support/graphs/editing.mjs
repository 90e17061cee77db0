// A chat whose node does with its messages what the last one says: edits the one before in place, removes it, or answers.
import { AIMessage, RemoveMessage } from "@langchain/core/messages";
import { END, MessagesAnnotation, START, StateGraph } from "@langchain/langgraph";

function act({ messages }) {
  const last = messages.at(-1);
  const before = messages.at(-2);
  switch (last.text) {
    case "edit": {
      const [call] = before.tool_calls;
      call.args.edits = (call.args.edits ?? 0) + 1;
      return { messages: [before] };
    }
    case "remove":
      return { messages: [new RemoveMessage({ id: before.id })] };
    default: {
      const tool_calls = [
        { id: `call-${messages.length}`, name: "note", args: { said: last.text }, type: "tool_call" },
      ];
      return { messages: [new AIMessage({ content: `Message ${messages.length}`, tool_calls })] };
    }
  }
}

export const graph = new StateGraph(MessagesAnnotation)
  .addNode("act", act)
  .addEdge(START, "act")
  .addEdge("act", END)
  .compile();
