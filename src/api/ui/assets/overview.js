// The first view: what each instance does now, its queue, plots of the past, and the newest jobs.

import { get, mayWrite } from "./api.js";
import { charts } from "./charts.js";
import { pauseInstance, resumeInstance } from "./actions.js";
import { h } from "./dom.js";
import { clock, count, duration, full, now, plural, target, until } from "./format.js";
import { jobTable } from "./jobs.js";
import { at, badge, bar, jobLink, since } from "./widgets.js";

const MARKETO_SLOTS = 10;
const QUEUE_STEPS = [10, 50, 200];
const NEWEST = 8;

export class Overview {
  title = "Overview";
  constructor(changed) {
    this.changed = changed;
    this.queueLimits = {};
    this.stats = charts(changed);
  }

  async load() {
    const status = await get("v1/status");
    const names = Object.keys(status.instances);
    const limit = (name) => this.queueLimits[name] ?? QUEUE_STEPS[0];
    const queues = names.map((name) => get(`v1/instances/${encodeURIComponent(name)}/queue`, { limit: limit(name) }));
    const newest = get("v1/jobs", { limit: NEWEST });
    this.stats.load();
    this.data = { status, queues: await Promise.all(queues), jobs: (await newest).jobs };
  }

  render() {
    const heading = h("h1", { class: "visually-hidden" }, this.title);
    if (!this.data) return [heading, h("p", { class: "muted" }, "Loading…")];
    const { status, queues, jobs } = this.data;
    return [
      heading,
      status.drop && dropNotice(status.drop),
      queues.map((queue) => this.#instance(queue, status.instances[queue.instance])),
      this.stats.render(),
      h(
        "section",
        { class: "panel", "aria-labelledby": "newest-title" },
        h("header", {}, h("h2", { id: "newest-title" }, "Newest jobs"), h("a", { href: "?view=jobs" }, "All jobs")),
        jobs.length ? jobTable(jobs) : empty(),
      ),
    ];
  }

  #instance(queue, status) {
    const { pause, quiet_until, limits, queue: depth } = status;
    const name = queue.instance;
    return h(
      "section",
      { class: "panel instance", key: `instance-${name}`, "aria-label": `Instance ${name}` },
      h(
        "header",
        {},
        h("h2", {}, name),
        pause ? badge("paused", "warn") : quiet_until ? badge("Marketo does not answer", "warn") : badge("uploads are on", "good"),
        h(
          "span",
          { class: "facts" },
          plural(depth.pending_jobs, "pending job"),
          `, ${plural(depth.pending_batches, "batch")}`,
          depth.oldest_pending_at && depth.pending_jobs > 0 && [", oldest since ", at(depth.oldest_pending_at)],
          depth.collecting > 0 && `, fetching reports of ${count(depth.collecting)}`,
        ),
        mayWrite() &&
          h(
            "span",
            { class: "actions" },
            pause
              ? h("button", { onClick: () => resumeInstance(name, pause) }, "Resume…")
              : h("button", { onClick: () => pauseInstance(name) }, "Pause…"),
          ),
      ),
      pause && pauseNotice(pause),
      !pause && quiet_until && h("p", { class: "notice warn" }, "Marketo does not answer. The next attempt is ", untilTime(quiet_until), "."),
      attention(depth),
      h("div", { class: "meters" }, meters(queue, limits)),
      slots(queue),
      this.#queue(queue, depth),
    );
  }

  #queue({ instance, queue, has_more }, depth) {
    const limit = this.queueLimits[instance] ?? QUEUE_STEPS[0];
    const larger = QUEUE_STEPS.find((step) => step > limit);
    const more = () => {
      this.queueLimits[instance] = larger;
      this.changed({ reload: true });
    };
    if (!queue.length) {
      return h("p", { class: "muted below" }, depth.running_jobs ? "No further job is pending." : "No job is pending. Drop files onto this page, or use marqueue add.");
    }
    return [
      h("h3", {}, "Queue ", h("span", { class: "muted" }, "in the order in which it will probably go")),
      h(
        "div",
        { class: "scroll" },
        h(
          "table",
          {},
          h("thead", {}, h("tr", {}, th("Next", "num"), th("Job"), th("File"), th("Target", "opt"), th("Rows", "num"), th("Waits for", "opt"), th("Starts", "opt time"), th("Ends", "opt time"))),
          h("tbody", {}, queue.map((place, index) => queueRow(place, index))),
        ),
      ),
      has_more && larger && h("button", { class: "link", onClick: more }, `Show up to ${larger}`),
      has_more && !larger && h("p", { class: "muted" }, `These are the first ${limit}. `, h("a", { href: "?state=pending" }, "All pending jobs")),
    ];
  }
}

const th = (text, kind) => h("th", { scope: "col", class: kind }, text);

const untilTime = (time) => h("time", { datetime: time, title: full(time) }, `${until(time)} (${clock(time)})`);

function pauseNotice(pause) {
  return h(
    "p",
    { class: "notice warn" },
    "Paused ",
    since(pause.at),
    pause.until ? [", ends ", untilTime(pause.until)] : ", until someone resumes it",
    `: ${pause.reason}`,
  );
}

function attention({ held, given_up }) {
  const parts = [];
  if (held.length) parts.push(h("p", { class: "notice warn" }, "A decision is needed: ", links(held), " held. The job's page says why."));
  if (given_up.jobs > 0) {
    parts.push(h("p", { class: "notice warn" }, `${plural(given_up.jobs, "job")} failed after all attempts; the content is kept: `, links(given_up.first.slice(0, 5)), given_up.jobs > 5 && " …"));
  }
  return parts;
}

const links = (ids) => ids.map((id, index) => [index > 0 && ", ", jobLink(id)]);

const empty = () => h("p", { class: "muted" }, "There is no job yet. Drop files onto this page, or use marqueue add.");

function meters(queue, limits) {
  const importing = queue.slots.filter((slot) => slot.state === "importing").length;
  const window = `calls in ${duration(limits.window * 1000)}`;
  return [
    meter("importing", importing, queue.importing_limit),
    meter("slots used", queue.slots.length, queue.limit),
    meter(window, limits.calls_used, limits.calls),
    limits.daily_calls > 0 ? meter("calls today", limits.calls_today, limits.daily_calls) : h("div", { class: "meter" }, h("span", {}, "calls today"), h("b", {}, count(limits.calls_today)), h("span", { class: "muted" }, "no limit is configured")),
  ];
}

function meter(label, used, limit) {
  const percent = limit ? (100 * used) / limit : 0;
  return h("div", { class: "meter" }, h("span", {}, label), h("b", {}, `${count(used)} / ${count(limit)}`), bar(percent, label, percent >= 95 && label.startsWith("calls") ? "warn" : ""));
}

/** The slots: those of the imports that run, then the places in Marketo's queue. */
function slots(queue) {
  const running = queue.slots.filter((slot) => slot.state === "importing");
  const waiting = queue.slots.filter((slot) => slot.state !== "importing");
  const lanes = Math.min(queue.importing_limit, queue.limit);
  const places = Math.max(queue.limit - lanes, 0);
  const first = fill([...running, ...waiting.slice(places)], lanes);
  const second = fill(waiting.slice(0, places), places);
  const unused = Math.max(0, MARKETO_SLOTS - queue.limit);
  const names = first.map((slot, index) => tile(slot, index + 1));
  const rest = second.map((slot, index) => tile(slot, first.length + index + 1));
  return h(
    "div",
    { class: "slots" },
    h("div", { class: "lane" }, h("h3", {}, "Importing"), h("ol", { class: "tiles running" }, names)),
    h(
      "div",
      { class: "lane" },
      h("h3", {}, "In Marketo's queue ", unused > 0 && h("span", { class: "muted" }, `${plural(unused, "place")} left to other programs`)),
      h("ol", { class: "tiles", start: first.length + 1 }, rest),
    ),
  );
}

const fill = (slots, length) => [...slots, ...Array(Math.max(0, length - slots.length)).fill(null)];

const TAKEN = {
  "other-instance": ["Taken", "by another instance of this subscription"],
  "other-integration": ["Taken", "by another program, as Marketo's error 1016 shows"],
};

const WORDS = { importing: "importing", queued: "waits", uploading: "uploading", unknown: "outcome unknown" };

function tile(slot, number) {
  if (!slot) return h("li", { class: "tile free" }, h("span", { class: "number" }, String(number)), h("span", { class: "muted" }, "free"));
  const { state, import: content, estimated_end: end } = slot;
  if (!content) {
    const [title, text] = TAKEN[state] ?? ["Taken", "by another client"];
    return h("li", { class: "tile taken", title: text }, h("span", { class: "number" }, String(number)), h("b", {}, title), h("span", { class: "muted clip" }, text), slot.since && h("span", { class: "muted" }, "since ", at(slot.since)));
  }
  const overdue = content.is_overdue;
  return h(
    "li",
    { class: `tile ${overdue || state === "unknown" ? "attention" : state}` },
    h("span", { class: "number" }, String(number)),
    h("span", { class: "what" }, overdue ? "overdue" : WORDS[state] ?? state, " · ", jobLink(content.job), content.parts > 1 && ` part ${content.part}/${content.parts}`, content.shared_with > 0 && ` +${content.shared_with}`),
    h("b", { class: "clip", title: content.filename }, content.filename),
    h("span", { class: "muted clip", title: target(content.target) }, `${plural(content.rows, "row")} · ${target(content.target)}`),
    state === "importing" && end && bar(progress(slot), `Import of job ${content.job}`),
    h("span", { class: "muted" }, end ? `ends ${until(end)}` : slot.since ? ["since ", at(slot.since)] : ""),
  );
}

function progress({ since, estimated_end }) {
  const begin = Date.parse(since);
  const whole = Date.parse(estimated_end) - begin;
  return whole > 0 ? Math.min(97, (100 * (now() - begin)) / whole) : 97;
}

/** Waits whose end is known; of the others, `until` is the next look. */
const TIMED = ["not_before", "quota", "service", "backoff"];

function queueRow({ job, estimated_start }, index) {
  const starts = estimated_start ? until(estimated_start) : "";
  if (!job) return h("tr", { key: `taken-${index}` }, td(String(index + 1), "num"), h("td", { colspan: 5, class: "muted" }, "taken by another client"), td(starts, "opt time"), td("", "opt"));
  const { waiting } = job;
  const limit = waiting?.until && TIMED.includes(waiting.waits_for) ? `, ${until(waiting.until)}` : "";
  const reason = `${waiting?.text ?? ""}${limit}`;
  return h(
    "tr",
    { key: `job-${job.id}` },
    td(String(index + 1), "num"),
    td(jobLink(job.id, String(job.id))),
    td([h("span", { class: "clip name", title: job.filename }, job.filename), h("span", { class: "muted small narrow" }, reason)]),
    td(target(job.target), "opt"),
    td(count(job.rows), "num"),
    td([reason, job.group && waiting?.waits_for !== "group" && h("span", { class: "muted" }, ` (group ${job.group})`)], "opt"),
    td(starts, "opt time"),
    td(job.estimated_end ? until(job.estimated_end) : "", "opt time"),
  );
}

const td = (content, kind) => h("td", { class: kind }, content);

function dropNotice({ left_alone, files, faults }) {
  const entries = Object.entries(faults);
  if (!left_alone && !entries.length) return null;
  return h(
    "details",
    { class: "notice warn" },
    h("summary", {}, "Drop folder: ", left_alone > 0 && `${plural(left_alone, "file")} ignored`, left_alone > 0 && entries.length > 0 && ", ", entries.length > 0 && `${plural(entries.length, "folder")} with a fault`),
    h("ul", {}, files.map(({ path, reason }) => h("li", {}, h("b", {}, path), `: ${reason}`)), entries.map(([path, reason]) => h("li", {}, h("b", {}, path), `: ${reason}`))),
  );
}
