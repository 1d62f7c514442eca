// The list of jobs: filters that stand in the address, pages, and actions on all jobs that match.

import { get, mayWrite } from "./api.js";
import { BULK, actOnMatching } from "./actions.js";
import { h } from "./dom.js";
import { duration, source, target } from "./format.js";
import { go, replace } from "./route.js";
import { jobBadge, jobLink, rowCounts, since } from "./widgets.js";

/** The filters, as `GET /v1/jobs` names them. */
export const FILTERS = ["q", "state", "target", "instance", "group", "source", "since", "failures"];

const STATES = ["receiving", "pending", "running", "complete", "failed", "cancelled"];
const TARGETS = [["leads", "leads"], ["custom-object", "custom objects"], ["program-members", "program members"]];
const SOURCES = [["socket", "socket"], ["client", "clients over TCP"], ["drop", "drop folder"]];
const SINCE = [["1h", "last hour"], ["24h", "last day"], ["168h", "last week"], ["720h", "last 30 days"]];
const PAGE = 50;
const TYPING_MS = 250;

export class JobList {
  title = "Jobs";
  constructor(changed, parameters) {
    this.changed = changed;
    this.typing = {};
    this.setParameters(parameters);
  }

  setParameters(parameters) {
    this.filter = Object.fromEntries(FILTERS.filter((name) => parameters.get(name)).map((name) => [name, parameters.get(name)]));
    this.before = parameters.get("before") ?? "";
  }

  async load() {
    const { filter, before } = this;
    const status = this.instances ? null : get("v1/status");
    const page = await get("v1/jobs", { ...filter, before, limit: PAGE });
    if (status) this.instances = Object.keys((await status).instances);
    // A slow answer to an older filter must not replace a newer one.
    if (filter === this.filter && before === this.before) this.page = page;
  }

  render() {
    return [
      h("h1", {}, "Jobs"),
      this.#filters(),
      mayWrite() && this.#bulk(),
      !this.page ? h("p", { class: "muted" }, "Loading…") : this.#list(),
    ];
  }

  #list() {
    const { jobs, next_before: older } = this.page;
    const address = (before) => `?${new URLSearchParams({ view: "jobs", ...this.filter, ...(before ? { before } : {}) })}`;
    if (!jobs.length) return h("p", { class: "panel muted" }, this.before ? "There is no older job." : "No job matches.");
    return [
      h("section", { class: "panel", "aria-label": "Jobs" }, jobTable(jobs)),
      h(
        "nav",
        { class: "pages", "aria-label": "Pages" },
        this.before && h("a", { href: address(null) }, "Newest"),
        older != null && h("a", { href: address(older), rel: "next" }, "Older"),
      ),
    ];
  }

  #set(name, value, change = go) {
    const filter = { ...this.filter, [name]: value };
    if (!value) delete filter[name];
    change({ view: "jobs", ...filter });
  }

  #filters() {
    const select = (name, label, options, all) =>
      h(
        "label",
        {},
        h("span", {}, label),
        h(
          "select",
          { name, value: this.filter[name] ?? "", onChange: (event) => this.#set(name, event.target.value) },
          h("option", { value: "" }, all),
          options.map((option) => {
            const [value, text] = Array.isArray(option) ? option : [option, option];
            return h("option", { value, selected: value === this.filter[name] }, text);
          }),
          // A value that came with the address and is none of these.
          this.filter[name] && !options.some((option) => (Array.isArray(option) ? option[0] : option) === this.filter[name]) && h("option", { value: this.filter[name], selected: true }, this.filter[name]),
        ),
      );
    const text = (name, label, placeholder, id) =>
      h(
        "label",
        {},
        h("span", {}, label),
        h("input", {
          type: "search",
          name,
          id,
          "aria-keyshortcuts": id && "Control+K Meta+K",
          placeholder,
          autocomplete: "off",
          // What is being typed is ahead of the address.
          value: this.typing[name] ?? this.filter[name] ?? "",
          onInput: (event) => {
            this.typing[name] = event.target.value;
            clearTimeout(this.timer);
            this.timer = setTimeout(() => {
              const value = this.typing[name];
              delete this.typing[name];
              this.#set(name, value.trim(), replace);
            }, TYPING_MS);
          },
        }),
      );
    const clear = Object.keys(this.filter).length > 0;
    return h(
      "form",
      { class: "filters", role: "search", "aria-label": "Filter jobs", onSubmit: (event) => event.preventDefault() },
      text("q", "File name", "part of the name", "search"),
      select("state", "State", STATES, "any"),
      select("target", "Target", TARGETS, "any"),
      (this.instances?.length > 1 || this.filter.instance) && select("instance", "Instance", this.instances ?? [], "any"),
      text("group", "Group", "exact name"),
      select("source", "Source", SOURCES, "any"),
      select("since", "Added", SINCE, "any time"),
      h("label", { class: "check" }, h("input", { type: "checkbox", name: "failures", checked: this.filter.failures === "true", onChange: (event) => this.#set("failures", event.target.checked ? "true" : "") }), h("span", {}, "with failed rows")),
      clear && h("a", { href: "?view=jobs" }, "Clear"),
    );
  }

  #bulk() {
    return h(
      "div",
      { class: "bulk", role: "group", "aria-label": "On all jobs that match" },
      h("span", { class: "muted" }, Object.keys(this.filter).length ? "On all jobs that match:" : "On all jobs:"),
      Object.entries(BULK).map(([kind, { button }]) => h("button", { onClick: () => actOnMatching(kind, this.filter) }, `${button}…`)),
    );
  }
}

/** A table of jobs. */
export function jobTable(jobs) {
  const head = (text, kind) => h("th", { scope: "col", class: kind }, text);
  return h(
    "div",
    { class: "scroll" },
    h(
      "table",
      { class: "jobs" },
      h("thead", {}, h("tr", {}, head("Job"), head("State"), head("File"), head("Target", "opt"), head("Instance", "opt2"), head("Group", "opt2"), head("Source", "opt2"), head("Rows", "num"), head("Added", "opt"), head("Took", "opt2 num"))),
      h("tbody", {}, jobs.map(row)),
    ),
  );
}

function row(job) {
  const took = job.started_at && job.finished_at ? duration(Date.parse(job.finished_at) - Date.parse(job.started_at)) : "";
  return h(
    "tr",
    { key: `job-${job.id}` },
    h("td", {}, jobLink(job.id, String(job.id))),
    h("td", {}, jobBadge(job)),
    h("td", {}, h("span", { class: "clip name", title: job.filename }, job.filename), job.waiting && job.waiting.text && h("span", { class: "muted small clip" }, job.waiting.text)),
    h("td", { class: "opt" }, target(job.target)),
    h("td", { class: "opt2" }, job.instance),
    h("td", { class: "opt2" }, job.group ?? ""),
    h("td", { class: "opt2" }, h("span", { class: "clip", title: source(job.source) }, source(job.source))),
    h("td", { class: "num" }, rowCounts(job.rows)),
    h("td", { class: "opt" }, since(job.created_at)),
    h("td", { class: "opt2 num" }, took),
  );
}
