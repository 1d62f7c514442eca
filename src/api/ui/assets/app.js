// Start of the page: the view of the address, the head, and the refresh after events.

import { logout, mayWrite, openSession, session } from "./api.js";
import { h, render } from "./dom.js";
import { acceptDrops, addFiles } from "./drops.js";
import { clock } from "./format.js";
import { FILTERS, JobList } from "./jobs.js";
import { Live } from "./live.js";
import { Overview } from "./overview.js";
import { listen } from "./route.js";
import { nextTheme, themeLabel } from "./theme.js";
import { notice } from "./widgets.js";

/** Least time between two reads after events, and the time after which it is read without one. */
const MIN_READ_MS = 700;
const IDLE_READ_MS = 5000;
/** Interval in which times and bars are drawn anew. */
const TICK_MS = 1000;

const main = document.querySelector("main");
const head = document.querySelector("body > header");
const sign = document.getElementById("connection");

const state = { view: null, name: null, connection: "connecting", lostAt: null, error: null };
let loading = false;
let wanted = false;
let lastRead = 0;
let timer;

function draw() {
  drawHead();
  if (!state.view) {
    render(main, state.error ? notice(state.error) : h("p", { class: "muted" }, "Loading…"));
    return;
  }
  document.title = `${state.view.title} – marqueue`;
  const focused = main.contains(document.activeElement);
  render(main, state.error && notice(state.error), h("div", { key: state.name }, state.view.render()));
  // The focus would fall back to the body with the element that had it.
  if (focused && !main.contains(document.activeElement)) main.focus({ preventScroll: true });
}

const SIGNS = { connecting: ["quiet", "Connecting"], live: ["good", "Live"], polling: ["quiet", "Every 5 s"], lost: ["bad", "Not connected"] };

function drawHead() {
  const [tone, text] = SIGNS[state.connection];
  const item = (href, label, current) => h("a", { href, "aria-current": current ? "page" : null }, label);
  const overview = state.view instanceof Overview;
  render(
    head,
    h("a", { href: "./", class: "brand" }, "marqueue"),
    h("nav", { "aria-label": "Views" }, item("./", "Overview", overview), item("?view=jobs", "Jobs", state.view && !overview)),
    h("span", { class: "space" }),
    h("span", { class: `live ${tone}`, title: "Changes are shown as they happen while this is live" }, text),
    mayWrite() && h("button", { class: "primary", onClick: () => addFiles([]) }, "Add files…"),
    session?.access === "read" && h("span", { class: "badge quiet" }, "read only"),
    h("button", { title: "Colours", onClick: () => { nextTheme(); draw(); } }, `Theme: ${themeLabel()}`),
    session?.client && h("span", { class: "muted client" }, session.client),
    session?.client && h("button", { onClick: () => logout().catch(fail) }, "Log out"),
  );
  sign.hidden = state.connection !== "lost";
  const lost = `The connection to the daemon is lost since ${state.lostAt && clock(state.lostAt)}. What is shown may be out of date. It is tried again and again.`;
  const shown = sign.hidden ? "" : lost;
  if (sign.textContent !== shown) sign.textContent = shown;
}

function fail(error) {
  state.error = error.message;
  draw();
}

/** Reads the view anew. While a read is under way, one further is noted. */
async function read() {
  clearTimeout(timer);
  if (loading) {
    wanted = true;
    return;
  }
  const { view } = state;
  if (!view) return;
  loading = true;
  wanted = false;
  try {
    await view.load();
    if (view === state.view) state.error = null;
  } catch (error) {
    // That no daemon answers is said by the sign of the connection.
    if (error.status === 0 && state.connection === "polling") lose();
    if (view === state.view) state.error = error.status === 0 ? null : error.message;
  }
  loading = false;
  lastRead = Date.now();
  draw();
  if (wanted || view !== state.view) read();
  else schedule(IDLE_READ_MS);
}

function lose() {
  if (state.connection !== "lost") state.lostAt = Date.now();
  state.connection = "lost";
  clearTimeout(timer);
  draw();
}

/** The stream has ended: without a daemon the page waits for it; with one it reads at intervals until there is a stream. */
async function onLost() {
  if (state.connection !== "polling") lose();
  try {
    // A session that has ended leads to the login.
    await openSession();
  } catch {
    // A stream may have opened meanwhile.
    if (state.connection !== "live") lose();
    return;
  }
  if (state.connection !== "lost") return;
  state.connection = "polling";
  read();
}

/** Reads after this time at the latest, and not sooner after the last read than `MIN_READ_MS`. */
function schedule(delay) {
  clearTimeout(timer);
  if (document.hidden || state.connection === "lost") return;
  timer = setTimeout(read, delay);
}

const soon = () => schedule(Math.max(0, lastRead + MIN_READ_MS - Date.now()));

const changed = ({ reload } = {}) => {
  draw();
  if (reload) read();
};

/** Opens the view that an address names. A view of the same kind keeps what it shows until the new page is read. */
async function show(parameters) {
  const id = parameters.get("job");
  const list = parameters.get("view") === "jobs" || FILTERS.some((name) => parameters.get(name));
  const before = state.name;
  state.error = null;
  if (id && /^\d+$/.test(id)) {
    const module = await import("./job.js").catch(() => null);
    if (!module) return fail(new Error("The job's page can't be loaded: no daemon answers."));
    const { JobView } = module;
    // Another address may have been opened meanwhile.
    if (new URLSearchParams(location.search).get("job") !== id) return;
    state.view = new JobView(changed, Number(id));
    state.name = `job-${id}`;
  } else if (list) {
    if (state.view instanceof JobList) state.view.setParameters(parameters);
    else state.view = new JobList(changed, parameters);
    state.name = "jobs";
  } else {
    state.view = new Overview(changed);
    state.name = "overview";
  }
  draw();
  // A screen reader reads the new view, and Tab goes on in it.
  if (before && before !== state.name) main.focus({ preventScroll: true });
  read();
}

/** Ctrl+K or ⌘K moves to the search. A character alone is no shortcut, since speech input could press it (WCAG 2.1.4). */
function keys(event) {
  const typing = event.target.closest?.("input, select, textarea, dialog");
  const modified = event.ctrlKey !== event.metaKey && !event.altKey && !event.shiftKey;
  const search = document.getElementById("search");
  if (typing || !modified || event.key.toLowerCase() !== "k" || !search) return;
  event.preventDefault();
  search.focus();
}

async function start() {
  try {
    await openSession();
  } catch (error) {
    fail(error);
    setTimeout(start, 3000);
    return;
  }
  listen(show);
  acceptDrops();
  addEventListener("keydown", keys);
  setInterval(() => document.hidden || draw(), TICK_MS);
  document.addEventListener("visibilitychange", () => document.hidden && clearTimeout(timer));
  new Live({
    onChange: (event) => {
      if (!state.view) return;
      if (state.view.concerns?.(event) ?? true) soon();
    },
    // Everything is read after the stream is open, so that no change falls in between.
    onOpen: () => {
      const back = state.connection !== "connecting";
      state.connection = "live";
      state.lostAt = null;
      // The daemon may have been started anew, with another token.
      if (back) openSession().catch(fail);
      read();
    },
    onLost,
  }).start();
  show(new URLSearchParams(location.search));
}

start();
