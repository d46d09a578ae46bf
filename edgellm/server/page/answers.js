// Answers being written: one for each chat at most, also while another chat is on display.

import { ApiError, chat as ask } from "./api.js";
import { costOf } from "./cost.js";
import { requestOf } from "./settings.js";
import { add, asked } from "./tree.js";

const SAVE_MS = 2000; // between writes of an unfinished answer to the storage

/** @typedef {import("./tree.js").Chat} Chat @typedef {import("./tree.js").Message} Message */

/** Runs requests and writes what comes back into messages. */
export class Answers {
  /**
   * @param {() => string} key the API key or ""
   * @param {(chat: Chat, message: Message) => void} changed called for each change of a message
   * @param {(chat: Chat) => void} save
   */
  constructor(key, changed, save) {
    Object.assign(this, { key, changed, save });
    this.running = new Map(); // chat id -> {chat, message, controller}
  }

  /** Whether an answer of this chat is being written. @param {string} id */
  busy(id) {
    return this.running.has(id);
  }

  /** End a chat's answer. What is there stays. @param {string} id */
  stop(id) {
    this.running.get(id)?.controller.abort();
  }

  /** Save what is unfinished: the page may be closed. */
  saveAll() {
    for (const { chat } of this.running.values()) this.save(chat);
  }

  /** Whether this answer is being written. @param {Chat} chat @param {Message} message */
  writes(chat, message) {
    return this.running.get(chat.id)?.message === message;
  }

  /**
   * Answer a message: a question or a tool's result.
   * @param {Chat} chat @param {Message} question @param {string} model
   * @param {Message} [failed] an answer that said nothing, to be written over
   */
  async answer(chat, question, model, failed) {
    const messages = asked(chat, question);
    const fresh = { model, began: Date.now(), ended: undefined, finish: undefined, cost: undefined, trouble: undefined };
    const message = failed ? Object.assign(failed, fresh) : add(chat, question, { role: "assistant", ...fresh });
    const controller = new AbortController();
    this.running.set(chat.id, { chat, message, controller });
    this.changed(chat, message);
    this.save(chat);
    try {
      await this.#write(chat, message, ask(requestOf(chat.settings, model, messages), this.key(), controller.signal));
    } catch (error) {
      if (controller.signal.aborted) message.finish = "stopped";
      else if (error instanceof ApiError) message.trouble = { kind: error.kind, message: error.message };
      else message.trouble = { kind: "server", message: String(error) };
    }
    message.ended = Date.now();
    if (message.thinking) message.thoughtMs ??= message.ended - message.began;
    chat.changed = message.ended;
    this.running.delete(chat.id);
    this.save(chat);
    this.changed(chat, message);
  }

  async #write(chat, message, chunks) {
    const begun = performance.now();
    let first = null;
    let saved = begun;
    for await (const chunk of chunks) {
      const now = performance.now();
      const choice = chunk.choices?.[0];
      if (choice && take(message, choice.delta ?? {})) {
        first ??= now;
        if (message.text || message.calls) message.thoughtMs ??= message.thinking ? now - first : undefined;
        this.changed(chat, message);
      }
      if (choice?.finish_reason) message.finish = choice.finish_reason;
      if (chunk.usage) message.cost = costOf(chunk, first === null ? null : first - begun);
      if (now - saved > SAVE_MS) {
        this.save(chat);
        saved = now;
      }
    }
  }
}

/** Add a delta to a message. @returns {boolean} whether it said anything */
function take(message, { content, reasoning_content: thinking, tool_calls: calls }) {
  if (thinking) message.thinking = (message.thinking ?? "") + thinking;
  if (content) message.text += content;
  for (const { index, id, function: called } of calls ?? []) {
    message.calls ??= [];
    const call = (message.calls[index] ??= { id: id ?? "", name: "", arguments: "" });
    call.name += called?.name ?? "";
    call.arguments += called?.arguments ?? "";
  }
  return Boolean(content || thinking || calls?.length);
}
