import { FakeListChatModel } from "@langchain/core/utils/testing";
import { MemorySaver } from "@langchain/langgraph";
import { createAgent } from "langchain";

class Model extends FakeListChatModel {
  bindTools() {
    return this;
  }
}
export default createAgent({ model: new Model({ responses: ["yo"] }), tools: [], checkpointer: new MemorySaver() });
