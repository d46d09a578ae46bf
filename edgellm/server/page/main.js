// The page: its parts put together, and what the user can do with them.

import { Answers } from "./answers.js";
import { models } from "./api.js";
import { Composer } from "./composer.js";
import { download, el, iconButton } from "./dom.js";
import { exported, fileName, markdownOf } from "./export.js";
import { choice, completed, openSettings } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { Store, StoreError } from "./store.js";
import { Transcript } from "./transcript.js";
import { add, choose, children, newChat } from "./tree.js";
import { troubleBox } from "./trouble.js";
import { languageTag, setLanguage, t } from "./words.js";

const NOTICE_MS = 8000;
const REFRESH_MS = 2000; // between looks at which models are loaded, while an answer is awaited

class Page {
  constructor() {
    this.store = new Store();
    this.language = setLanguage(this.store.preference("language", null));
    this.key = this.store.preference("key", "");
    this.models = null; // not known yet
    this.entries = this.store.list();
    this.opened = new Map(); // chats by id, while the page is open: an answer may be written in the background
    this.removed = new Set();
    this.answers = new Answers(() => this.key, (chat, message) => this.changed(chat, message), (chat) => this.save(chat));
    this.live = el("div", { id: "live", class: "offstage", "aria-live": "polite" });
    this.notices = el("div", { class: "notices", role: "status" });
    this.store.watch((id) => this.changedElsewhere(id));
    addEventListener("hashchange", () => this.go());
    addEventListener("pagehide", () => this.answers.saveAll());
    addEventListener("keydown", (event) => this.keyDown(event));
    addEventListener("focus", () => this.refresh());
    this.build();
    this.go();
    this.refresh();
  }

  /** Make everything anew, in the language chosen. */
  build() {
    const typed = this.composer?.text ?? "";
    this.transcript?.close();
    document.documentElement.lang = languageTag();
    this.sidebar = new Sidebar({
      open: (id) => this.open(id), hide: () => this.showList(false),
      rename: (id, title) => this.rename(id, title), remove: (id) => this.remove(id),
      exportChat: (id, form) => this.export(id, form),
      exportAll: () => download("edgellm-chats.json", "application/json", exported(this.store.all())),
      importFile: (file) => this.import(file),
    });
    this.transcript = new Transcript({
      choose: (message) => this.choose(message), edit: (message, text) => this.edit(message, text),
      again: (message) => this.again(message), results: (message, texts) => this.results(message, texts),
      useKey: (key, message) => this.useKey(key, message), announce: (text) => this.announce(text),
      isRunning: (message) => this.answers.writes(this.chat, message),
      isLoading: (model) => this.isLoading(model),
    }, (idea) => {
      this.composer.text = idea;
      this.composer.area.focus();
    });
    this.composer = new Composer({
      send: (text) => this.send(text), stop: () => this.answers.stop(this.chat.id),
      editLast: () => this.transcript.editLast(), think: (think) => this.set({ think }),
    });
    this.composer.text = typed;
    this.modelPlace = el("div", { class: "model" });
    this.connection = el("div", { class: "connection" });
    this.title = el("h1");
    const bar = el("header", { class: "bar" },
      iconButton("menu", t("openList"), () => this.showList(), { "aria-controls": "sidebar" }), this.title, this.modelPlace,
      iconButton("plus", t("newChat"), () => this.open(null), { class: "quiet narrow" }),
      iconButton("gear", t("settings"), () => this.settings()));
    const veil = el("div", { class: "veil", on: { click: () => this.showList(false) } });
    document.body.replaceChildren(this.sidebar.element, veil,
      el("div", { class: "stage" }, bar, this.transcript.element,
        el("div", { class: "dock" }, this.transcript.follower.button, this.notices, this.connection, this.composer.element)), this.live);
    this.drawModels();
  }

  // Chats

  /** Open the chat that the address names, or a new one. */
  go() {
    const id = location.hash.slice(1); // ids have no letters that an address would change
    const chat = id ? (this.opened.get(id) ?? this.store.load(id)) : null;
    if (chat) chat.settings = completed(chat.settings);
    this.display(chat ?? newChat(completed(this.store.preference("settings", {}))));
  }

  /** @param {string | null} id null: a new one */
  open(id) {
    this.showList(false, true);
    const hash = id ? `#${id}` : "";
    if (location.hash === hash) this.go();
    else if (id) location.hash = hash;
    else {
      history.pushState(null, "", location.pathname);
      this.go();
    }
    this.composer.focus();
  }

  display(chat) {
    this.chat = chat;
    this.opened.set(chat.id, chat);
    for (const [id, other] of this.opened) if (other !== chat && !this.answers.busy(id)) this.opened.delete(id);
    this.transcript.show(chat);
    this.draw();
  }

  /** Everything around the messages. */
  draw() {
    const { chat } = this;
    this.title.textContent = chat.title || t("newChat");
    document.title = chat.title ? `${chat.title} · edgellm` : "edgellm";
    this.composer.show({ running: this.answers.busy(chat.id), think: chat.settings.think });
    this.drawList();
    this.drawModels();
  }

  drawList() {
    this.sidebar.show(this.entries, this.chat.id, (id) => this.answers.busy(id));
  }

  save(chat) {
    if (this.removed.has(chat.id)) return; // its last answer has just been stopped
    try {
      this.store.save(chat);
    } catch (error) {
      this.failed(error);
      return;
    }
    this.entries = [{ id: chat.id, title: chat.title, changed: chat.changed }, ...this.entries.filter(({ id }) => id !== chat.id)];
    this.entries.sort((a, b) => b.changed - a.changed);
    this.drawList();
  }

  rename(id, title) {
    const chat = this.opened.get(id) ?? this.store.load(id);
    if (!chat) return;
    Object.assign(chat, { title, named: true });
    this.save(chat);
    this.draw();
  }

  remove(id) {
    const chat = this.opened.get(id) ?? this.store.load(id);
    if (!chat) return;
    this.removed.add(id);
    this.answers.stop(id);
    this.store.remove(id);
    this.entries = this.entries.filter((entry) => entry.id !== id);
    if (this.chat.id === id) this.open(null);
    else this.drawList();
    this.notice(t("removed", { title: chat.title || t("untitled") }), t("undo"), () => {
      this.removed.delete(id);
      this.save(chat);
      this.open(id);
    });
  }

  export(id, form) {
    const chat = this.opened.get(id) ?? this.store.load(id);
    if (!chat) return;
    chat.settings = completed(chat.settings);
    if (form === "json") download(fileName(chat.title, "json"), "application/json", exported(chat));
    else download(fileName(chat.title, "md"), "text/markdown", markdownOf(chat));
  }

  async import(file) {
    try {
      const chats = this.store.import(await file.text());
      this.notice(t("imported", { n: chats.length }));
    } catch (error) {
      this.failed(error);
    }
    this.entries = this.store.list();
    this.drawList();
  }

  changedElsewhere(id) {
    this.entries = this.store.list();
    if (id === this.chat.id && !this.answers.busy(id) && this.store.load(id)) {
      this.opened.delete(id);
      this.go();
    } else this.drawList();
  }

  // Messages

  send(text) {
    const { chat } = this;
    const question = add(chat, this.transcript.path.at(-1) ?? null, { role: "user", text });
    this.answer(chat, question);
    if (location.hash.slice(1) !== chat.id) history.pushState(null, "", `#${chat.id}`);
  }

  edit(message, text) {
    const { chat } = this;
    const parent = chat.messages[message.parent] ?? null;
    if (message.role === "user") {
      const question = add(chat, parent, { role: "user", text });
      this.transcript.show(chat);
      this.answer(chat, question);
      return;
    }
    const now = Date.now();
    add(chat, parent, { role: "assistant", text, model: message.model, began: now, ended: now, finish: "edited" });
    this.save(chat);
    this.transcript.show(chat);
  }

  again(message) {
    const { chat } = this;
    if (this.answers.busy(chat.id)) return;
    const saidNothing = !message.text && !message.thinking && !message.calls;
    this.answer(chat, chat.messages[message.parent], saidNothing ? message : undefined);
  }

  results(message, texts) {
    let last = message;
    for (const [i, text] of texts.entries()) {
      last = add(this.chat, last, { role: "tool", text, callId: message.calls[i].id });
    }
    this.answer(this.chat, last);
  }

  async answer(chat, question, failed) {
    const model = this.model();
    this.connection.replaceChildren();
    const done = this.answers.answer(chat, question, model, failed);
    this.transcript.show(chat);
    this.transcript.follower.jump();
    this.draw();
    const timer = setInterval(() => this.isLoading(model) && this.refresh(), REFRESH_MS);
    await done;
    clearInterval(timer);
    if (this.chat === chat) this.draw();
    else this.drawList();
    this.refresh();
  }

  choose(message) {
    choose(this.chat, message);
    this.save(this.chat);
    this.transcript.show(this.chat);
  }

  changed(chat, message) {
    if (chat === this.chat) this.transcript.changed(message);
  }

  // The server

  /** The model to ask: the chat's, if it is offered, else the first. */
  model() {
    const wanted = this.chat.settings.model;
    const offered = this.models ?? [];
    if (!offered.length) return wanted ?? "";
    return offered.some(({ id }) => id === wanted) ? wanted : offered[0].id;
  }

  /** Whether a model still has to be opened: it is at the first request. @param {string} model */
  isLoading(model) {
    const status = this.models?.find(({ id }) => id === model)?.status?.value;
    return status === "unloaded" || status === "loading";
  }

  async refresh() {
    try {
      this.models = await models(this.key);
      this.connection.replaceChildren();
    } catch (error) {
      const told = this.connection.hasChildNodes() || this.transcript.path.at(-1)?.trouble; // here, or at an answer
      if (!told && !this.answers.busy(this.chat.id)) this.connection.append(this.connectionTrouble(error));
    }
    this.drawModels();
  }

  connectionTrouble(error) {
    const again = () => {
      this.connection.replaceChildren();
      this.refresh();
    };
    return troubleBox(error, { retry: again, back: again, useKey: (key) => this.useKey(key) });
  }

  drawModels() {
    if (!this.models || !this.chat) {
      this.modelPlace.textContent = t("connecting");
      return;
    }
    const options = this.models.map(({ id }) => [id, id]);
    const select = options.length
      ? choice(options, this.model(), (model) => this.set({ model })) : el("span", { text: t("noModel") });
    select.ariaLabel = t("model");
    const before = this.modelPlace.querySelector("select");
    if (before && document.activeElement === before) return;
    this.modelPlace.replaceChildren(select);
  }

  useKey(key, message) {
    this.key = key;
    this.prefer("key", key || null);
    this.connection.replaceChildren();
    this.refresh();
    if (message) this.again(message);
  }

  // Settings

  set(some) {
    Object.assign(this.chat.settings, some);
    this.prefer("settings", this.chat.settings);
    if (this.transcript.path.length) this.save(this.chat);
    this.draw();
  }

  prefer(name, value) {
    try {
      this.store.prefer(name, value);
    } catch (error) {
      this.failed(error);
    }
  }

  settings() {
    openSettings({
      settings: this.chat.settings, language: this.language, key: this.key,
      save: (settings) => this.set(settings), speak: (language) => this.speak(language), useKey: (key) => this.useKey(key),
    });
  }

  speak(language) {
    this.language = setLanguage(language);
    this.prefer("language", language);
    document.querySelector("dialog")?.close();
    this.build();
    this.transcript.show(this.chat);
    this.draw();
    this.settings();
  }

  // What the user is told

  announce(text) {
    this.live.textContent = text;
  }

  failed(error) {
    this.notice(error instanceof StoreError ? t(error.kind) : String(error)).classList.add("warn");
  }

  /** A line for a while. @param {string} text @param {string} [deed] @param {() => void} [action] */
  notice(text, deed, action) {
    const there = [...this.notices.children].find((child) => child.dataset.text === text);
    if (there) return there;
    const close = () => line.remove();
    const line = el("div", { class: "notice", "data-text": text }, el("span", { text }),
      deed && el("button", { type: "button", text: deed, on: { click: () => {
        close();
        action();
      } } }),
      iconButton("close", t("close"), close));
    this.notices.append(line);
    setTimeout(close, NOTICE_MS);
    return line;
  }

  /** @param {boolean} [wanted] without, the other way round @param {boolean} [narrow] only where it covers the page */
  showList(wanted, narrow = false) {
    const covers = matchMedia("(max-width: 760px)").matches;
    if (narrow && !covers) return;
    const name = covers ? "list-open" : "list-closed";
    const now = document.body.classList.contains(name);
    const next = wanted === undefined ? !now : covers ? wanted : !wanted;
    document.body.classList.toggle(name, next);
  }

  keyDown(event) {
    if (document.querySelector("dialog[open]") || event.isComposing) return;
    const held = event.ctrlKey || event.metaKey;
    if (event.key === "Escape") {
      if (document.body.classList.contains("list-open")) this.showList(false);
      else this.answers.stop(this.chat.id);
    } else if (held && !event.altKey && event.key.toLowerCase() === "k") {
      event.preventDefault();
      this.open(null);
    } else if (held && !event.altKey && event.key.toLowerCase() === "b") {
      event.preventDefault();
      this.showList();
    }
  }
}

new Page();
