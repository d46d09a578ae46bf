// A conversation as a tree: editing a message or asking again begins a branch, and the old one stays.

/**
 * @typedef {{id: string, name: string, arguments: string}} Call a tool that the model wants called
 * @typedef {{kind: string, message: string, status?: number}} Trouble by api.js
 * @typedef {{
 *   id: string, parent: string | null, role: "user" | "assistant" | "tool", text: string,
 *   thinking?: string, thoughtMs?: number, calls?: Call[], callId?: string, model?: string,
 *   began?: number, ended?: number, finish?: string, cost?: import("./cost.js").Cost, trouble?: Trouble,
 * }} Message times in milliseconds since 1970; `callId` of a tool's result; without `ended`, an answer is being written
 * @typedef {{
 *   version: 1, id: string, title: string, named: boolean, created: number, changed: number,
 *   settings: import("./settings.js").Settings, messages: Object<string, Message>, chosen: Object<string, string>,
 * }} Chat `messages` are in the order in which they were made; `chosen` has the child to follow, by its parent's id
 */

const ROOT = "root"; // in `chosen`, for messages without a parent

/** @returns {string} */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(9));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_");
}

/** @param {import("./settings.js").Settings} settings @returns {Chat} */
export function newChat(settings) {
  const now = Date.now();
  return {
    version: 1, id: newId(), title: "", named: false, created: now, changed: now,
    settings: { ...settings }, messages: {}, chosen: {},
  };
}

/** The messages that were made as answers to, or after, `parent`; with null, those that begin the chat. */
export function children(chat, parent) {
  return Object.values(chat.messages).filter((message) => message.parent === parent);
}

/** @param {Chat} chat @returns {Message[]} those on display, first to last */
export function path(chat) {
  const byParent = new Map();
  for (const message of Object.values(chat.messages)) {
    if (!byParent.has(message.parent)) byParent.set(message.parent, []);
    byParent.get(message.parent).push(message);
  }
  const found = [];
  for (let parent = null, list; (list = byParent.get(parent)); ) {
    const chosen = list.find((message) => message.id === chat.chosen[parent ?? ROOT]) ?? list.at(-1);
    byParent.delete(parent); // a file from elsewhere may go round in circles
    found.push(chosen);
    parent = chosen.id;
  }
  return found;
}

/** The messages from the first to this one. @returns {Message[]} */
export function pathTo(chat, message) {
  const found = [];
  const seen = new Set();
  for (let at = message; at && !seen.has(at.id); at = chat.messages[at.parent]) {
    seen.add(at.id);
    found.unshift(at);
  }
  return found;
}

/** Add a message and show its branch. @param {Chat} chat @param {Partial<Message>} traits @returns {Message} */
export function add(chat, parent, traits) {
  const message = { id: newId(), parent: parent?.id ?? null, text: "", ...traits };
  chat.messages[message.id] = message;
  choose(chat, message);
  if (!chat.named && message.role === "user" && !chat.title) chat.title = titleOf(message.text);
  chat.changed = Date.now();
  return message;
}

/** Show the branch in which `message` is. */
export function choose(chat, message) {
  chat.chosen[message.parent ?? ROOT] = message.id;
}

/** @param {string} text a first question @returns {string} */
export function titleOf(text) {
  const line = text.trim().split("\n", 1)[0].replace(/\s+/g, " ");
  const letters = Array.from(line);
  return letters.length > 60 ? `${letters.slice(0, 59).join("")}…` : line;
}

/** Messages of two copies of one chat, written by two windows: of an answer that one saw end, that copy. */
export function merge(mine, theirs) {
  for (const [id, message] of Object.entries(theirs.messages)) {
    const own = mine.messages[id];
    if (!own || (message.ended && !own.ended && message.began === own.began)) mine.messages[id] = message;
  }
  for (const [parent, child] of Object.entries(theirs.chosen)) mine.chosen[parent] ??= child;
  return mine;
}

/**
 * What the server is asked with: the branch up to and with `last`, in OpenAI's form. Answers that failed before
 * their first word are left out, for they say nothing. Thinking goes back only while tools are at work on it.
 * @param {Chat} chat @param {Message} last
 */
export function asked(chat, last) {
  const messages = chat.settings.system ? [{ role: "system", content: chat.settings.system }] : [];
  const branch = pathTo(chat, last);
  const question = branch.findLastIndex((message) => message.role === "user");
  for (const [i, message] of branch.entries()) {
    if (message.role === "tool") messages.push({ role: "tool", tool_call_id: message.callId, content: message.text });
    else if (message.role === "user") messages.push({ role: "user", content: message.text });
    else if (message.text || message.calls?.length) messages.push(answerAsked(message, i > question));
  }
  return messages;
}

function answerAsked({ text, thinking, calls }, current) {
  const message = { role: "assistant", content: text };
  if (thinking && current) message.reasoning_content = thinking;
  if (calls?.length) {
    message.tool_calls = calls.map((call) => ({
      id: call.id, type: "function", function: { name: call.name, arguments: call.arguments },
    }));
  }
  return message;
}
