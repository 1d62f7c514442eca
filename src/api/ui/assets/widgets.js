// Parts that several views share.

import { h } from "./dom.js";
import { ago, clock, count, full, jobState, stateTone } from "./format.js";

export const badge = (text, tone) => h("span", { class: `badge ${tone}` }, text);

export function jobBadge(job) {
  const { text, tone } = jobState(job);
  return badge(text, tone);
}

export const batchBadge = (state) => badge(state, stateTone(state));

/** A point in time: the time of day, with the whole date as its title. */
export const at = (time) => (time ? h("time", { datetime: time, title: full(time) }, clock(time)) : "");

/** How long ago a point in time was. */
export const since = (time) => h("time", { datetime: time, title: full(time) }, ago(time));

export const jobLink = (id, text) => h("a", { href: `?job=${id}`, class: "joblink" }, text ?? `job ${id}`);

/** A bar of 0 to 100 percent with a name for screen readers. */
export const bar = (percent, label, tone = "") =>
  h(
    "div",
    { class: `bar ${tone}`, role: "progressbar", "aria-label": label, "aria-valuenow": Math.round(percent), "aria-valuemin": 0, "aria-valuemax": 100 },
    h("span", { "width%": Math.min(100, percent) }),
  );

/** Rows of a job or batch: the total, and those that failed. */
export const rowCounts = (rows) => [
  count(rows.total),
  rows.failed > 0 && h("span", { class: "bad-text" }, ` ${count(rows.failed)} failed`),
  rows.warned > 0 && h("span", { class: "warn-text opt" }, ` ${count(rows.warned)} warned`),
  rows.unaccounted ? h("span", { class: "warn-text" }, ` ${count(rows.unaccounted)} unaccounted`) : null,
];

export const notice = (text, tone = "bad") => h("p", { class: `notice ${tone}`, role: tone === "bad" ? "alert" : null }, text);
