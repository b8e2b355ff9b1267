// The page "MictlanX" of Airflow's UI. It is not built: React, React Router and Chakra UI are Airflow's globals.
// Every text reaches the page through React, which escapes it. The routes that it asks are in app.py.

const { createElement: h, Fragment, useCallback, useEffect, useRef, useState } = globalThis.React;
const { Link: RouterLink, useSearchParams } = globalThis.ReactRouterDOM;
const { Alert, Badge, Box, Button, Flex, Heading, Input, Link, List, NativeSelect, Stack, Table, Text } =
  globalThis.ChakraUI;

const REFRESH_MS = 5000;
const CLOCK_MS = 1000;

// Texts

const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

function formatSize(bytes) {
  const units = ["bytes", "KB", "MB", "GB", "TB", "PB"];
  const power = Math.min(bytes < 1000 ? 0 : Math.floor(Math.log10(bytes) / 3), units.length - 1);
  const value = bytes / 1000 ** power;
  return `${value.toLocaleString("en", { maximumFractionDigits: value < 10 && power ? 1 : 0 })} ${units[power]}`;
}

function formatAge(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${plural(Math.floor(seconds / 86400), "day")} ago`;
}

const VERDICTS = {
  failed: { label: "failed", color: "red", urgent: true, hint: "The task’s log has the causes. Fix them and clear the task, which continues." },
  stopped: { label: "stopped", color: "red", urgent: true, hint: "It is incomplete, and no task continues it. Clear its task." },
  silent: { label: "silent", color: "orange", urgent: true, hint: "Nothing was recorded for minutes; its worker may have died." },
  unknown: { label: "unknown", color: "orange", urgent: true },
  running: { label: "running", color: "blue" },
  complete: { label: "complete", color: "green" },
  absent: { label: "no records", color: "gray", hint: "It did not start, or its records were deleted." },
};

const TASK_COLORS = { success: "green", failed: "red", running: "blue", up_for_retry: "orange" };

// Asking the server

async function ask(path, signal) {
  const response = await fetch(new URL(`mictlanx/${path}`, document.baseURI), { signal });
  if (response.ok) return response.json();
  const told = await response.json().catch(() => ({}));
  const message = {
    401: "Your session has ended. Reload the page to sign in.",
    403: "You may not see this. Ask an administrator for the permission.",
  }[response.status];
  const detail = typeof told.detail === "string" ? told.detail : `the server answered with status ${response.status}`;
  throw Object.assign(new Error(message ?? detail), { status: response.status });
}

// Ask for a path, and again every few seconds while `active(data)` is true and the tab is visible.
// An error keeps the data that came before it.
function useAnswer(path, active) {
  const [answer, setAnswer] = useState({});
  const running = useRef(undefined);
  const refresh = useCallback(() => {
    running.current?.abort();
    const controller = (running.current = new AbortController());
    if (path === undefined) return;
    ask(path, controller.signal).then(
      (data) => setAnswer({ path, data, at: Date.now() }),
      (error) => {
        if (!controller.signal.aborted)
          setAnswer((last) => ({ path, data: last.path === path ? last.data : undefined, error, at: Date.now() }));
      },
    );
  }, [path]);
  useEffect(() => {
    refresh();
    return () => running.current?.abort();
  }, [refresh]);
  const current = answer.path === path ? answer : {};
  const again = current.data !== undefined && (active?.(current.data) ?? false);
  useEffect(() => {
    if (!again) return undefined;
    const whenVisible = () => document.visibilityState === "visible" && refresh();
    const timer = setTimeout(whenVisible, REFRESH_MS);
    document.addEventListener("visibilitychange", whenVisible);
    return () => {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", whenVisible);
    };
  }, [again, refresh, current.at]);
  return { ...current, refresh };
}

function useClock() {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), CLOCK_MS);
    return () => clearInterval(timer);
  }, []);
  return now;
}

// Small parts

const Size = ({ bytes }) => h("span", { title: `${bytes.toLocaleString("en")} bytes` }, formatSize(bytes));

function Age({ nanoseconds, now }) {
  const time = nanoseconds / 1e6;
  return h("time", { dateTime: new Date(time).toISOString(), title: new Date(time).toString() }, formatAge(now - time));
}

const Note = ({ status = "error", children }) =>
  h(Alert.Root, { status, size: "sm" }, h(Alert.Indicator), h(Alert.Description, { overflowWrap: "anywhere" }, children));

const Muted = (props) => h(Text, { color: "fg.muted", fontSize: "sm", ...props });

function Section({ title, children }) {
  const id = `mictlanx-${title.toLowerCase().replaceAll(" ", "-")}`;
  return h(Stack, { as: "section", "aria-labelledby": id, gap: 3 }, h(Heading, { as: "h2", id, size: "md" }, title), children);
}

const Card = (props) =>
  h(Stack, { borderColor: "border.emphasized", borderWidth: 1, borderRadius: "md", gap: 2, minW: 0, overflowWrap: "anywhere", p: 3, ...props });

// Join parts with dots; parts that are false are left out.
const Facts = ({ parts }) =>
  h(
    Flex,
    { columnGap: 4, rowGap: 1, wrap: "wrap", color: "fg.muted", fontSize: "sm" },
    parts.filter(Boolean).map((part, index) => h("span", { key: index }, part)),
  );

function ProgressBar({ label, fraction, color }) {
  const percent = Math.floor(fraction * 100);
  return h(
    Flex,
    { align: "center", gap: 3 },
    h(
      Box,
      {
        "aria-label": label,
        "aria-valuemax": 100,
        "aria-valuemin": 0,
        "aria-valuenow": percent,
        bg: "bg.emphasized",
        borderRadius: "full",
        flex: 1,
        h: 2,
        overflow: "hidden",
        role: "progressbar",
      },
      h(Box, { bg: `${color}.solid`, h: "full", transition: "width 0.5s", w: `${fraction * 100}%` }),
    ),
    h(Text, { fontSize: "sm", fontVariantNumeric: "tabular-nums", minW: "5ch", textAlign: "end" }, `${percent}%`),
  );
}

// Bulks

function TaskLink({ task }) {
  const name = task.map_index < 0 ? task.task_id : `${task.task_id} [${task.map_index}]`;
  const names = [task.dag_id, task.run_id, task.task_id].map(encodeURIComponent);
  const mapped = task.map_index < 0 ? "" : `/mapped/${task.map_index}`;
  return h(
    Flex,
    { align: "baseline", display: "inline-flex", gap: 1 },
    h(
      Link,
      { asChild: true, color: "fg.info", title: `${task.dag_id}, ${task.run_id}` },
      h(RouterLink, { to: `/dags/${names[0]}/runs/${names[1]}/tasks/${names[2]}${mapped}` }, `${task.dag_id} › ${name}`),
    ),
    h(Badge, { colorPalette: TASK_COLORS[task.state] ?? "gray", size: "xs" }, (task.state ?? "no state").replaceAll("_", " ")),
  );
}

function fractionDone(bulk) {
  if (bulk.verdict === "complete") return 1;
  const [done, total] =
    bulk.total_size > 0 ? [bulk.acknowledged_size, bulk.total_size] : [bulk.acknowledged, bulk.total_balls];
  return total > 0 ? Math.min(done / total, 1) : 0;
}

function Progress({ bulk, verdict, now }) {
  if (bulk.shards === 0) {
    const text = { running: "Listing its source …", unknown: "A peer does not answer, and it may have the records." };
    return text[bulk.verdict] ? h(Muted, null, text[bulk.verdict]) : null;
  }
  const balls = `${bulk.acknowledged.toLocaleString("en")} of ${plural(bulk.total_balls, "object")}`;
  const whole = bulk.total_size > bulk.acknowledged_size;
  return h(
    Fragment,
    null,
    h(ProgressBar, { label: `${bulk.bulk_id}: ${balls}`, fraction: fractionDone(bulk), color: verdict.color }),
    h(Facts, {
      parts: [
        balls,
        h(Fragment, null, h(Size, { bytes: bulk.acknowledged_size }), whole && " of ", whole && h(Size, { bytes: bulk.total_size })),
        bulk.response_time > 0 && `${formatSize(bulk.acknowledged_size / bulk.response_time)}/s`,
        bulk.shards > 1 && `${bulk.shards_complete} of ${bulk.shards} shards complete`,
        bulk.failed > 0 && h(Text, { as: "span", color: "fg.error" }, `${bulk.failed.toLocaleString("en")} failed`),
        bulk.failed > 0 && bulk.has_retryable_failures && "a retry may still fix failures",
        bulk.last_heard > 0 && h(Fragment, null, bulk.verdict === "complete" ? "finished " : "last heard ", h(Age, { nanoseconds: bulk.last_heard, now })),
        bulk.verdict === "silent" &&
          h(Fragment, null, `shard ${bulk.stalest_shard} last heard `, h(Age, { nanoseconds: bulk.stalest_since, now })),
      ],
    }),
  );
}

function Bulk({ bulk, now }) {
  const verdict = VERDICTS[bulk.verdict] ?? { label: bulk.verdict, color: "gray" };
  const reasons = [
    ...(bulk.problems ?? []),
    ...(bulk.failures ?? []).map((failure) => `${failure.bucket_id}/${failure.key}: ${failure.message}`),
  ];
  const more = bulk.task_count - bulk.tasks.length;
  return h(
    Card,
    { as: "li", "data-verdict": bulk.verdict },
    h(
      Flex,
      { align: "center", columnGap: 3, rowGap: 1, wrap: "wrap" },
      h(Text, { fontWeight: "semibold" }, bulk.bulk_id),
      h(Badge, { colorPalette: verdict.color, variant: "surface" }, verdict.label),
      h(Muted, null, bulk.connection),
    ),
    bulk.error !== null ? h(Note, { status: "warning" }, bulk.error) : h(Progress, { bulk, verdict, now }),
    verdict.hint && h(Muted, null, verdict.hint),
    reasons.length > 0 &&
      h(List.Root, { fontSize: "sm", ps: 5 }, reasons.map((reason, index) => h(List.Item, { key: index }, reason))),
    bulk.task_count > 0 &&
      h(
        Facts,
        { parts: [...bulk.tasks.map((task) => h(TaskLink, { task })), more > 0 && `and ${plural(more, "more task")}`] },
      ),
  );
}

const BulkList = ({ bulks, now }) =>
  h(
    Stack,
    { as: "ul", gap: 3, listStyleType: "none" },
    bulks.map((bulk) => h(Bulk, { key: JSON.stringify([bulk.connection, bulk.bulk_id]), bulk, now })),
  );

const isRunning = (bulk) => bulk.verdict === "running" || bulk.verdict === "silent" || bulk.tasks.some(isActive);
const isActive = (task) => !["success", "failed", "skipped", "upstream_failed", "removed"].includes(task.state);

function Bulks({ answer, now }) {
  const { data, error } = answer;
  if (error && !data) return h(Note, null, error.message);
  if (!data) return h(Muted, { role: "status" }, "Asking the storage …");
  if (data.length === 0)
    return h(Muted, null, "No task of MictlanXBulkPutOperator has run in the DAGs that you may see. Its bulks appear here.");
  const rank = (bulk) => (VERDICTS[bulk.verdict]?.urgent ? 0 : bulk.verdict === "running" ? 1 : 2);
  const sorted = [...data].sort((one, other) => rank(one) - rank(other));
  return h(Fragment, null, error && h(Note, null, error.message), h(BulkList, { bulks: sorted, now }));
}

// The bulk that a link leads to: of a DAG that the user may see, else of a connection that the user may use.
function SelectedBulk({ connection, bulk, now }) {
  const query = new URLSearchParams({ connection, bulk });
  const some = (bulks) => bulks.some(isRunning);
  const ofTasks = useAnswer(`bulks?${query}`, some);
  const unknown = ofTasks.data?.length === 0 || ofTasks.error?.status === 403;
  const stored = useAnswer(
    unknown ? `connections/${encodeURIComponent(connection)}/bulk?${query}` : undefined,
    (found) => isRunning(found),
  );
  const found = ofTasks.data?.[0] ?? stored.data;
  if (found) return h(BulkList, { bulks: [found], now });
  if (stored.error?.status === 403)
    return h(Note, { status: "info" }, `No task that uploads ${bulk} is known in the DAGs that you may see.`);
  const error = stored.error ?? (unknown ? undefined : ofTasks.error);
  return error ? h(Note, null, error.message) : h(Muted, { role: "status" }, "Asking the storage …");
}

// Connections

function Router({ router }) {
  return h(
    Flex,
    { align: "baseline", columnGap: 2, wrap: "wrap", fontSize: "sm" },
    h(Badge, { colorPalette: router.error ? "red" : "green" }, router.error ? "no answer" : `${Math.round(router.milliseconds)} ms`),
    h("span", null, router.router_id),
    h(Muted, { as: "span" }, router.url),
    router.error && h(Text, { as: "span" }, router.error),
  );
}

function Peers({ data }) {
  if (data.peers_error !== null)
    return h(Note, { status: "warning" }, `It is unknown which peers answer: ${data.peers_error}`);
  const answering = data.peers.length - data.silent_peers.length;
  return h(
    Flex,
    { columnGap: 2, wrap: "wrap", fontSize: "sm" },
    data.silent_peers.length > 0
      ? h(Text, { color: "fg.error" }, `${answering} of ${plural(data.peers.length, "peer")} answer; no answer from ${data.silent_peers.join(", ")}`)
      : h(Muted, null, `${plural(data.peers.length, "peer")}, all answer`),
  );
}

function Connection({ connection, active, refreshes, report }) {
  const { data, error, refresh } = useAnswer(`connections/${encodeURIComponent(connection)}/routers`, () => active);
  useEffect(() => {
    if (refreshes > 0) refresh();
  }, [refreshes, refresh]);
  const failed = data?.routers.filter((router) => router.error).length ?? 0;
  const silent = data?.silent_peers.length ?? 0;
  useEffect(() => report(connection, { routers: failed, peers: silent, failed: Boolean(error) }), [failed, silent, error]);
  return h(
    Card,
    { as: "li" },
    h(Text, { fontWeight: "semibold" }, connection),
    error && h(Note, null, error.message),
    !data && !error && h(Muted, { role: "status" }, "Asking its routers …"),
    data?.routers.map((router) => h(Router, { key: router.router_id, router })),
    data && h(Peers, { data }),
  );
}

function Connections({ answer, others, ...rest }) {
  if (answer.error) {
    if (answer.error.status === 403) return h(Muted, null, "Routers and buckets are shown to users who may see connections.");
    return h(Note, null, answer.error.message);
  }
  if (!answer.data) return h(Muted, { role: "status" }, "Looking for connections …");
  const connections = [...new Set([...answer.data, ...others])].sort();
  if (connections.length === 0) return h(Muted, null, "There is no connection of type MictlanX that you may see.");
  return h(
    Box,
    { as: "ul", display: "grid", gap: 3, gridTemplateColumns: "repeat(auto-fill, minmax(min(100%, 24rem), 1fr))", listStyleType: "none" },
    connections.map((connection) => h(Connection, { key: connection, connection, ...rest })),
  );
}

// A bucket

function BucketSection({ choices, selected, now, onSubmit }) {
  const { connection, bucket, prefix } = selected;
  const key = JSON.stringify([connection, bucket, prefix]);
  return h(
    Section,
    { title: "Bucket" },
    choices.length > 0 && h(BucketForm, { connections: choices, key, onSubmit, selected }),
    connection && bucket && h(Bucket, { bucket, connection, now, prefix }),
  );
}

function BucketForm({ connections, selected, onSubmit }) {
  const submit = (event) => {
    event.preventDefault();
    onSubmit(Object.fromEntries(new FormData(event.target)));
  };
  const field = (label, control) =>
    h(Stack, { as: "label", flex: "1 1 12rem", fontSize: "sm", gap: 1 }, h("span", null, label), control);
  return h(
    Flex,
    { align: "end", as: "form", gap: 3, onSubmit: submit, wrap: "wrap" },
    field(
      "Connection",
      h(
        NativeSelect.Root,
        { size: "sm" },
        h(
          NativeSelect.Field,
          { defaultValue: selected.connection, key: connections.join(), name: "connection" },
          connections.map((connection) => h("option", { key: connection }, connection)),
        ),
        h(NativeSelect.Indicator),
      ),
    ),
    field("Bucket", h(Input, { defaultValue: selected.bucket, name: "bucket", required: true, size: "sm" })),
    field("Keys that begin with", h(Input, { defaultValue: selected.prefix, name: "prefix", size: "sm" })),
    h(Button, { size: "sm", type: "submit" }, "Show objects"),
  );
}

function Bucket({ connection, bucket, prefix, now }) {
  const query = new URLSearchParams({ bucket, prefix });
  const { data, error } = useAnswer(`connections/${encodeURIComponent(connection)}/bucket?${query}`);
  if (error) return h(Note, null, error.message);
  if (!data) return h(Muted, { role: "status" }, "Listing the bucket …");
  const matching = prefix === "" ? "" : ` that begin with “${prefix}”`;
  if (data.total === 0) return h(Muted, null, `Bucket ${bucket} has no objects${matching}.`);
  const columns = ["Key", "Size", "Chunks", "Written", "SHA-256"];
  return h(
    Stack,
    { gap: 2 },
    h(
      Muted,
      null,
      `Bucket ${bucket}: ${plural(data.total, "object")}${matching}, `,
      h(Size, { bytes: data.total_size }),
      data.total > data.objects.length && `. These are the first ${data.objects.length}; type the beginning of a key to see others.`,
    ),
    h(
      Table.ScrollArea,
      { borderColor: "border.emphasized", borderWidth: 1, borderRadius: "md", tabIndex: 0, "aria-label": `Objects of bucket ${bucket}`, role: "region" },
      h(
        Table.Root,
        { size: "sm" },
        h(Table.Header, null, h(Table.Row, null, columns.map((name) => h(Table.ColumnHeader, { key: name }, name)))),
        h(
          Table.Body,
          null,
          data.objects.map((object) =>
            h(
              Table.Row,
              { key: object.key },
              h(Table.Cell, { minW: "12rem", overflowWrap: "anywhere" }, object.key),
              h(Table.Cell, { whiteSpace: "nowrap" }, h(Size, { bytes: object.size })),
              h(Table.Cell, null, object.num_chunks.toLocaleString("en")),
              h(Table.Cell, { whiteSpace: "nowrap" }, object.updated_at ? h(Age, { nanoseconds: object.updated_at, now }) : "unknown"),
              h(Table.Cell, { fontFamily: "mono", title: object.checksum }, object.checksum ? `${object.checksum.slice(0, 12)}…` : "not recorded"),
            ),
          ),
        ),
      ),
    ),
  );
}

// The page

function Summary({ bulks, health }) {
  const count = (verdict) => bulks.filter((bulk) => bulk.verdict === verdict).length;
  const sum = (name) => Object.values(health).reduce((total, one) => total + Number(one[name]), 0);
  const [routers, peers, connections] = [sum("routers"), sum("peers"), sum("failed")];
  const parts = [
    [count("failed"), "failed", "red"],
    [count("stopped"), "stopped", "red"],
    [count("unknown"), "unknown", "orange"],
    [count("silent"), "silent", "orange"],
    [count("running"), "running", "blue"],
    [routers, `${routers === 1 ? "router does" : "routers do"} not answer`, "red"],
    [peers, `${peers === 1 ? "peer does" : "peers do"} not answer`, "red"],
    [connections, `${connections === 1 ? "connection does" : "connections do"} not work`, "red"],
  ].filter(([number]) => number > 0);
  return h(
    Flex,
    { "aria-live": "polite", gap: 2, role: "status", wrap: "wrap" },
    parts.map(([number, text, color]) => h(Badge, { colorPalette: color, key: text, size: "md", variant: "surface" }, `${number} ${text}`)),
    parts.length === 0 && h(Muted, null, "Nothing is running, and nothing needs attention."),
  );
}

function MictlanXPage() {
  const now = useClock();
  const [params, setParams] = useSearchParams();
  const [refreshes, setRefreshes] = useState(0);
  const [health, setHealth] = useState({});
  const report = useCallback((connection, state) => setHealth((last) => ({ ...last, [connection]: state })), []);
  const bulks = useAnswer("bulks", (found) => found.some(isRunning));
  const connections = useAnswer("connections");
  const { connection = "", bulk, bucket, key, prefix = key ?? "" } = Object.fromEntries(params);
  const known = (bulks.data ?? []).map((one) => one.connection);
  const others = connections.data ? [...known, connection].filter((id) => id !== "") : [];
  const choices = [...new Set([...(connections.data ?? []), ...others])].sort();
  const refresh = () => {
    bulks.refresh();
    connections.refresh();
    setRefreshes((number) => number + 1);
  };
  const active = (bulks.data ?? []).some(isRunning);
  const selected = { bucket, connection, prefix };
  const bucketSection = h(BucketSection, { choices, now, onSubmit: setParams, selected });
  return h(
    Stack,
    { gap: 6, maxW: "80rem", mx: "auto", p: { base: 2, md: 4 }, w: "full" },
    h(
      Flex,
      { align: "center", gap: 3, justify: "space-between", wrap: "wrap" },
      h(Heading, { as: "h1", size: "xl" }, "MictlanX"),
      h(
        Flex,
        { align: "center", gap: 3 },
        bulks.at && h(Muted, null, `${active ? "live, " : ""}updated ${formatAge(now - bulks.at)}`),
        h(Button, { onClick: refresh, size: "sm", variant: "outline" }, "Refresh"),
      ),
    ),
    bulks.data && h(Summary, { bulks: bulks.data, health }),
    connection && bulk && h(Section, { title: "Selected bulk" }, h(SelectedBulk, { bulk, connection, key: bulk, now })),
    bucket && bucketSection,
    h(Section, { title: "Bulks" }, h(Bulks, { answer: bulks, now })),
    h(Section, { title: "Connections" }, h(Connections, { active, answer: connections, others, refreshes, report })),
    !bucket && choices.length > 0 && bucketSection,
  );
}

globalThis.AirflowPlugin = MictlanXPage;
