// What the page asks of the server, and what can go wrong. Paths are relative: a proxy may have put it in a folder.

import { sseEvents } from "./sse.js";

/**
 * "gone": nobody answers; "broken": the answer broke off; "key": it is missing or wrong; "busy": the queue is full;
 * "crash": the engine died; "timeout"; "request": what was asked cannot be done; "server": anything else.
 * @typedef {"gone" | "broken" | "key" | "busy" | "crash" | "timeout" | "request" | "server"} TroubleKind
 * @typedef {{id: string, aliases?: string[], status?: {value: string}}} Model
 */

/** Why there is no answer, or no rest of it. */
export class ApiError extends Error {
  /** @param {TroubleKind} kind @param {string} message the server's words, or "" */
  constructor(kind, message = "") {
    super(message);
    this.kind = kind;
  }
}

const BY_STATUS = { 401: "key", 403: "request", 429: "busy", 502: "gone", 503: "crash", 504: "timeout" };
const BY_TYPE = {
  authentication_error: "key", rate_limit_error: "busy", unavailable_error: "crash", timeout_error: "timeout",
  invalid_request_error: "request", not_found_error: "request",
};

/** @param {string} key the API key or "" @returns {Promise<Model[]>} Raises ApiError. */
export async function models(key) {
  const response = await request("v1/models", { headers: authorization(key) });
  const { data } = await response.json();
  return Array.isArray(data) ? data.filter((model) => typeof model?.id === "string") : [];
}

/** Whether the server answers at all; a key is not needed. @returns {Promise<boolean>} */
export async function alive() {
  try {
    return (await fetch("health", { cache: "no-store" })).ok;
  } catch {
    return false;
  }
}

/**
 * Ask for an answer, and yield its chunks as they come. Raises ApiError, and AbortError when `signal` says so.
 * @param {object} body of /v1/chat/completions @param {string} key @param {AbortSignal} signal
 * @returns {AsyncGenerator<object, void, void>}
 */
export async function* chat(body, key, signal) {
  const response = await request("v1/chat/completions", {
    method: "POST", signal, body: JSON.stringify(body),
    headers: { "content-type": "application/json", ...authorization(key) },
  });
  try {
    for await (const { data } of sseEvents(response.body)) {
      if (data === "[DONE]") return;
      const chunk = parsed(data);
      if (chunk.error) throw new ApiError(BY_TYPE[chunk.error.type] ?? "server", String(chunk.error.message ?? ""));
      yield chunk;
    }
  } catch (error) {
    if (signal.aborted || error instanceof ApiError) throw error;
    throw new ApiError("broken");
  }
  throw new ApiError("broken"); // it ended without saying so
}

function parsed(data) {
  try {
    return JSON.parse(data);
  } catch {
    throw new ApiError("broken", data.slice(0, 200));
  }
}

function authorization(key) {
  return key ? { authorization: `Bearer ${key}` } : {};
}

async function request(path, init) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", redirect: "error", ...init });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw error instanceof TypeError && /header|ByteString|ISO-8859/i.test(error.message)
      ? new ApiError("key") : new ApiError("gone"); // a key that no header can hold is a wrong one
  }
  if (response.ok) return response;
  throw new ApiError(BY_STATUS[response.status] ?? (response.status < 500 ? "request" : "server"), await reason(response));
}

async function reason(response) {
  try {
    const { error } = JSON.parse(await response.text());
    return String(error.message ?? error);
  } catch {
    return `HTTP ${response.status}`;
  }
}
