// The list of chats.

import { el, icon, iconButton } from "./dom.js";
import { t } from "./words.js";

const DAY_MS = 86_400_000;
const SEARCH_FROM = 8; // chats, from which on a search field is of use

/**
 * @typedef {{open: (id: string | null) => void, rename: (id: string, title: string) => void, remove: (id: string) => void,
 *   exportChat: (id: string, form: "json" | "markdown") => void, exportAll: () => void, importFile: (file: File) => void,
 *   hide: () => void}} Deeds
 */

/** Chats by age, each with what can be done to it. */
export class Sidebar {
  /** @param {Deeds} deeds */
  constructor(deeds) {
    this.deeds = deeds;
    this.wanted = "";
    this.search = el("input", {
      type: "search", placeholder: t("search"), "aria-label": t("search"),
      on: { input: () => {
        this.wanted = this.search.value.trim().toLowerCase();
        this.#draw();
      } },
    });
    this.list = el("nav", { "aria-label": t("chats") });
    const file = el("input", { type: "file", accept: ".json,application/json", hidden: true, on: { change: () => {
      if (file.files[0]) deeds.importFile(file.files[0]);
      file.value = "";
    } } });
    this.element = el("aside", { class: "sidebar", id: "sidebar" },
      el("div", { class: "row" },
        el("button", { type: "button", class: "new", on: { click: () => deeds.open(null) } }, icon("plus"), el("span", { text: t("newChat") })),
        iconButton("close", t("closeList"), deeds.hide, { class: "quiet narrow" })),
      this.search, this.list,
      el("div", { class: "row foot" },
        el("button", { type: "button", class: "quiet", text: t("importChats"), on: { click: () => file.click() } }),
        el("button", { type: "button", class: "quiet", text: t("exportAll"), on: { click: deeds.exportAll } }), file));
  }

  /** @param {import("./store.js").Entry[]} entries newest first @param {string | null} current @param {(id: string) => boolean} busy */
  show(entries, current, busy) {
    Object.assign(this, { entries, current, busy });
    this.search.hidden = entries.length < SEARCH_FROM;
    this.#draw();
  }

  #draw() {
    const found = this.entries.filter(({ title }) => title.toLowerCase().includes(this.wanted));
    const groups = new Map();
    for (const entry of found) {
      const age = ageOf(entry.changed);
      if (!groups.has(age)) groups.set(age, []);
      groups.get(age).push(entry);
    }
    this.list.replaceChildren(...[...groups].flatMap(([age, entries]) => [
      el("h2", { text: t(age) }), el("ul", {}, ...entries.map((entry) => this.#entry(entry))),
    ]));
    if (!found.length) this.list.append(el("p", { class: "hint", text: t("noChats") }));
  }

  #entry({ id, title }) {
    const shown = title || t("untitled");
    const here = id === this.current;
    const link = el("button", {
      type: "button", class: "chat", title: shown, on: { click: () => this.deeds.open(id) }, ...(here && { "aria-current": "page" }),
    }, el("span", { text: shown }), this.busy(id) && el("span", { class: "pulse", role: "img", "aria-label": t("writing") }));
    const item = el("li", { class: here ? "here" : "" }, link, ...this.#menu(id, shown, () => this.#rename(item, id, title)));
    return item;
  }

  /** What can be done to a chat, unfolded below its line. */
  #menu(id, title, rename) {
    const toggle = (open) => {
      choices.hidden = !open;
      opener.ariaExpanded = String(open);
    };
    const button = (words, action) => el("button", { type: "button", class: "quiet", text: words, on: { click: () => {
      toggle(false);
      action();
    } } });
    const opener = iconButton("more", t("options", { title }), () => toggle(choices.hidden), { class: "quiet more", ariaExpanded: "false" });
    const choices = el("div", { class: "choices", hidden: true }, button(t("rename"), rename),
      button(t("exportMarkdown"), () => this.deeds.exportChat(id, "markdown")),
      button(t("exportJson"), () => this.deeds.exportChat(id, "json")),
      button(t("remove"), () => this.deeds.remove(id)));
    choices.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      toggle(false);
      opener.focus();
    });
    return [opener, choices];
  }

  #rename(item, id, title) {
    const input = el("input", { value: title, "aria-label": t("rename"), maxLength: 200 });
    let over = false;
    const leave = (keep) => {
      if (over) return;
      over = true;
      const wanted = input.value.trim();
      if (keep && wanted && wanted !== title) this.deeds.rename(id, wanted);
      else this.#draw();
    };
    input.addEventListener("blur", () => leave(true));
    input.addEventListener("keydown", (event) => {
      if (event.isComposing || event.keyCode === 229) return;
      if (event.key === "Enter") leave(true);
      if (event.key !== "Escape") return;
      event.stopPropagation();
      leave(false);
    });
    item.replaceChildren(input);
    input.focus();
    input.select();
  }
}

function ageOf(time) {
  const days = Math.floor((new Date().setHours(24, 0, 0, 0) - time) / DAY_MS);
  return days < 1 ? "today" : days < 2 ? "yesterday" : days < 7 ? "week" : "older";
}
