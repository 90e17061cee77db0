/** The parts of a state that a client asks for. */

export const STATE_FIELDS = [
  "values",
  "next",
  "tasks",
  "checkpoint",
  "metadata",
  "created_at",
  "parent_checkpoint",
  "interrupts",
  "checkpoint_id",
  "parent_checkpoint_id",
] as const;

/** `values.<key>` stands for one key of the values. */
const KEY = "values.";

export const isStateField = (field: string): boolean =>
  (STATE_FIELDS as readonly string[]).includes(field) || (field.startsWith(KEY) && field.length > KEY.length);

/** Only the fields asked for, in the state's own order; all of them when none is named. */
export function pickState(state: Record<string, unknown>, select: readonly string[] = []): Record<string, unknown> {
  if (select.length === 0) return state;
  const picked = Object.entries(state).flatMap(([field, value]): [string, unknown][] => {
    if (select.includes(field)) return [[field, value]];
    return field === "values" && select.some(isKey) ? [[field, pickValues(value, select)]] : [];
  });
  return Object.fromEntries(picked);
}

const isKey = (field: string): boolean => field.startsWith(KEY);

function pickValues(values: unknown, select: readonly string[]): unknown {
  // The values of a functional graph may be anything: there is no key to pick.
  if (typeof values !== "object" || values === null || Array.isArray(values)) return {};
  return Object.fromEntries(Object.entries(values).filter(([key]) => select.includes(`${KEY}${key}`)));
}
