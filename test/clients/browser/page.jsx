// A chat as a user of `useStream` writes it. "use-stream" is one of the packages that have the hook; the query says
// `api`, and `assistant`, `thread`, `gate`, `rejoin`, `transport` where a test wants them.
import { useState } from "react";
import { createRoot } from "react-dom/client";
import { useStream } from "use-stream";

const query = new URLSearchParams(location.search);
const human = (content) => ({ messages: [{ type: "human", content }] });
const config = query.has("gate") ? { configurable: { gate: query.get("gate") } } : undefined;

function Chat() {
  const [threadId, setThreadId] = useState(query.get("thread"));
  const [draft, setDraft] = useState("");
  const stream = useStream({
    apiUrl: query.get("api"),
    assistantId: query.get("assistant") ?? "conversation",
    threadId,
    onThreadId: (id) => {
      setThreadId(id);
      query.set("thread", id);
      history.replaceState(undefined, "", `?${query}`);
    },
    fetchStateHistory: true,
    reconnectOnMount: query.get("rejoin") !== "no",
    filterSubagentMessages: query.has("assistant"),
    // Of v1 this would be a transport of the page's own.
    ...(query.has("transport") && { transport: query.get("transport") }),
  });
  const send = (checkpoint) => {
    const more = { multitaskStrategy: "enqueue", streamSubgraphs: query.has("assistant") };
    stream.submit(human(draft), { config, checkpoint, ...more });
    setDraft("");
  };
  return (
    <main>
      <ul>
        {stream.messages.map((message) => (
          <Message key={message.id} message={message} stream={stream} edit={send} />
        ))}
      </ul>
      {query.has("assistant") && <Work stream={stream} />}
      {stream.interrupt && <Question stream={stream} />}
      {stream.error && <p role="alert">{String(stream.error?.message ?? stream.error)}</p>}
      <input value={draft} onChange={(event) => setDraft(event.target.value)} />
      <button type="button" onClick={() => send()}>
        Send
      </button>
      <button type="button" onClick={() => stream.stop()}>
        Stop
      </button>
      <output>{stream.isLoading ? "working" : "ready"}</output>
    </main>
  );
}

function Message({ message, stream, edit }) {
  const { firstSeenState, branch, branchOptions = [] } = stream.getMessagesMetadata?.(message) ?? {};
  const parent = firstSeenState?.parent_checkpoint;
  const position = branchOptions.indexOf(branch);
  const again = () => stream.submit(undefined, { config, checkpoint: parent });
  return (
    <li>
      <p>{textOf(message)}</p>
      {message.type === "human" ? (
        <button type="button" disabled={!parent} onClick={() => edit(parent)}>
          Edit
        </button>
      ) : (
        <button type="button" disabled={!parent} onClick={again}>
          Again
        </button>
      )}
      {branchOptions.length > 1 && (
        <nav>
          <button type="button" onClick={() => stream.setBranch(branchOptions[position - 1])}>
            Previous
          </button>
          <span>{`${position + 1} of ${branchOptions.length}`}</span>
        </nav>
      )}
    </li>
  );
}

/** Tools at work, and agents at work for this one; each generation has words of its own for them. */
function Work({ stream }) {
  const cards = stream.toolCalls.map(({ call, result, state, ...card }) =>
    call ? { ...call, output: result?.content, status: state } : card,
  );
  return (
    <aside>
      {onceEach(cards).map(({ id, name, args, output, status }) => (
        <pre key={id}>{`${name} ${JSON.stringify(args)} ${status}: ${JSON.stringify(output)}`}</pre>
      ))}
      {[...stream.subagents.values()].map(({ id, name, toolCall, status }) => (
        <strong key={id}>{`${name ?? toolCall.args.subagent_type} ${status}`}</strong>
      ))}
    </aside>
  );
}

const onceEach = (calls) => [...new Map(calls.map((call) => [call.id, call])).values()];

function Question({ stream }) {
  // The hook of event streams has a word of its own for it. It shows what the thread's state says and, unless told which
  // question is meant, answers only what an event has said: one who is quick after a reload would be refused.
  const answer = () =>
    stream.respond
      ? stream.respond("yes", { interruptId: stream.interrupt.id })
      : stream.submit(undefined, { command: { resume: "yes" } });
  return (
    <form>
      <p>{stream.interrupt.value?.question}</p>
      <button type="button" onClick={answer}>
        Yes
      </button>
    </form>
  );
}

const textOf = ({ content }) => (typeof content === "string" ? content : content.map(({ text }) => text).join(""));

createRoot(document.getElementById("root")).render(<Chat />);
