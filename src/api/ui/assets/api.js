// Calls of the daemon's API. All addresses are relative to the page, so that a path prefix works.

import { noteServerTime } from "./format.js";

/** The session: client (null on the socket), access, csrf_token, version. */
export let session = null;

/** An answer of the daemon that is no success; status 0 where no answer came. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The login form keeps the query, and opens the same view afterwards. */
const openLogin = () => location.assign(`ui/login${location.search}`);

async function problem(response) {
  let text = `the daemon answered ${response.status}`;
  try {
    const body = await response.json();
    text = body.detail || body.title || text;
  } catch {
    // The body is no problem document: the status has to do.
  }
  return new ApiError(response.status, text);
}

async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "no daemon answers");
  }
  const date = response.headers.get("date");
  if (date) noteServerTime(date);
  if (response.ok) return response;
  if (response.status === 401) openLogin();
  throw await problem(response);
}

/** Reads the session. Without one over TCP, the login form is opened. */
export async function openSession() {
  session = await (await call("ui/session")).json();
  return session;
}

export const query = (parameters) => {
  const given = Object.entries(parameters).filter(([, value]) => value !== "" && value != null);
  const text = new URLSearchParams(given).toString();
  return text && `?${text}`;
};

export async function get(path, parameters = {}) {
  return (await call(path + query(parameters))).json();
}

/** Reads the first rows of a report, and stops the answer then. */
export async function firstRows(path, limit) {
  const stop = new AbortController();
  const response = await call(`${path}?format=ndjson`, { signal: stop.signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const rows = [];
  let rest = "";
  let ended = false;
  while (rows.length <= limit && !ended) {
    const { done, value } = await reader.read();
    ended = done;
    const lines = (rest + (value ?? "")).split("\n");
    rest = done ? "" : lines.pop();
    for (const line of lines) if (line) rows.push(JSON.parse(line));
  }
  if (!ended) stop.abort();
  return { rows: rows.slice(0, limit), hasMore: rows.length > limit };
}
