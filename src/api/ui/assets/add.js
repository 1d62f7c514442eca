// Adding files: the form for the target and its options, the checks' result, and the upload with its progress.

import { get, newIdempotencyKey, session, upload } from "./api.js";
import { openDialog, say } from "./dialog.js";
import { h } from "./dom.js";
import { bytes, plural } from "./format.js";
import { jobLink, notice } from "./widgets.js";

const FORMATS = ["csv", "tsv", "ssv"];
const TARGETS = [["leads", "Leads"], ["custom-object", "Custom object"], ["program-members", "Program members"]];

/** The open form; files that are dropped meanwhile are added to it. */
let open = null;

const formatOf = (name) => FORMATS.find((format) => name.toLowerCase().endsWith(`.${format}`));

let lastId = 0;

const entry = (file) => ({ file, id: ++lastId, format: formatOf(file.name) ?? "csv", key: newIdempotencyKey(), state: "new", text: "", sent: 0 });

/** Opens the form with these files. */
export async function addFiles(files) {
  if (open) {
    if (open.state.busy) return;
    open.state.entries.push(...files.map(entry));
    open.state.checked = false;
    open.draw();
    return;
  }
  const state = { entries: files.map(entry), options: { target: "leads", instance: session.instance }, instances: [], busy: false, checked: false, error: null };
  const onClose = () => {
    open = null;
    state.stop?.abort();
  };
  open = openDialog("Add files", (dialog) => form(dialog, state), { wide: true, onClose });
  open.element.classList.add("add");
  open.state = state;
  open.draw();
  try {
    state.instances = Object.keys((await get("v1/status")).instances);
    if (!state.instances.includes(session.instance)) state.options.instance = state.instances[0];
  } catch (error) {
    state.error = error.message;
  }
  open?.draw();
}

function form(dialog, state) {
  const { entries, options } = state;
  const locked = state.busy;
  const change = (name, value) => {
    options[name] = value;
    reset(state);
    // An idempotency key stands for one request: it is refused with another target, and ignores other options.
    if (name !== "no_check") renewKeys(state);
    dialog.draw();
  };
  const field = (name, label, properties = {}, hint) =>
    h(
      "label",
      { key: name },
      h("span", {}, label),
      h("input", { name, disabled: locked, value: options[name] ?? "", onInput: (event) => change(name, event.target.value.trim() && event.target.value), ...properties }),
      hint && h("small", { class: "muted" }, hint),
    );
  const check = (name, label, properties = {}) =>
    h("label", { class: "check", key: name }, h("input", { type: "checkbox", name, disabled: locked, checked: options[name] === "true", onChange: (event) => change(name, event.target.checked ? "true" : ""), ...properties }), h("span", {}, label));
  const pick = (event) => {
    addFiles([...event.target.files]);
    event.target.value = "";
  };
  return h(
    "form",
    {
      onSubmit: (event) => {
        event.preventDefault();
        advance(dialog, state);
      },
    },
    h("ul", { class: "files", "aria-label": "Files" }, entries.map((item) => fileRow(item, dialog, state))),
    h("label", { class: "button file" }, entries.length ? "More files…" : "Choose files…", h("input", { type: "file", multiple: true, disabled: locked, class: "visually-hidden", name: "files", onChange: pick })),
    entries.length === 0 && h("span", { class: "muted" }, " or drop them here"),
    h(
      "fieldset",
      { class: "targets" },
      h("legend", {}, "Target"),
      TARGETS.map(([value, label]) => h("label", { class: "check" }, h("input", { type: "radio", name: "target", value, disabled: locked, checked: options.target === value, onChange: () => change("target", value) }), h("span", {}, label))),
    ),
    h(
      "div",
      { class: "fields" },
      options.target === "custom-object" && field("name", "API name of the object", { required: true, placeholder: "car_c" }),
      options.target === "program-members" && [field("program_id", "Program id", { required: true, inputmode: "numeric", pattern: "[0-9]+" }), field("status", "Status in the program", { required: true, placeholder: "Registered" })],
      state.instances.length > 1 &&
        h("label", { key: "instance" }, h("span", {}, "Instance"), h("select", { name: "instance", disabled: locked, onChange: (event) => change("instance", event.target.value) }, state.instances.map((name) => h("option", { value: name, selected: name === options.instance }, name)))),
    ),
    h(
      "details",
      {},
      h("summary", {}, "Options"),
      h(
        "div",
        { class: "fields" },
        options.target === "leads" && [field("lookup_field", "Lookup field", { placeholder: "email" }, "finds a person that exists"), field("list_id", "Static list", { inputmode: "numeric", pattern: "[0-9]+" }, "id; they join it"), field("partition", "Partition")],
        field("priority", "Priority", { inputmode: "numeric", pattern: "-?[0-9]+", placeholder: "0" }, "higher goes first"),
        field("group", "Group", {}, "its jobs go one after the other"),
        field("not_before", "Not before", { type: "datetime-local" }, "earliest time of the upload"),
        field("canary", "Canary", { inputmode: "numeric", pattern: "[0-9]+" }, "rows that go first, alone"),
        field("max_failed_percent", "Stop above", { inputmode: "numeric", pattern: "[0-9]{1,3}" }, "percent of failed rows"),
        check("in_order", "Batches one after the other"),
        check("pack", "May share an import with other small files"),
        check("no_check", "Send without checking"),
      ),
    ),
    state.error && notice(state.error),
    state.stop && h("p", { class: "muted" }, "Closing this form stops it."),
    h(
      "div",
      { class: "buttons" },
      h("button", { type: "button", onClick: () => (state.stop ? state.stop.abort() : dialog.close()) }, state.stop ? "Stop" : "Close"),
      !sentAll(state) && h("button", { type: "submit", class: "primary", disabled: locked || sendable(state).length === 0 }, submitLabel(state)),
    ),
  );
}

const sendable = ({ entries }) => entries.filter(({ state }) => state !== "refused" && state !== "sent");
const sentAll = ({ entries }) => entries.length > 0 && entries.every(({ state }) => state === "sent");

function submitLabel(state) {
  if (state.busy) return state.checked ? "Sending…" : "Checking…";
  const number = sendable(state).length;
  if (state.options.no_check === "true" || state.checked) return `Send ${plural(number, "file")}`;
  return `Check ${plural(number, "file")}`;
}

/** After a change of the form, what was checked before counts no more. */
function reset(state) {
  state.checked = false;
  state.error = null;
  for (const item of state.entries) {
    if (item.state === "sent") continue;
    Object.assign(item, { state: "new", text: "", warnings: [] });
  }
}

function renewKeys({ entries }) {
  for (const item of entries) if (item.state !== "sent") item.key = newIdempotencyKey();
}

function fileRow(item, dialog, state) {
  const remove = () => {
    state.entries.splice(state.entries.indexOf(item), 1);
    dialog.draw();
  };
  const chosen = (event) => {
    item.format = event.target.value;
    item.key = newIdempotencyKey();
    reset(state);
    dialog.draw();
  };
  return h(
    "li",
    { key: item.id, class: item.state },
    h("b", { class: "clip", title: item.file.name }, item.file.name),
    h("span", { class: "muted" }, bytes(item.file.size)),
    !formatOf(item.file.name) && item.state !== "sent" && h("select", { "aria-label": `Format of ${item.file.name}`, disabled: state.busy, onChange: chosen }, FORMATS.map((format) => h("option", { value: format, selected: format === item.format }, format))),
    item.state === "sending" && h("progress", { max: 100, value: (100 * item.sent) / Math.max(1, item.file.size), "aria-label": `Upload of ${item.file.name}` }),
    h("span", { class: "result", role: item.state === "refused" || item.state === "lost" ? "alert" : null }, item.job ? ["added as ", jobLink(item.job.id)] : item.text),
    (item.warnings ?? []).map((warning) => h("span", { class: "warn-text result" }, `warning: ${warning.detail}`)),
    !state.busy && item.state !== "sent" && h("button", { type: "button", class: "link", "aria-label": `Remove ${item.file.name}`, onClick: remove }, "Remove"),
  );
}

function parameters({ options }, item) {
  const given = { ...options };
  delete given.no_check;
  const fields = { leads: ["lookup_field", "list_id", "partition"], "custom-object": ["name"], "program-members": ["program_id", "status"] };
  for (const [kind, names] of Object.entries(fields)) if (kind !== options.target) for (const name of names) delete given[name];
  if (given.not_before) given.not_before = new Date(given.not_before).toISOString();
  if (options.no_check === "true") given.check = "false";
  return { ...given, filename: item.file.name, format: item.format };
}

/** Checks the files; when they are checked, sends them. */
async function advance(dialog, state) {
  const draw = () => dialog.element.open && dialog.draw();
  const files = sendable(state);
  state.busy = true;
  state.error = null;
  state.stop = new AbortController();
  draw();
  const checking = !state.checked && state.options.no_check !== "true";
  for (const item of files) {
    if (state.stop.signal.aborted) break;
    await (checking ? checkFile(item, state, draw) : sendFile(item, state, draw));
    draw();
  }
  if (checking) state.checked = !state.stop.signal.aborted && !state.entries.some((item) => item.state === "lost");
  state.busy = false;
  state.stop = null;
  draw();
  const sent = files.filter((item) => item.job);
  if (sentAll(state)) {
    dialog.close();
    say(`${plural(sent.length, "file")} added: ${jobNames(sent)}.`);
  } else if (!dialog.element.open) {
    say(checking ? "The check was stopped." : stopped(files, sent));
  }
}

const jobNames = (sent) => `job ${sent.map((item) => item.job.id).join(", job ")}`;

/** What became of the files of a form that was closed while they were sent. */
function stopped(files, sent) {
  // The daemon adds a file that it has whole, also when nobody waits for its answer.
  const unsure = files.filter((item) => item.state === "lost" && item.sent >= item.file.size).map((item) => item.file.name);
  return [
    `Stopped: ${sent.length} of ${plural(files.length, "file")} added${sent.length ? `: ${jobNames(sent)}` : ""}.`,
    unsure.length > 0 && `${unsure.join(", ")} may have been added: see the list of jobs.`,
  ].filter(Boolean).join(" ");
}

async function checkFile(item, state, draw) {
  Object.assign(item, { state: "sending", sent: 0, text: "" });
  try {
    const found = await send("v1/check", item, state, draw);
    item.warnings = found.warnings ?? [];
    if (found.ok === false) Object.assign(item, { state: "refused", text: found.detail });
    else Object.assign(item, { state: "good", text: describe(found.layout) });
  } catch (error) {
    fail(item, error);
  }
}

async function sendFile(item, state, draw) {
  Object.assign(item, { state: "sending", sent: 0, text: "" });
  try {
    const job = await send("v1/jobs", item, state, draw, { "Idempotency-Key": item.key });
    Object.assign(item, { state: "sent", job, warnings: job.warnings });
  } catch (error) {
    fail(item, error);
  }
}

/** Answers that refuse the file itself. After others, such as 403 or 429, it can be sent again. */
const REFUSALS = [400, 413, 415, 422];

const fail = (item, error) => Object.assign(item, { state: REFUSALS.includes(error.status) ? "refused" : "lost", text: error.message });

function send(path, item, state, draw, headers) {
  let drawn = 0;
  const onProgress = (sent) => {
    item.sent = sent;
    if (Date.now() - drawn < 100) return;
    drawn = Date.now();
    draw();
  };
  return upload({ path, parameters: parameters(state, item), file: item.file, headers, onProgress, signal: state.stop.signal });
}

function describe(layout) {
  if (!layout) return "no fault was found";
  return `${plural(layout.rows, "row")}, ${plural(layout.columns.length, "column")}, ${plural(layout.parts.length, "batch")}`;
}
