/**
 * A person in the loop: the graph drafts a payment, then stops until somebody decides.
 * Resume it with `{ command: { resume: { decision: "approve" } } }`; `{ decision: "edit", amount: 20 }`
 * asks again with the new amount, `{ decision: "reject", reason: "…" }` ends it.
 */
import { AIMessage } from "@langchain/core/messages";
import { Command, END, interrupt, MessagesValue, START, StateGraph, StateSchema } from "@langchain/langgraph";
import { z } from "zod";
import { lastHumanText } from "../scripted-model.ts";

const Payment = z.object({ payee: z.string(), amount: z.number().positive() });

const Decision = z.discriminatedUnion("decision", [
  z.object({ decision: z.literal("approve") }),
  z.object({ decision: z.literal("edit"), amount: z.number().positive() }),
  z.object({ decision: z.literal("reject"), reason: z.string().default("no reason given") }),
]);

const State = new StateSchema({
  messages: MessagesValue,
  payment: Payment.nullable().default(null),
  outcome: z.enum(["paid", "rejected"]).nullable().default(null),
});
type StateType = typeof State.State;

function draft({ messages }: StateType) {
  const [, amount = "50", payee = "Ada"] =
    /pay\D*(\d+(?:\.\d+)?)\D*?to\s+(\p{L}+)/iu.exec(lastHumanText(messages)) ?? [];
  const payment = { payee, amount: Number(amount) };
  return { payment, outcome: null, messages: [new AIMessage(`I drafted a payment of ${amount} to ${payee}.`)] };
}

function approve({ payment }: StateType) {
  // Everything above an interrupt runs again when the run resumes, so nothing here has an effect before it.
  const answer = Decision.parse(interrupt({ question: "May I make this payment?", payment }));
  switch (answer.decision) {
    case "approve":
      return new Command({ goto: "pay" });
    case "edit":
      return new Command({ goto: "approve", update: { payment: { ...payment, amount: answer.amount } } });
    case "reject":
      return new Command({ goto: END, update: rejected(answer.reason) });
    default:
      return answer satisfies never;
  }
}

const rejected = (reason: string) => ({
  outcome: "rejected" as const,
  messages: [new AIMessage(`Payment rejected: ${reason}.`)],
});

function pay({ payment }: StateType) {
  const { payee, amount } = Payment.parse(payment);
  return { outcome: "paid" as const, messages: [new AIMessage(`Paid ${amount} to ${payee}.`)] };
}

export const graph = new StateGraph(State)
  .addNode("draft", draft)
  .addNode("approve", approve, { ends: ["approve", "pay", END] })
  .addNode("pay", pay)
  .addEdge(START, "draft")
  .addEdge("draft", "approve")
  .addEdge("pay", END)
  .compile();
