// How a chat's answers are drawn, as data and as a dialog; the page's own preferences below.

import { el, iconButton } from "./dom.js";
import { LANGUAGES, languageTag, t } from "./words.js";

/**
 * Of one chat; null and "" leave the choice to the server.
 * @typedef {{model: string | null, system: string, temperature: number | null, topP: number | null,
 *   maxTokens: number | null, seed: number | null, think: boolean | null, tools: string}} Settings
 */

/** @type {Settings} */
export const DEFAULTS = {
  model: null, system: "", temperature: null, topP: null, maxTokens: null, seed: null, think: null, tools: "",
};

/** The body of a request. @param {Settings} settings @param {string} model @param {object[]} messages */
export function requestOf(settings, model, messages) {
  const body = { messages, stream: true, stream_options: { include_usage: true } };
  if (model) body.model = model;
  if (settings.temperature !== null) body.temperature = settings.temperature;
  if (settings.topP !== null) body.top_p = settings.topP;
  if (settings.maxTokens !== null) body.max_tokens = settings.maxTokens;
  if (settings.seed !== null) body.seed = settings.seed;
  if (settings.think !== null) body.chat_template_kwargs = { enable_thinking: settings.think };
  const tools = toolsOf(settings.tools);
  if (tools?.length) body.tools = tools;
  return body;
}

/** Settings with what is missing or wrong as in DEFAULTS: they may come from a file. @returns {Settings} */
export function completed(given) {
  const settings = { ...DEFAULTS };
  for (const name of ["model", "system", "tools"]) if (typeof given?.[name] === "string") settings[name] = given[name];
  for (const name of ["temperature", "topP", "maxTokens", "seed"]) {
    if (typeof given?.[name] === "number") settings[name] = given[name];
  }
  if (typeof given?.think === "boolean") settings.think = given.think;
  return settings;
}

/** @param {string} text @returns {object[] | null} null where it is no list */
function toolsOf(text) {
  if (!text.trim()) return [];
  try {
    const tools = JSON.parse(text);
    return Array.isArray(tools) ? tools : null;
  } catch {
    return null;
  }
}

/**
 * The choice between thinking, not thinking and the model's habit.
 * @param {boolean | null} value @param {(value: boolean | null) => void} change
 */
export function thinkChoice(value, change, traits = {}) {
  const options = [["", t("thinkAuto")], ["on", t("thinkOn")], ["off", t("thinkOff")]];
  const select = choice(options, thinkWord(value), (word) => change(word === "" ? null : word === "on"));
  return Object.assign(select, traits);
}

/** The select's word for a setting. @param {boolean | null} value */
export function thinkWord(value) {
  return value === null ? "" : value ? "on" : "off";
}

/** A select. @param {[string, string][]} options values and words @param {(value: string) => void} change */
export function choice(options, value, change) {
  const select = el("select", { on: { change: () => change(select.value) } },
    ...options.map(([name, words]) => el("option", { value: name, text: words })));
  select.value = value;
  return select;
}

/**
 * Open the dialog; it is gone when it is closed.
 * @param {{settings: Settings, language: string, key: string, save: (settings: Settings) => void,
 *   speak: (language: string) => void, useKey: (key: string) => void}} page
 */
export function openSettings(page) {
  const values = { ...page.settings };
  const field = (name, label, control, hint) => {
    control.id = `set-${name}`;
    return el("div", { class: "field" }, el("label", { for: control.id, text: label }), control,
      hint && el("p", { class: "hint", text: hint }));
  };
  const figure = (name, label, limits, placeholder) => field(name, label, el("input", {
    type: "number", inputMode: "decimal", placeholder, value: values[name] ?? "", ...limits,
    on: { input: ({ target }) => (values[name] = target.value === "" ? null : Number(target.value)) },
  }));
  const area = (name, label, rows, hint) => field(name, label, el("textarea", {
    rows, value: values[name], spellcheck: name === "system", class: name === "tools" ? "mono" : "",
    on: { input: ({ target }) => {
      values[name] = target.value;
      if (name === "tools") target.setCustomValidity(toolsOf(target.value) ? "" : t("toolsWrong"));
    } },
  }), hint);
  const key = el("input", { type: "password", autocomplete: "off", value: page.key });
  const form = el("form", { method: "dialog" },
    el("header", {}, el("h2", { text: t("settings") }), iconButton("close", t("close"), () => dialog.close())),
    el("p", { class: "hint", text: t("forChat") }),
    area("system", t("system"), 4, t("systemHint")),
    el("div", { class: "fields" },
      figure("temperature", t("temperature"), { min: 0, max: 100, step: "any" }, t("byServer")),
      figure("topP", t("topP"), { min: 0, max: 1, step: "any" }, t("byServer")),
      figure("maxTokens", t("maxTokens"), { min: 1, max: 2 ** 31 - 1, step: 1 }, t("noLimit")),
      figure("seed", t("seed"), { min: 0, max: 2 ** 32 - 2, step: 1 }, t("seedHint")),
      field("think", t("think"), thinkChoice(values.think, (think) => (values.think = think)))),
    area("tools", t("tools"), 3, t("toolsHint")),
    el("h3", { text: t("forPage") }),
    el("div", { class: "fields" },
      field("language", t("language"), choice(Object.entries(LANGUAGES), page.language, page.speak)),
      field("key", t("key"), key, t("keyKept"))),
    keyTable(),
    el("footer", {},
      el("button", { type: "button", text: t("cancel"), on: { click: () => dialog.close() } }),
      el("button", { type: "submit", class: "primary", text: t("save") })));
  const dialog = el("dialog", { class: "settings", lang: languageTag(), "aria-label": t("settings"), on: {
    close: () => dialog.remove(),
    click: ({ target }) => target === dialog && dialog.close(), // beside it
  } }, form);
  form.addEventListener("submit", () => {
    page.save(values);
    if (key.value.trim() !== page.key) page.useKey(key.value.trim());
  });
  document.body.append(dialog);
  dialog.showModal();
}

function keyTable() {
  const control = /Mac|iP(hone|ad)/.test(navigator.platform) ? "⌘" : "Ctrl";
  const rows = [[t("keyEnter"), t("send")], ["Shift+Enter", t("keyNewline")], ["Esc", t("keyEsc")],
    [`${control}+K`, t("keyNew")], [`${control}+B`, t("keyList")], ["↑", t("keyEdit")]];
  return el("details", {}, el("summary", { text: t("keys") }),
    el("dl", { class: "keys" }, ...rows.flatMap(([keys, what]) => [el("dt", {}, el("kbd", { text: keys })), el("dd", { text: what })])));
}
