/** What our server takes or answers beyond the list, and why. Anything else that is more fails the run. */

interface Ours {
  readonly covers: (operation: string, place: string) => boolean;
  readonly why: string;
}

const at = (operations: RegExp, places: RegExp, why: string): Ours => ({
  covers: (operation, place) => operations.test(operation) && places.test(place),
  why,
});

export const OURS: readonly Ours[] = [
  at(/(POST|PATCH) .*\/runs/, /stream_mode(\[\])?$/, "the mode `tools`, which JS clients ask for"),
  at(/POST .*\/runs/, /^body(\[\])?\.command\.graph$/, "RemoteGraph sends its commands whole"),
  at(/POST \/threads$/, /^body\.supersteps\[\]\.updates\[\]\.command\.graph$/, "commands are the same everywhere"),
  at(/PATCH \/threads\/\{thread_id\}$/, /^(header\.Prefer|answer\.204)$/, "`return=minimal`"),
  at(/POST .*\/runs/, /^body(\[\])?\.strict_resume$/, "newer SDKs send it"),
  at(
    /POST .*\/runs/,
    /^body(\[\])?\.(langsmith_tracer(\.(project_name|example_id))?|langsmith_session_name)$/,
    "SDKs send it for traces",
  ),
  at(/\/runs/, /^body(\[\])?\.config\.metadata$/, "metadata where LangChain puts it"),
  at(/POST \/threads\/.*\/runs/, /^body\.checkpoint_id$/, "SDKs send it beside `checkpoint`"),
  at(/POST .*\/runs/, /^body(\[\])?\.on_disconnect$/, "taken by all ways to create a run alike"),
  at(/POST .*\/runs\/(stream|wait)$/, /^query\.(on_disconnect|cancel_on_disconnect)$/, "as samples write it"),
  at(/POST \/runs/, /^body(\[\])?\.interrupt_(before|after)$/, "older SDKs send it without a thread"),
  at(/GET .*\/stream$/, /^query\.(last_event_id|stream_mode)$/, "for clients that cannot set headers; several modes"),
  at(
    / \/(threads|runs)$|\/commands$|\/runs(\/(stream|wait|batch))?$/,
    /^header\.Idempotency-Key$/,
    "the same request sent twice",
  ),
  at(/\/runs\/crons/, /^body\.input$/, "as a run's: any JSON"),
  at(/\/runs\/crons/, /^body\.checkpoint_during$/, "as a run's"),
  at(/POST \/threads\/.*\/runs\/crons$/, /^body\.on_run_completed$/, "`keep`, which it does anyway"),
  at(/POST \/runs\/crons\/count$/, /^body\.enabled$/, "the filters of the search"),
  at(
    /(POST|PATCH) \/threads(\/\{thread_id\})?$/,
    /^body\.ttl$/,
    "a bare number of minutes, as SDKs let people write it",
  ),
  at(/POST .*\/history$/, /^body\.before$/, "the id of a checkpoint alone"),
  at(/\/store\/items/, /^answer\.503$/, "the model that embeds texts does not answer"),
  at(
    /\/(state|checkpoint|history|state\/\{checkpoint_id\})$/,
    /^(query|body)\.select$/,
    "newer SDKs ask for some fields only",
  ),
  at(/POST .*\/state$/, /^(answer\.409|body\.checkpoint_id)$/, "a thread whose run is under way; the id alone"),
  at(/GET .*\/state/, /^query\.checkpoint_(id|ns)$/, "a checkpoint by query, of a subgraph too"),
  at(/POST \/mcp\/$/, /^answer\.202$/, "a notification, which has no answer"),
  at(/POST .*\/cancel$/, /^answer\.409$/, "a run that has ended cannot be cancelled"),
];
