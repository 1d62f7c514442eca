// Calls of the daemon's API. All addresses are relative to the page, so that a path prefix works.

import { noteServerTime } from "./format.js";

/** The session: client (null on the socket), instance (its default), access, csrf_token, version. */
export let session = null;

/** Whether this page may change something. */
export const mayWrite = () => session != null && session.access !== "read";

/** An answer of the daemon that is no success; status 0 where no answer came. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The login form keeps the query, and opens the same view afterwards. */
let leaving = false;
const openLogin = () => {
  // Several calls can fail at once, and a second navigation would abort the first.
  if (!leaving) location.assign(`ui/login${location.search}`);
  leaving = true;
};
addEventListener("pageshow", () => (leaving = false));

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

/** Returns a key for one request and its repetitions. */
export const newIdempotencyKey = () => `page-${[...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;

/** Sends a change with the token. If it is out of date, as after a restart of the daemon, it is read again once. */
async function withToken(send) {
  const token = session.csrf_token;
  try {
    return await send(token);
  } catch (error) {
    if (error.status !== 403) throw error;
    await openSession();
    if (session.csrf_token === token) throw error;
    return send(session.csrf_token);
  }
}

/** Makes a change. `headers` are further ones. */
export async function post(path, parameters = {}, headers = {}) {
  const response = await withToken((token) => call(path + query(parameters), { method: "POST", headers: { "X-CSRF-Token": token, ...headers } }));
  return response.headers.get("content-type")?.includes("json") ? response.json() : null;
}

/** Sends a file as the body, and reports the bytes sent. */
export const upload = (options) => withToken((token) => sendFile(token, options));

/** `XMLHttpRequest`, since fetch reports no progress. */
function sendFile(token, { path, parameters, file, headers = {}, onProgress, signal }) {
  return new Promise((resolve, reject) => {
    // The event of an abort before the second attempt was received by the first one only.
    if (signal?.aborted) return reject(new ApiError(0, "stopped"));
    const request = new XMLHttpRequest();
    request.open("POST", path + query(parameters));
    request.setRequestHeader("X-CSRF-Token", token);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    if (onProgress) request.upload.onprogress = (event) => onProgress(event.loaded, event.total);
    request.onerror = () => reject(new ApiError(0, "the connection was lost"));
    request.onabort = () => reject(new ApiError(0, "stopped"));
    request.onload = () => {
      let body = null;
      try {
        body = JSON.parse(request.responseText);
      } catch {
        // As in problem(): the status has to do.
      }
      if (request.status === 401) openLogin();
      if (request.status >= 200 && request.status < 300) resolve(body);
      else reject(new ApiError(request.status, body?.detail || `the daemon answered ${request.status}`));
    };
    signal?.addEventListener("abort", () => request.abort());
    request.send(file);
  });
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

export async function logout() {
  await post("ui/logout");
  openLogin();
}
