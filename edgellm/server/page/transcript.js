// The messages of the chat on display.

import { el } from "./dom.js";
import { copyFrom, MessageView } from "./message.js";
import { Follower } from "./scroll.js";
import { children, path } from "./tree.js";
import { t } from "./words.js";

const TICK_MS = 1000;
const FRAME_MS = 40; // smooth enough to read; the processor that draws may be the one that decodes

/** The scrolling middle of the page. */
export class Transcript {
  /** @param {import("./message.js").Deeds} deeds @param {(text: string) => void} suggest puts words into the composer */
  constructor(deeds, suggest) {
    this.suggest = suggest;
    this.column = el("div", { class: "column" });
    this.element = el("main", { class: "transcript", tabIndex: -1, on: { click: (event) => this.#click(event) } }, this.column);
    this.follower = new Follower(this.element);
    this.views = new Map(); // by message id
    this.changedOnes = new Set();
    this.frame = 0;
    this.deeds = {
      ...deeds,
      siblings: (message) => children(this.chat, message.parent),
      isLast: (message) => this.path.at(-1) === message,
      nameOf: (callId) => this.#nameOf(callId),
    };
    this.ticking = setInterval(() => this.#tick(), TICK_MS);
  }

  /** The page is built anew, without this. */
  close() {
    clearInterval(this.ticking);
  }

  /** Show a chat's branch, from its end. @param {import("./tree.js").Chat} chat */
  show(chat) {
    const stays = this.chat === chat ? this.element.scrollTop : null;
    this.chat = chat;
    this.path = path(chat);
    this.changedOnes.clear();
    this.views.clear();
    for (const message of this.path) this.views.set(message.id, new MessageView(message, this.deeds));
    this.column.replaceChildren(...(this.path.length ? [...this.views.values()].map((view) => view.element) : [this.#welcome()]));
    this.element.classList.toggle("blank", this.path.length === 0);
    if (stays === null) this.follower.jump();
    else this.element.scrollTop = stays;
  }

  /** A message has changed; it is drawn with the next frame, or later where drawing takes long. */
  changed(message) {
    if (!this.views.has(message.id)) return;
    this.changedOnes.add(message.id);
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => this.#draw());
  }

  /** Edit the last question. @returns {boolean} whether there is one */
  editLast() {
    const question = this.path.findLast(({ role }) => role === "user");
    if (question) this.views.get(question.id).edit();
    return Boolean(question);
  }

  #draw() {
    const begun = performance.now();
    for (const id of this.changedOnes) this.views.get(id)?.update();
    this.changedOnes.clear();
    this.follower.grown();
    const spent = performance.now() - begun;
    this.frame = setTimeout(() => {
      this.frame = 0;
      if (this.changedOnes.size) this.frame = requestAnimationFrame(() => this.#draw());
    }, Math.max(FRAME_MS - spent, spent)); // half of the time stays free for the user, whatever the text is like
  }

  #tick() {
    for (const view of this.views.values()) if (view.element.classList.contains("running")) view.tick();
  }

  #nameOf(callId) {
    const calls = this.path.flatMap((message) => message.calls ?? []);
    return calls.find((call) => call?.id === callId)?.name ?? "?";
  }

  #welcome() {
    return el("div", { class: "welcome" },
      el("h1", { text: t("hello") }),
      el("ul", { class: "ideas" }, ...t("ideas").map((idea) => el("li", {},
        el("button", { type: "button", text: idea, on: { click: () => this.suggest(idea) } })))),
      el("p", { class: "hint", text: t("privacy") }));
  }

  #click({ target }) {
    const button = target.closest("[data-copy=code]");
    if (button) copyFrom(button, button.closest(".code").querySelector("code").textContent);
  }
}
