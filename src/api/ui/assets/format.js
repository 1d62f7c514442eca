// Texts for numbers, times, targets and states.

const NUMBER = new Intl.NumberFormat("en");
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const DAY = new Intl.DateTimeFormat("en", { day: "numeric", month: "short" });
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

/** How far the daemon's clock is ahead of this one, in milliseconds. */
let ahead = 0;

/** Notes the daemon's time. Only whole seconds are known, so small differences are ignored. */
export function noteServerTime(text) {
  const difference = Date.parse(text) - Date.now();
  if (Number.isFinite(difference)) ahead = Math.abs(difference) > 2500 ? difference : 0;
}

/** Returns the daemon's time in milliseconds. */
export const now = () => Date.now() + ahead;

export const count = (number) => (number == null ? "unknown" : NUMBER.format(number));

export const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : noun.endsWith("ch") ? "es" : "s"}`;

export function bytes(number) {
  const units = ["", "kB", "MB", "GB"];
  let unit = 0;
  while (number >= 1000 && unit < units.length - 1) {
    number /= 1000;
    unit++;
  }
  if (!unit) return plural(number, "byte");
  return `${number < 10 ? number.toFixed(1) : Math.round(number)} ${units[unit]}`;
}

export function duration(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return minutes < 10 && seconds % 60 ? `${minutes} min ${seconds % 60} s` : `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  const days = Math.floor(hours / 24);
  return hours % 24 ? `${days} d ${hours % 24} h` : `${days} d`;
}

/** The time of day; with the date where it is not today. */
export function clock(at) {
  const date = new Date(at);
  const time = CLOCK.format(date);
  return date.toDateString() === new Date().toDateString() ? time : `${DAY.format(date)}, ${time.slice(0, 5)}`;
}

export const full = (at) => FULL.format(new Date(at));

export function ago(at) {
  const ms = now() - Date.parse(at);
  // Of what is past, the larger unit is enough.
  return ms < 1500 ? "now" : `${duration(ms).split(/(?<=[a-z]) /)[0]} ago`;
}

/** The time until `at`: "in 12 s", or "now". */
export function until(at) {
  const ms = Date.parse(at) - now();
  return ms < 1000 ? "any moment" : `in ${duration(ms)}`;
}

export function target(target) {
  if (target.type === "custom-object") return `custom object ${target.name}`;
  if (target.type === "program-members") return `program ${target.program_id} (${target.status})`;
  return target.list_id == null ? "leads" : `leads, list ${target.list_id}`;
}

export function source(source) {
  if (!source) return "unknown";
  if (source.type === "client") return `client ${source.client_id}`;
  if (source.type === "drop") return `drop folder: ${source.path}`;
  return source.uid == null ? "socket" : `socket, user ${source.uid}`;
}

/** Whether Marketo did not import some rows. */
export const hasFailedRows = (job) => job.rows.failed > 0 || job.batches.some((batch) => batch.failures_bytes != null);

export const isEnded = (job) => ["complete", "failed", "cancelled"].includes(job.state);

/** A job's state in words, and the class of its colour. */
export function jobState(job) {
  const held = job.batches.some((batch) => batch.state === "held");
  if (held) return { text: "held", tone: "warn" };
  if (job.state === "complete") {
    // The counts beside it say what the colour warns of.
    return { text: "complete", tone: job.rows.failed > 0 || job.rows.unaccounted ? "warn" : "good" };
  }
  return { text: job.state, tone: stateTone(job.state) };
}

export function stateTone(state) {
  if (state === "complete") return "good";
  if (state === "failed") return "bad";
  if (state === "held") return "warn";
  if (["running", "uploading", "queued", "importing", "collecting"].includes(state)) return "busy";
  return "quiet";
}
