// Chats as files.

import { path } from "./tree.js";
import { languageTag, t } from "./words.js";

/** Everything, to be imported again. @param {import("./tree.js").Chat | import("./tree.js").Chat[]} chats */
export function exported(chats) {
  return `${JSON.stringify(chats, null, 1)}\n`;
}

/** The branch on display, to be read. @param {import("./tree.js").Chat} chat */
export function markdownOf(chat) {
  const when = new Date(chat.created).toLocaleString(languageTag());
  const parts = [`# ${chat.title || t("untitled")}`, `*${t("exportedOn")}, ${when}*`];
  if (chat.settings.system) parts.push(`## ${t("system")}`, chat.settings.system);
  for (const message of path(chat)) {
    const { role, text, thinking, calls, model } = message;
    parts.push(`## ${role === "user" ? t("you") : role === "tool" ? t("result") : model || t("answer")}`);
    if (thinking) parts.push(`<details><summary>${t("thought")}</summary>\n\n${thinking}\n\n</details>`);
    if (text) parts.push(text);
    for (const call of calls ?? []) parts.push(`${t("calls", { name: `\`${call.name}\`` })}\n\n${fenced(call.arguments, "json")}`);
  }
  return `${parts.join("\n\n")}\n`;
}

function fenced(text, lang) {
  const longest = Math.max(2, ...[...text.matchAll(/`+/g)].map(([run]) => run.length));
  const fence = "`".repeat(longest + 1);
  return `${fence}${lang}\n${text}\n${fence}`;
}

/** A name that every system takes. @param {string} title @param {string} suffix */
export function fileName(title, suffix) {
  const safe = title.replace(/[\\/:*?"<>|\p{C}]/gu, " ").replace(/\s+/g, " ").trim().slice(0, 60);
  return `${safe || "chat"}.${suffix}`;
}
