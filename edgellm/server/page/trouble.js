// Errors, shown where they happened, with what can be done.

import { alive } from "./api.js";
import { el } from "./dom.js";
import { t } from "./words.js";

const POLL_MS = 3000;

/**
 * @param {import("./tree.js").Trouble} trouble
 * @param {{retry: () => void, useKey: (key: string) => void, back?: () => void}} remedies `useKey` tries again as well;
 *   `back` is called when a server that was gone answers
 */
export function troubleBox({ kind, message }, { retry, useKey, back }) {
  const title = t(`${kind}Title`);
  const advice = ["request", "server"].includes(kind) ? "" : t(`${kind}Text`);
  const box = el("div", { class: "trouble", role: "alert" },
    el("strong", { text: title }),
    message && kind !== "key" && el("p", { class: "words", text: message }),
    advice && el("p", { text: advice }),
    kind === "key" ? keyForm(useKey)
      : el("button", { type: "button", text: t("retry"), on: { click: retry } }));
  if (kind === "gone") watch(box, back);
  return box;
}

function keyForm(useKey) {
  const input = el("input", { type: "password", autocomplete: "off", required: true, "aria-label": t("key"), placeholder: t("key") });
  return el("form", { class: "row", on: { submit: (event) => {
    event.preventDefault();
    useKey(input.value.trim());
  } } }, input, el("button", { type: "submit", class: "primary", text: t("keySave") }));
}

/** Say when the server answers again, as long as the box is there to say it. */
function watch(box, back) {
  const timer = setInterval(async () => {
    if (!box.isConnected && box.dataset.seen) return clearInterval(timer);
    if (box.isConnected) box.dataset.seen = "yes";
    if (document.hidden || !(await alive())) return;
    clearInterval(timer);
    box.classList.add("over");
    box.querySelector("p").textContent = t("backText");
    back?.();
  }, POLL_MS);
}
