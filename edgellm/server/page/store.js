// Chats and preferences in the browser's storage. One key a chat, so that a chat is written without the others.

import { merge, newId } from "./tree.js";

/** @typedef {import("./tree.js").Chat} Chat */
/** @typedef {{id: string, title: string, changed: number}} Entry of the list */

const CHAT = "edgellm.chat.";
const PREFERENCE = "edgellm.preference.";

/** Something that the storage could not do. `kind` is a word of words.js: "full", "refused", "gone", "unreadable". */
export class StoreError extends Error {
  /** @param {"full" | "refused" | "gone" | "unreadable"} kind */
  constructor(kind) {
    super(kind);
    this.kind = kind;
  }
}

/** What is written is read back by the same browser alone. Where it keeps nothing, chats last as long as the page. */
export class Store {
  /** @param {Storage} [storage] */
  constructor(storage) {
    this.storage = storage ?? browserStorage();
    this.known = new Set(); // chats that are in the storage, as far as this page knows
  }

  /** Whether chats outlive the page. */
  get lasts() {
    return !(this.storage instanceof Memory);
  }

  /** @returns {Entry[]} newest first; what cannot be read is left out, and left alone */
  list() {
    const found = [];
    for (const key of this.#keys(CHAT)) {
      const chat = this.#read(key);
      if (chat) found.push({ id: chat.id, title: chat.title, changed: chat.changed });
    }
    return found.sort((a, b) => b.changed - a.changed);
  }

  /** @param {string} id @returns {Chat | null} */
  load(id) {
    const chat = this.#read(CHAT + id);
    if (chat) this.known.add(id);
    return chat;
  }

  /** Write a chat, with what another window has added meanwhile. Raises StoreError. @param {Chat} chat */
  save(chat) {
    const stored = this.#read(CHAT + chat.id);
    if (!stored && this.known.has(chat.id)) throw new StoreError("gone");
    if (stored) merge(chat, stored);
    this.#write(CHAT + chat.id, JSON.stringify(chat));
    this.known.add(chat.id);
  }

  /** @param {string} id */
  remove(id) {
    this.storage.removeItem(CHAT + id);
    this.known.delete(id);
  }

  /** @returns {Chat[]} */
  all() {
    return this.list().map(({ id }) => this.load(id));
  }

  /** Add chats from a file that `exported` has written. Raises StoreError. @param {string} text @returns {Chat[]} */
  import(text) {
    let given;
    try {
      given = JSON.parse(text);
    } catch {
      throw new StoreError("unreadable");
    }
    const chats = (Array.isArray(given) ? given : [given]).map(checked);
    for (const chat of chats) {
      const taken = this.#read(CHAT + chat.id); // what is here is not written over
      if (taken || !/^[\w-]{1,64}$/.test(chat.id)) chat.id = newId(); // it goes into the address as it is
      this.save(chat);
    }
    return chats;
  }

  /** @param {string} name @param {unknown} otherwise @returns {any} */
  preference(name, otherwise) {
    try {
      const text = this.storage.getItem(PREFERENCE + name);
      return text === null ? otherwise : JSON.parse(text);
    } catch {
      return otherwise;
    }
  }

  /** Raises StoreError. @param {string} name @param {unknown} value null forgets it */
  prefer(name, value) {
    if (value === null) this.storage.removeItem(PREFERENCE + name);
    else this.#write(PREFERENCE + name, JSON.stringify(value));
  }

  /** Call `listener` when another window has changed a chat. @param {(id: string) => void} listener */
  watch(listener) {
    addEventListener("storage", ({ key }) => {
      if (key === null || key.startsWith(CHAT)) listener(key === null ? "" : key.slice(CHAT.length));
    });
  }

  #keys(prefix) {
    return Array.from({ length: this.storage.length }, (_, i) => this.storage.key(i)).filter((key) => key.startsWith(prefix));
  }

  #read(key) {
    try {
      return checked(JSON.parse(this.storage.getItem(key)));
    } catch {
      return null;
    }
  }

  #write(key, value) {
    try {
      this.storage.setItem(key, value);
    } catch (error) {
      throw new StoreError(error.name === "QuotaExceededError" ? "full" : "refused");
    }
  }
}

/** A storage that forgets. */
class Memory {
  #items = new Map();
  get length() { return this.#items.size; }
  key(i) { return [...this.#items.keys()][i] ?? null; }
  getItem(key) { return this.#items.get(key) ?? null; }
  setItem(key, value) { this.#items.set(key, String(value)); }
  removeItem(key) { this.#items.delete(key); }
}

function browserStorage() {
  try {
    localStorage.getItem(CHAT);
    return localStorage;
  } catch {
    return new Memory(); // cookies and storage are switched off
  }
}

/** A chat with just the fields that this page knows, of the types it expects. Raises StoreError. */
function checked(given) {
  if (given?.version !== 1 || typeof given.id !== "string" || !isRecord(given.messages)) throw new StoreError("unreadable");
  const messages = Object.fromEntries(
    Object.entries(given.messages).filter(([id, message]) => isMessage(message) && message.id === id));
  return {
    version: 1, id: given.id, title: String(given.title ?? ""), named: given.named === true,
    created: Number(given.created) || 0, changed: Number(given.changed) || 0,
    settings: isRecord(given.settings) ? given.settings : {}, messages, chosen: isRecord(given.chosen) ? given.chosen : {},
  };
}

function isMessage(message) {
  return isRecord(message) && typeof message.text === "string" && ["user", "assistant", "tool"].includes(message.role)
    && (message.parent === null || typeof message.parent === "string")
    && (message.thinking === undefined || typeof message.thinking === "string")
    && (message.calls === undefined || (Array.isArray(message.calls) && message.calls.every(isCall)));
}

function isCall(call) {
  return isRecord(call) && [call.id, call.name, call.arguments].every((part) => typeof part === "string");
}

function isRecord(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
