// What one can do with jobs and instances. Each action is confirmed in a dialog that says what will happen.

import { get, newIdempotencyKey, post } from "./api.js";
import { confirm } from "./dialog.js";
import { h } from "./dom.js";
import { count, hasFailedRows, isEnded, plural } from "./format.js";
import { go } from "./route.js";

const erased = (job) => job.content_erased_at != null;
const inState = (job, ...states) => job.batches.filter((batch) => states.includes(batch.state));
const rowsOf = (batches) => batches.reduce((sum, batch) => sum + batch.rows.total, 0);
const overdue = (job) => job.batches.filter((batch) => batch.overdue_at != null && !batch.ended_at);

export const canCancel = (job) => !isEnded(job) && job.state !== "receiving";
export const canRetry = (job) => !erased(job) && inState(job, "failed", "cancelled", "held").length > 0;
export const canRetryRows = (job) => isEnded(job) && hasFailedRows(job) && !erased(job);

export function cancelJob(job) {
  const unsent = inState(job, "pending");
  const onMarketo = inState(job, "uploading", "queued", "importing", "collecting");
  const late = overdue(job);
  let abandon = false;
  confirm({
    title: `Cancel job ${job.id}?`,
    text: (dialog) => [
      `${job.filename}:`,
      unsent.length ? `${plural(unsent.length, "batch")} with ${plural(rowsOf(unsent), "row")} will not be sent to Marketo.` : "No batch waits to be sent.",
      onMarketo.length ? `${plural(onMarketo.length, "batch")} with ${plural(rowsOf(onMarketo), "row")} ${onMarketo.length === 1 ? "is" : "are"} on Marketo already and will run to the end: Marketo cannot stop an import.` : null,
      late.length > 0 && h("label", { class: "check" }, h("input", { type: "checkbox", onChange: (event) => { abandon = event.target.checked; dialog.draw(); } }), h("span", {}, `Also give up ${plural(late.length, "import")} that Marketo has not ended in time (--abandon). Whether their rows are imported stays unknown.`)),
      "A cancelled job can be retried.",
    ].filter(Boolean),
    command: () => `marqueue cancel ${job.id}${abandon ? " --abandon" : ""}`,
    button: "Cancel the job",
    danger: true,
    run: async () => {
      await post(`v1/jobs/${job.id}/cancel`, abandon ? { abandon: true } : {});
      return `Job ${job.id} is cancelled.`;
    },
  });
}

export function retryJob(job) {
  const batches = inState(job, "failed", "cancelled", "held");
  const held = inState(job, "held");
  confirm({
    title: `Retry job ${job.id}?`,
    text: [
      `${job.filename}: ${plural(batches.length, "batch")} with ${plural(rowsOf(batches), "row")} will be sent to Marketo again.`,
      held.length ? `${plural(held.length, "batch")} of these may be on Marketo already, since the answer to the upload was lost or the import has not ended. Its rows could be imported twice.` : null,
    ].filter(Boolean),
    command: `marqueue retry ${job.id}`,
    button: "Retry the job",
    run: async () => {
      await post(`v1/jobs/${job.id}/retry`);
      return `Job ${job.id} is in the queue again.`;
    },
  });
}

/** `retries` are the jobs that send its failed rows already. */
export function retryRows(job, retries = []) {
  // A second press after a lost answer gives the job that the first one made.
  const key = newIdempotencyKey();
  confirm({
    title: `Send the failed rows of job ${job.id} again?`,
    text: [
      `A new job with the ${job.rows.failed == null ? "" : `${count(job.rows.failed)} `}failed rows of ${job.filename}, as they were sent, goes to the same target. Rows that fail by their values will fail again: correct these and use marqueue retry --with FILE.`,
      retries.length ? `They were sent again already: job ${retries.map((retry) => retry.id).join(", job ")}.` : null,
    ].filter(Boolean),
    command: `marqueue retry ${job.id} --failed-rows`,
    button: "Send them again",
    run: async () => {
      const made = await post(`v1/jobs/${job.id}/retry`, { rows: "failed" }, { "Idempotency-Key": key });
      go({ job: made.id });
      const left = made.rows_without_line;
      return `Job ${made.id} was made of the failed rows.${left ? ` ${plural(left, "row")} could not be told from others and ${left === 1 ? "is" : "are"} not in it.` : ""}`;
    },
  });
}

export function pauseInstance(name) {
  confirm({
    title: `Pause ${name}?`,
    text: [
      "No further upload of this instance begins until someone resumes it.",
      "What is on Marketo runs on, and its reports are fetched. New files are accepted and wait.",
    ],
    command: `marqueue pause ${name}`,
    button: "Pause uploads",
    run: async () => {
      await post(`v1/instances/${encodeURIComponent(name)}/pause`);
      return `Uploads of ${name} are paused.`;
    },
  });
}

const RESUME = {
  credentials: "Marketo refused the credentials. If they are still wrong, the instance is paused again.",
  quota: "The daily quota of calls is used up. Marketo will refuse further calls until its day is over, and the instance is then paused again.",
};

export function resumeInstance(name, pause) {
  confirm({
    title: `Resume ${name}?`,
    text: ["Uploads go on in the order of the queue.", RESUME[pause.kind]].filter(Boolean),
    command: `marqueue resume ${name}`,
    button: "Resume uploads",
    run: async () => {
      const status = await post(`v1/instances/${encodeURIComponent(name)}/resume`);
      return status?.note ?? `Uploads of ${name} go on.`;
    },
  });
}

/** Actions on all jobs that match a filter. `request` returns the arguments of `post`; `key` is the one of the dialog. */
export const BULK = {
  cancel: {
    button: "Cancel",
    title: "Cancel all that match?",
    can: canCancel,
    request: (id) => [`v1/jobs/${id}/cancel`],
    text: (jobs) => [`${plural(jobs.length, "job")} will be cancelled. What Marketo has already runs to its end.`],
    done: "cancelled",
    danger: true,
  },
  retry: {
    button: "Retry",
    title: "Retry all that match?",
    can: canRetry,
    request: (id) => [`v1/jobs/${id}/retry`],
    text: (jobs) => {
      const batches = jobs.flatMap((job) => inState(job, "failed", "cancelled", "held"));
      const held = batches.filter((batch) => batch.state === "held").length;
      return [`${plural(batches.length, "batch")} of ${plural(jobs.length, "job")} will be sent to Marketo again.`, held ? `${plural(held, "batch")} of these may be on Marketo already: rows could be imported twice.` : null];
    },
    done: "retried",
  },
  rows: {
    button: "Retry failed rows",
    title: "Send the failed rows of all that match again?",
    can: canRetryRows,
    request: (id, key) => [`v1/jobs/${id}/retry`, { rows: "failed" }, { "Idempotency-Key": `${key}-${id}` }],
    text: (jobs) => [`${plural(jobs.length, "new job")} will be made, of the failed rows of ${plural(jobs.length, "job")}.`],
    done: "sent again",
    skipRetried: true,
  },
};

const LIST_PAGE = 1000;
const AT_ONCE = 4;

/** Reads all jobs that match, asks, and acts on those on which one can. */
export function actOnMatching(kind, filter) {
  const action = BULK[kind];
  const found = { matching: 0, jobs: [], retried: 0, done: 0, ready: false };
  // A second attempt after a lost answer has the keys of the first one, so it makes no second job.
  const key = newIdempotencyKey();
  let redraw = () => {};
  let error = null;
  find(action, filter, found, () => redraw()).catch((failure) => {
    error = failure.message;
    redraw();
  });
  confirm({
    title: action.title,
    text: (dialog) => {
      redraw = () => dialog.element.open && dialog.draw();
      if (error) return [h("p", { class: "notice bad", role: "alert" }, error)];
      if (!found.ready) return [h("p", { role: "status" }, `Reading the jobs that match: ${count(found.matching)}`)];
      return [
        h("p", { role: "status" }, describeFilter(filter), `: ${plural(found.matching, "job")}.`),
        ...(found.jobs.length ? action.text(found.jobs).filter(Boolean) : ["On none of them this can be done."]),
        found.retried > 0 && `${plural(found.retried, "job")} whose failed rows were sent again already ${found.retried === 1 ? "is" : "are"} left out.`,
        found.done === 0 && found.jobs.length < found.matching && found.jobs.length > 0 && "The others stay as they are.",
      ].filter(Boolean);
    },
    button: () => (found.ready && found.jobs.length ? `${action.button}: ${plural(found.jobs.length, "job")}` : action.button),
    ready: () => found.ready && found.jobs.length > 0 && !error,
    danger: action.danger,
    run: async (report) => {
      const failures = [];
      const jobs = found.jobs;
      const left = new Set(jobs);
      let tried = 0;
      await each(jobs, async (job) => {
        try {
          await post(...action.request(job.id, key));
          left.delete(job);
        } catch (failure) {
          failures.push(`job ${job.id}: ${failure.message}`);
        }
        tried++;
        if (tried % 10 === 0) report(`${count(tried)} of ${count(jobs.length)}`);
      });
      // A second attempt must not repeat what was done.
      found.jobs = jobs.filter((job) => left.has(job));
      found.done += jobs.length - left.size;
      const good = `${plural(found.done, "job")} ${action.done}`;
      if (failures.length) throw new Error(`${good}; ${count(failures.length)} not: ${failures.slice(0, 3).join("; ")}${failures.length > 3 ? "; …" : ""}`);
      return `${good}.`;
    },
  });
}

/** Whether the failed rows of a job were sent again. */
const isRetried = async (job) => (await get("v1/jobs", { retry_of: job.id, limit: 1 })).jobs.length > 0;

async function find(action, filter, found, changed) {
  let before;
  do {
    const page = await get("v1/jobs", { ...filter, before, limit: LIST_PAGE });
    found.matching += page.jobs.length;
    found.jobs.push(...page.jobs.filter(action.can));
    before = page.next_before;
    changed();
  } while (before != null);
  if (action.skipRetried) {
    const all = found.jobs;
    const retried = new Set();
    await each(all, async (job) => {
      if (await isRetried(job)) retried.add(job.id);
    });
    found.jobs = all.filter((job) => !retried.has(job.id));
    found.retried = retried.size;
  }
  found.ready = true;
  changed();
}

/** Does something for each item, some at once. */
async function each(items, work) {
  let next = 0;
  const worker = async () => {
    while (next < items.length) await work(items[next++]);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

function describeFilter(filter) {
  const parts = Object.entries(filter).map(([name, value]) => `${name === "q" ? "file name" : name} ${value}`);
  return parts.length ? `Jobs with ${parts.join(", ")}` : "All jobs";
}
