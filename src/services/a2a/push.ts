/** Notifications about tasks, as the outbox sends them. Loaded when there is one to send. */

import { V03PushNotificationSerializer } from "@a2a-js/sdk/compat/v0_3/server";
import { V1PushNotificationSerializer } from "@a2a-js/sdk/server";
import type { PushPayload } from "../../engine/webhook-payload.ts";
import type { Notification } from "../../engine/webhooks.ts";
import type { ErrorBody } from "../../errors.ts";
import type { Json } from "../../executor/protocol.ts";
import type { Run } from "../../schemas/runs.ts";
import { stateOf } from "../tasks.ts";
import { ALL, taskOf } from "./task.ts";

const SERIALIZERS = { "0.3": new V03PushNotificationSerializer(), "1.0": new V1PushNotificationSerializer() } as const;

/** The task as its run left it; without what `webhooks.fields` keeps back. Source: A2A, push notifications. */
export function notificationOf({ run, task }: PushPayload, shown: Json): Notification {
  const { values = null, error = null } = JSON.parse(shown) as { values?: unknown; error?: ErrorBody | null };
  const { push, waits } = task;
  const known = run as unknown as Run;
  const view = {
    task_id: task.id ?? known.run_id,
    run: known,
    state: stateOf(known, waits !== null),
    message_id: task.message_id,
    questions: Object.values(waits ?? {}).flat(),
    values,
    error,
  };
  const event = { payload: { $case: "task" as const, value: taskOf(view, ALL) } };
  const { body, contentType } = SERIALIZERS[push.wire].serialize(event, undefined);
  return { body, headers: { "content-type": contentType, ...proofs(push) } };
}

function proofs({ token, authentication }: PushPayload["task"]["push"]): Record<string, string> {
  return {
    ...(token === null ? {} : { "x-a2a-notification-token": token }),
    ...(authentication === null ? {} : { authorization: `${authentication.scheme} ${authentication.credentials}` }),
  };
}
