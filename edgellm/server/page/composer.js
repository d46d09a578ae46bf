// Where questions are typed.

import { el, icon, iconButton } from "./dom.js";
import { sends } from "./message.js";
import { thinkChoice, thinkWord } from "./settings.js";
import { t } from "./words.js";

/** The form below the transcript. */
export class Composer {
  /**
   * @param {{send: (text: string) => void, stop: () => void, editLast: () => boolean,
   *   think: (value: boolean | null) => void}} deeds
   */
  constructor(deeds) {
    this.deeds = deeds;
    this.area = el("textarea", {
      rows: 1, placeholder: t("ask"), "aria-label": t("ask"), title: t("sendKeys"), enterKeyHint: "enter", autocomplete: "off",
      on: { input: () => this.#fit(), keydown: (event) => this.#key(event) },
    });
    this.button = el("button", { type: "submit", class: "primary round" });
    this.think = thinkChoice(null, deeds.think, { className: "think", ariaLabel: t("think") });
    this.element = el("form", { class: "composer", on: { submit: (event) => {
      event.preventDefault();
      if (this.running) this.deeds.stop();
      else this.#send();
    } } }, this.area, el("div", { class: "row" }, this.think, this.button));
    this.show({ running: false, think: null });
  }

  /** @param {{running: boolean, think: boolean | null}} state */
  show({ running, think }) {
    this.running = running;
    const label = t(running ? "stop" : "send");
    Object.assign(this.button, { title: label, ariaLabel: label });
    this.button.replaceChildren(icon(running ? "stop" : "send"));
    this.button.classList.toggle("stop", running);
    this.think.value = thinkWord(think);
    this.#fit();
  }

  get text() {
    return this.area.value;
  }

  set text(text) {
    this.area.value = text;
    this.#fit();
  }

  /** Have the keyboard, except on touch screens, where that would cover half of the page. */
  focus() {
    if (!matchMedia("(pointer: coarse)").matches) this.area.focus();
  }

  #send() {
    const text = this.text.trim();
    if (!text) return this.area.focus();
    this.text = "";
    this.deeds.send(text);
  }

  #key(event) {
    if (sends(event)) {
      event.preventDefault();
      if (!this.running) this.#send();
    } else if (event.key === "ArrowUp" && !this.text && !event.isComposing && this.deeds.editLast()) {
      event.preventDefault();
    }
  }

  #fit() {
    this.button.disabled = !this.running && !this.text.trim();
    this.area.style.height = "auto";
    this.area.style.height = `${this.area.scrollHeight}px`;
  }
}
