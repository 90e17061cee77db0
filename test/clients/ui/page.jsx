// An app that shows what the graph pushes to `ui`; the components come from the server.
import { LoadExternalComponent } from "@langchain/langgraph-sdk/react-ui";
import { createRoot } from "react-dom/client";
import { useStream } from "use-stream";

const query = new URLSearchParams(location.search);

function App() {
  const stream = useStream({ apiUrl: query.get("api"), assistantId: query.get("assistant") });
  return (
    <main>
      <button type="button" onClick={() => stream.submit({ messages: [{ type: "human", content: "Oslo" }] })}>
        Ask
      </button>
      {stream.values.ui?.map((ui) => (
        <LoadExternalComponent key={ui.id} stream={stream} message={ui} fallback={<i>loading</i>} />
      ))}
    </main>
  );
}

createRoot(document.getElementById("root")).render(<App />);
