// Plots of the past: rows by result, jobs that ended, uploads and calls.

import { get } from "./api.js";
import { h } from "./dom.js";
import { clock, count } from "./format.js";

const WINDOWS = { "1h": { name: "Hour", step: "5m" }, "24h": { name: "Day", step: "15m" }, "7d": { name: "Week", step: "2h" } };
const RELOAD_MS = 10_000;
const HEIGHT = 100;

/** Series of a plot: the key in the answer, its name, and the class of its colour; the first is drawn lowest. */
const PLOTS = [
  { title: "Rows", of: (stats) => stats.rows, series: [["imported", "imported", "c1"], ["imported_with_warning", "with a warning", "c2"], ["failed", "failed", "c3"]] },
  { title: "Jobs ended", of: (stats) => stats.jobs, series: [["done", "complete", "c1"], ["cancelled", "cancelled", "c4"], ["failed", "failed", "c3"]] },
  { title: "Uploads", of: (stats) => ({ uploads: stats.uploads }), series: [["uploads", "uploads", "c1"]] },
  { title: "Calls to Marketo", of: (stats) => ({ calls: stats.calls }), series: [["calls", "calls", "c1"]] },
];

/** The section of plots. `changed()` is called when it has to be drawn anew. */
export function charts(changed) {
  let window = "24h";
  let stats = null;
  let error = null;
  let readAt = 0;
  const hovered = {};

  async function read() {
    const asked = window;
    readAt = Date.now();
    try {
      const answer = await get("v1/stats", { window: asked, step: WINDOWS[asked].step });
      if (asked !== window) return;
      [stats, error] = [answer, null];
    } catch (failure) {
      error = failure.message;
    }
    changed();
  }

  const choose = (name) => {
    window = name;
    read();
    changed();
  };

  function plot({ title, of, series }) {
    const lines = of(stats);
    const length = lines[series[0][0]].length;
    const totals = Array.from({ length }, (_, i) => series.reduce((sum, [key]) => sum + lines[key][i], 0));
    const top = Math.max(1, ...totals);
    const sums = series.map(([key, name, colour]) => ({ key, name, colour, sum: lines[key].reduce((a, b) => a + b, 0) }));
    const bars = [];
    for (let i = 0; i < length; i++) {
      let base = 0;
      for (const { key, colour } of sums) {
        const value = lines[key][i];
        if (!value) continue;
        const height = Math.max((HEIGHT * value) / top, 1.5);
        bars.push(h("rect", { class: colour, x: i + 0.1, width: 0.8, y: (HEIGHT - base - height).toFixed(2), height: height.toFixed(2) }));
        base += height;
      }
    }
    const begin = Date.parse(stats.from);
    const at = (i) => clock(begin + i * stats.step_seconds * 1000).replace(/:\d\d$/, (seconds) => (stats.step_seconds < 60 ? seconds : ""));
    const stepTime = (i) => new Date(begin + i * stats.step_seconds * 1000);
    const label = (i) => (stats.step_seconds >= 3600 ? stepTime(i).toLocaleDateString("en", { weekday: "short", day: "numeric" }) : stepTime(i).toTimeString().slice(0, 5));
    const over = hovered[title];
    const readout = over != null && over < length ? `${at(over)}: ${sums.map(({ key, name }) => `${count(lines[key][over])} ${name}`).join(", ")}` : null;
    const move = (event) => {
      const box = event.currentTarget.getBoundingClientRect();
      hovered[title] = Math.min(length - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * length)));
      changed();
    };
    const leave = () => {
      hovered[title] = null;
      changed();
    };
    const summary = sums.map(({ name, sum }) => `${count(sum)} ${name}`).join(", ");
    return h(
      "figure",
      { key: title },
      h("figcaption", {}, h("b", {}, title), h("span", { class: "legend" }, sums.map(({ name, colour, sum }) => h("span", {}, h("i", { class: `key ${colour}` }), `${count(sum)} ${name}`)))),
      h(
        "div",
        { class: "plot" },
        h("span", { class: "top muted" }, count(top)),
        h(
          "svg",
          { viewBox: `0 0 ${length} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}: ${summary}; at most ${count(top)} in one step`, onPointerMove: move, onPointerLeave: leave },
          h("line", { class: "grid", x1: 0, x2: length, y1: 0.5, y2: 0.5 }),
          h("line", { class: "grid", x1: 0, x2: length, y1: HEIGHT / 2, y2: HEIGHT / 2 }),
          over != null && h("rect", { class: "cursor", x: over, width: 1, y: 0, height: HEIGHT }),
          bars,
        ),
        readout && h("span", { class: "readout" }, readout),
      ),
      h("div", { class: "axis muted", "aria-hidden": "true" }, [0, Math.floor(length / 3), Math.floor((2 * length) / 3)].map((i) => h("span", {}, label(i))), h("span", {}, "now")),
    );
  }

  return {
    /** Reads the figures again if they are old enough. */
    load() {
      if (Date.now() - readAt > RELOAD_MS) read();
    },
    render: () =>
      h(
        "section",
        { class: "panel", key: "history", "aria-labelledby": "history-title" },
        h(
          "header",
          {},
          h("h2", { id: "history-title" }, "The last ", WINDOWS[window].name.toLowerCase()),
          h("span", { class: "switch", role: "group", "aria-label": "Time shown" }, Object.entries(WINDOWS).map(([key, { name }]) => h("button", { "aria-pressed": String(key === window), onClick: () => choose(key) }, name))),
        ),
        error && h("p", { class: "notice warn" }, `The figures can't be read: ${error}`),
        stats ? h("div", { class: "plots" }, PLOTS.map(plot)) : !error && h("p", { class: "muted" }, "Loading…"),
      ),
  };
}
