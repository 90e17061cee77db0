/** Tools of the `agent` example. They answer without a network and always the same. */
import { tool } from "langchain";
import { z } from "zod";
import { calculate } from "./calculate.ts";

const WEATHER: Readonly<Record<string, string>> = {
  berlin: "14 °C and drizzle",
  lisbon: "24 °C and sunny",
  paris: "18 °C and cloudy",
  reykjavik: "6 °C and windy",
  tokyo: "19 °C and clear",
};

export const weather = tool(({ city }) => WEATHER[city.toLowerCase()] ?? `No station in ${city}`, {
  name: "weather",
  description: "The weather in a city right now.",
  schema: z.object({ city: z.string().describe("Name of the city, in English") }),
});

export const calculator = tool(({ expression }) => String(calculate(expression)), {
  name: "calculator",
  description: "Works out an arithmetic expression of + - * / and parentheses.",
  schema: z.object({ expression: z.string().describe('For example "(3 + 4) * 12"') }),
});

export const clock = tool(({ timeZone }) => new Date().toLocaleString("en-GB", { timeZone }), {
  name: "clock",
  description: "The date and time in a time zone.",
  schema: z.object({ timeZone: z.string().describe('IANA name, for example "Europe/Berlin"') }),
});
