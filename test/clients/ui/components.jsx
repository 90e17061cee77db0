import { useStreamContext } from "@langchain/langgraph-sdk/react-ui";
import { useState } from "react";
import "./components.css";

function Weather({ city }) {
  const { messages } = useStreamContext();
  const [days, setDays] = useState(1);
  return (
    <section className="card p-4">
      <h2>{city}</h2>
      <p>
        {days} days, {messages.length} messages
      </p>
      <button type="button" onClick={() => setDays(days + 1)}>
        More days
      </button>
    </section>
  );
}

export default { weather: Weather };
