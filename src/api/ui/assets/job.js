// One job: its state and counts, batches, reasons of failed rows, the first failed rows, history and downloads.

import { firstRows, get, mayWrite } from "./api.js";
import { canCancel, canRetry, canRetryRows, cancelJob, retryJob, retryRows } from "./actions.js";
import { h } from "./dom.js";
import { bytes, clock, count, duration, hasFailedRows, isEnded, plural, source, target, until } from "./format.js";
import { at, bar, batchBadge, badge, jobBadge, jobLink, notice, since } from "./widgets.js";

const FIRST_ROWS = 50;
const HISTORY_SHOWN = 100;
const BATCHES_SHOWN = 50;

export class JobView {
  constructor(changed, id) {
    this.changed = changed;
    this.id = id;
    this.title = `Job ${id}`;
    this.rows = {};
    this.all = {};
  }

  /** Whether an event concerns this view. */
  concerns = (event) => event.type !== "job" || event.job.id === this.id || event.job.retry_of === this.id;

  async load() {
    const path = `v1/jobs/${this.id}`;
    const [job, history, retries] = await Promise.all([get(path), get(`${path}/history`), get("v1/jobs", { retry_of: this.id })]);
    const some = hasFailedRows(job) || job.rows.warned > 0 || job.batches.some((batch) => batch.warnings_bytes != null);
    const erased = job.reports_erased_at != null;
    const [reasons, explanation] = await Promise.all([
      some && !erased ? get(`${path}/reasons`).catch((error) => ({ error: error.message })) : null,
      isEnded(job) ? null : get(`${path}/explain`),
    ]);
    this.title = `Job ${job.id}: ${job.filename}`;
    this.data = { job, history: history.history, retries: retries.jobs, reasons, explanation };
  }

  render() {
    if (!this.data) return [h("p", { class: "muted" }, "Loading…")];
    const { job, reasons, retries, explanation } = this.data;
    return [
      h("p", { class: "crumbs" }, h("a", { href: "?view=jobs" }, "Jobs"), ` / job ${job.id}`),
      h("header", { class: "jobhead" }, h("h1", {}, job.filename), jobBadge(job), this.#actions(job, retries)),
      job.error && notice(job.error),
      this.#state(job, explanation),
      job.batches.some((batch) => batch.state === "held") && h("p", { class: "notice warn" }, "A batch is held: look in Marketo whether its import exists. If it does: ", h("code", {}, `marqueue settle ${job.id} --part N --marketo-batch-id ID`), ". If not: Retry."),
      this.#facts(job, retries),
      reasons?.error && notice(reasons.error),
      reasons && !reasons.error && this.#reasons("Reasons of failed rows", reasons.failures, "failures", job),
      reasons && !reasons.error && this.#reasons("Reasons of warnings", reasons.warnings, "warnings", job),
      this.#downloads(job),
      this.#batches(job),
      this.#history(),
    ];
  }

  #actions(job, retries) {
    if (!mayWrite()) return null;
    return h(
      "span",
      { class: "actions" },
      canRetryRows(job) && h("button", { onClick: () => retryRows(job, retries) }, "Retry failed rows…"),
      canRetry(job) && h("button", { onClick: () => retryJob(job) }, "Retry…"),
      canCancel(job) && h("button", { onClick: () => cancelJob(job) }, "Cancel…"),
    );
  }

  #state(job, explanation) {
    const ended = job.batches.filter((batch) => batch.ended_at).length;
    if (isEnded(job)) return null;
    return h(
      "section",
      { class: "panel", "aria-label": "State" },
      explanation?.text && h("p", {}, explanation.text),
      job.batches.length > 1 && bar((100 * ended) / job.batches.length, "Batches that ended"),
      h(
        "p",
        { class: "muted" },
        job.batches.length > 1 && `${ended} of ${plural(job.batches.length, "batch")} ended. `,
        explanation?.until && `Next look ${until(explanation.until)}. `,
        explanation?.estimated_start && `Will probably start ${until(explanation.estimated_start)}. `,
        explanation?.estimated_end && `Will probably end ${until(explanation.estimated_end)} (${clock(explanation.estimated_end)}).`,
      ),
    );
  }

  #facts(job, retries) {
    const { rows } = job;
    const number = (label, value, tone) => h("div", { class: "stat" }, h("b", { class: tone }, count(value)), h("span", {}, label));
    const fact = (label, ...value) => value.flat().some((part) => part != null && part !== "" && part !== false) && h("div", {}, h("dt", {}, label), h("dd", {}, value));
    return h(
      "section",
      { class: "panel", "aria-label": "Counts and options" },
      h(
        "div",
        { class: "stats" },
        number("rows", rows.total),
        number("processed", rows.processed),
        number("failed", rows.failed, rows.failed > 0 ? "bad-text" : ""),
        number("with a warning", rows.warned, rows.warned > 0 ? "warn-text" : ""),
        rows.unaccounted ? number("unaccounted", rows.unaccounted, "warn-text") : null,
      ),
      h(
        "dl",
        {},
        fact("Target", target(job.target), job.target.lookup_field && `, lookup field ${job.target.lookup_field}`, job.target.partition && `, partition ${job.target.partition}`),
        fact("Instance", job.instance),
        fact("File", `${bytes(job.bytes)}, ${job.format}`),
        fact("Source", source(job.source)),
        fact("Added", at(job.created_at)),
        fact("Started", at(job.started_at)),
        fact("Ended", at(job.finished_at), job.started_at && job.finished_at && ` after ${duration(Date.parse(job.finished_at) - Date.parse(job.started_at))}`),
        fact("Group", job.group),
        fact("Priority", job.priority || null),
        fact("Not before", at(job.not_before)),
        fact("Options", [job.in_order && "in order", job.canary && `canary of ${plural(job.canary, "row")}`, job.max_failed_percent != null && `stops above ${job.max_failed_percent} % failed rows`, job.pack && "may share an import"].filter(Boolean).join(", ")),
        fact("Sends again", job.retry_of != null && ["failed rows of ", jobLink(job.retry_of)]),
        fact("Sent again in", retries.map((retry, index) => [index > 0 && ", ", jobLink(retry.id)])),
        fact("Content erased", at(job.content_erased_at)),
      ),
    );
  }

  #reasons(title, reasons, kind, job) {
    if (!reasons.length) return null;
    const shown = this.rows[kind];
    const what = kind === "failures" ? "failed rows" : "rows with a warning";
    const most = reasons[0].rows;
    return h(
      "section",
      { class: "panel", key: kind, "aria-label": title },
      h("header", {}, h("h2", {}, title)),
      h(
        "div",
        { class: "scroll" },
        h(
          "table",
          { class: "reasons" },
          h("thead", {}, h("tr", {}, h("th", { scope: "col", class: "num" }, "Rows"), h("th", { scope: "col" }, "Reason"), h("th", { scope: "col", class: "num" }, "First line"))),
          h(
            "tbody",
            {},
            reasons.map((reason) =>
              h(
                "tr",
                {},
                h("td", { class: "num" }, count(reason.rows)),
                h("td", {}, reason.reason ?? h("i", {}, "unknown: the rows are malformed, or there are too many reasons"), h("span", { class: `share ${kind}`, "width%": (100 * reason.rows) / most })),
                h("td", { class: "num" }, reason.first_line == null ? "" : count(reason.first_line)),
              ),
            ),
          ),
        ),
      ),
      shown
        ? this.#rowTable(shown, what, kind)
        : h("p", {}, h("button", { onClick: () => this.#show(kind) }, `Show the first ${FIRST_ROWS} ${what}`), h("span", { class: "muted" }, " They can have personal data, so they are shown only when asked for.")),
    );
  }

  async #show(kind) {
    this.rows[kind] = { loading: true };
    this.changed();
    try {
      this.rows[kind] = await firstRows(`v1/jobs/${this.id}/${kind}`, FIRST_ROWS);
    } catch (error) {
      this.rows[kind] = { error: error.message };
    }
    this.changed();
  }

  #rowTable(shown, what, kind) {
    const hide = () => {
      delete this.rows[kind];
      this.changed();
    };
    if (shown.loading) return h("p", { class: "muted" }, "Loading…");
    if (shown.error) return notice(shown.error);
    const columns = [];
    for (const { row } of shown.rows) for (const name of Object.keys(row ?? {})) if (!columns.includes(name)) columns.push(name);
    return [
      h(
        "div",
        { class: "scroll", tabindex: 0, role: "region", "aria-label": `First ${what}` },
        h(
          "table",
          { class: "rows" },
          h("thead", {}, h("tr", {}, h("th", { scope: "col", class: "num" }, "Line"), h("th", { scope: "col" }, "Reason"), columns.map((name) => h("th", { scope: "col" }, name)))),
          h(
            "tbody",
            {},
            shown.rows.map(({ line, reason, row, fields }) =>
              h("tr", {}, h("td", { class: "num" }, line == null ? "?" : count(line)), h("td", {}, reason ?? "malformed row"), row ? columns.map((name) => h("td", {}, row[name] ?? "")) : h("td", { colspan: Math.max(1, columns.length) }, (fields ?? []).join(" | "))),
            ),
          ),
        ),
      ),
      h("p", { class: "muted" }, shown.hasMore ? `The first ${FIRST_ROWS}; the download has all. ` : `${plural(shown.rows.length, "row")}. `, h("button", { class: "link", onClick: hide }, "Hide")),
    ];
  }

  #downloads(job) {
    const path = `v1/jobs/${job.id}`;
    const reports = (kind) => job.batches.some((batch) => batch[`${kind}_bytes`] != null) && job.reports_erased_at == null;
    const content = job.content_erased_at == null && job.state !== "receiving";
    const link = (name, text) => h("a", { href: `${path}/${name}`, download: true, class: "button" }, text);
    const links = [
      reports("failures") && link("failures", "Failed rows"),
      reports("failures") && link("failures?lines=true", "Failed rows with lines"),
      reports("warnings") && link("warnings", "Rows with warnings"),
      content && isEnded(job) && job.reports_erased_at == null && link("results", "All rows with results"),
      content && link("file", "The file as added"),
    ].filter(Boolean);
    if (!links.length) return null;
    return h("section", { class: "panel", "aria-label": "Downloads" }, h("header", {}, h("h2", {}, "Downloads")), h("p", { class: "buttons start" }, links));
  }

  #batches(job) {
    const { batches } = job;
    const shown = this.all.batches ? batches : batches.slice(0, BATCHES_SHOWN);
    const head = (text, kind) => h("th", { scope: "col", class: kind }, text);
    return h(
      "section",
      { class: "panel", "aria-label": "Batches" },
      h("header", {}, h("h2", {}, batches.length === 1 ? "Batch" : `${count(batches.length)} batches`)),
      h(
        "div",
        { class: "scroll" },
        h(
          "table",
          {},
          h("thead", {}, h("tr", {}, head("Part", "num"), head("State"), head("Rows", "num"), head("Failed", "num"), head("Warned", "opt num"), head("Marketo's id", "opt"), head("Attempts", "opt num"), head("Uploaded", "opt"), head("Ended", "opt"), head("Message"))),
          h(
            "tbody",
            {},
            shown.map((batch) =>
              h(
                "tr",
                { key: batch.part },
                h("td", { class: "num" }, String(batch.part)),
                h("td", {}, batchBadge(batch.state), batch.overdue_at && !batch.ended_at && badge("overdue", "warn")),
                h("td", { class: "num" }, count(batch.rows.total)),
                h("td", { class: "num" }, batch.ended_at ? count(batch.rows.failed) : ""),
                h("td", { class: "opt num" }, batch.ended_at ? count(batch.rows.warned) : ""),
                h("td", { class: "opt" }, batch.marketo_batch_id ?? ""),
                h("td", { class: "opt num" }, String(batch.attempts)),
                h("td", { class: "opt" }, at(batch.uploaded_at)),
                h("td", { class: "opt" }, at(batch.ended_at)),
                h("td", {}, batch.message ?? "", batch.shared_with > 0 && h("span", { class: "muted" }, ` shares its import with ${plural(batch.shared_with, "other job")}`)),
              ),
            ),
          ),
        ),
      ),
      this.#showAll("batches", batches.length - shown.length),
    );
  }

  #history() {
    const { history } = this.data;
    const shown = this.all.history ? history : history.slice(-HISTORY_SHOWN);
    return h(
      "section",
      { class: "panel", "aria-label": "History" },
      h("header", {}, h("h2", {}, "History")),
      this.#showAll("history", history.length - shown.length),
      h(
        "ol",
        { class: "timeline" },
        shown.map((entry) =>
          h(
            "li",
            { class: tone(entry) },
            at(entry.at),
            h("div", {}, h("b", {}, entry.event.replaceAll("-", " ")), entry.part != null && this.data.job.batches.length > 1 && ` part ${entry.part}`, h("span", { class: "muted" }, ` → ${entry.state}`), entry.message && ` ${entry.message}`, entry.request_id && h("span", { class: "muted small request" }, `requestId ${entry.request_id}`)),
          ),
        ),
      ),
    );
  }

  #showAll(part, hidden) {
    if (hidden <= 0) return null;
    const show = () => {
      this.all[part] = true;
      this.changed();
    };
    return h("button", { class: "link", onClick: show }, part === "history" ? `Show ${count(hidden)} earlier entries` : `Show ${count(hidden)} more`);
  }
}

function tone({ state, event }) {
  if (state === "complete") return "good";
  if (state === "failed" || event === "rejected" || event === "refused") return "bad";
  if (state === "held" || event === "requeued" || event === "warned") return "warn";
  return "busy";
}
