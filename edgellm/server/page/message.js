// One message on display, drawn again piece by piece while it is written.

import { costLine, costRows } from "./cost.js";
import { copyText, el, icon, iconButton } from "./dom.js";
import { Painter } from "./paint.js";
import { troubleBox } from "./trouble.js";
import { seconds, t } from "./words.js";

/**
 * What a message can ask of the page.
 * @typedef {{
 *   siblings: (message: Message) => Message[], choose: (message: Message) => void,
 *   edit: (message: Message, text: string) => void, again: (message: Message) => void,
 *   results: (message: Message, texts: string[]) => void, useKey: (key: string, message: Message) => void,
 *   isLast: (message: Message) => boolean, isRunning: (message: Message) => boolean, nameOf: (call: string) => string, isLoading: (model: string) => boolean,
 *   announce: (text: string) => void,
 * }} Deeds
 * @typedef {import("./tree.js").Message} Message
 */

/** An article in the transcript. `update` after each change of the message. */
export class MessageView {
  /** @param {Message} message @param {Deeds} deeds */
  constructor(message, deeds) {
    this.message = message;
    this.deeds = deeds;
    this.said = message.ended ? Infinity : 0; // elements of the answer that have been announced
    this.body = el("div", { class: "body" });
    this.status = el("p", { class: "status" });
    this.foot = el("div", { class: "foot" });
    this.element = el("article", { class: message.role, "aria-label": this.#label() }, this.body, this.status, this.foot);
    if (message.role === "assistant") this.#buildAnswer();
    this.update();
  }

  /** Show the message as it is now. */
  update() {
    const { role } = this.message;
    const running = this.#runs();
    if (role === "user") this.body.textContent = this.message.text;
    else if (role === "tool") this.#drawResult();
    else this.#drawAnswer();
    this.element.classList.toggle("running", running);
    if (!running) this.#drawFoot();
  }

  #runs() {
    return this.message.role === "assistant" && this.deeds.isRunning(this.message);
  }

  /** Called once a second while the answer is written. */
  tick() {
    this.#drawThinking();
    this.#drawStatus();
  }

  #label() {
    const { role, model, callId } = this.message;
    if (role === "user") return t("you");
    return role === "tool" ? t("tool", { name: this.deeds.nameOf(callId) }) : t("answerBy", { model: model || t("answer") });
  }

  #buildAnswer() {
    this.thinkingBody = el("div", { class: "prose" });
    this.thinkingTitle = el("summary");
    this.thinking = el("details", { class: "thinking", hidden: true, on: { toggle: () => this.#drawThinking() } },
      this.thinkingTitle, this.thinkingBody);
    this.prose = el("div", { class: "prose" });
    this.calls = el("div", { class: "calls" });
    this.body.append(this.thinking, this.prose, this.calls);
    this.painter = new Painter(this.prose);
    this.thinkingPainter = new Painter(this.thinkingBody);
  }

  #drawAnswer() {
    const { message } = this;
    this.#drawThinking();
    if (message.text) this.painter.show(message.text);
    if (message.calls) this.#drawCalls();
    this.#drawStatus();
    this.#announce();
  }

  /** Thinking is painted only where somebody looks. */
  #drawThinking() {
    const { thinking, thoughtMs, text, calls, cost } = this.message;
    this.thinking.hidden = !thinking;
    if (!thinking) return;
    const over = !this.#runs() || text || calls;
    const now = () => `${t("thinkingNow")} ${this.#elapsed()}`;
    const before = () => (thoughtMs ? t("thoughtFor", { time: seconds(thoughtMs) }) : t("thought"));
    const tokens = cost?.thinking && t("tokens", { n: cost.thinking });
    this.thinkingTitle.textContent = [over ? before() : now(), tokens].filter(Boolean).join(" · ");
    this.thinking.classList.toggle("now", !over);
    if (this.thinking.open) this.thinkingPainter.show(thinking);
  }

  #drawCalls() {
    const cards = this.message.calls.filter(Boolean).map((call) => el("section", { class: "call" },
      el("h4", { text: t("calls", { name: call.name }) }), el("pre", { tabIndex: 0, text: pretty(call.arguments) })));
    this.calls.replaceChildren(...cards);
    if (this.message.ended && this.message.finish === "tool_calls" && this.deeds.isLast(this.message)) {
      this.calls.append(this.#resultForm());
    }
  }

  #resultForm() {
    const { calls } = this.message;
    const areas = calls.map(({ name }) => el("textarea", { rows: 2, "aria-label": t("tool", { name }), placeholder: t("tool", { name }) }));
    return el("form", { class: "results", on: { submit: (event) => {
      event.preventDefault();
      this.deeds.results(this.message, areas.map((area) => area.value));
    } } }, ...areas, el("button", { type: "submit", text: t(calls.length > 1 ? "sendResults" : "sendResult") }));
  }

  #drawResult() {
    const { callId, text } = this.message;
    if (this.body.firstChild) return;
    this.body.append(el("details", {}, el("summary", { text: t("tool", { name: this.deeds.nameOf(callId) }) }), el("pre", { text })));
  }

  #drawStatus() {
    this.status.textContent = this.#statusText();
    this.status.hidden = !this.status.textContent;
  }

  #statusText() {
    const { role, text, thinking, calls, model, ended, finish, trouble } = this.message;
    if (role !== "assistant") return "";
    if (!this.#runs()) {
      if (!ended) return t("interrupted");
      if (finish === "stopped") return t("stopped");
      if (finish === "length") return t("cutOff");
      return text || calls || trouble ? "" : t("empty");
    }
    if (thinking && !text) return "";
    const what = text || calls ? t("writing") : this.deeds.isLoading(model) ? t("loading", { model }) : t("waiting");
    return `${what} ${this.#elapsed()}`;
  }

  #elapsed() {
    const whole = Math.floor((Date.now() - this.message.began) / 1000);
    return whole ? seconds(whole * 1000) : "";
  }

  /** Say finished paragraphs to those who listen. */
  #announce() {
    const { ended, text, trouble } = this.message;
    const whole = [...this.prose.children].slice(0, ended ? undefined : -1);
    const fresh = whole.slice(this.said);
    this.said = whole.length;
    for (const element of fresh) this.deeds.announce(spoken(element));
    if (ended && text && !trouble) this.deeds.announce(t("complete"));
  }

  #drawFoot() {
    const { message, deeds } = this;
    const { role, text, trouble, cost } = message;
    const buttons = el("div", { class: "deeds" }, this.#branches());
    if (text) buttons.append(copyButton(() => text));
    if (role !== "tool" && (text || role === "user")) buttons.append(iconButton("edit", t("edit"), () => this.edit()));
    if (role === "assistant") buttons.append(iconButton("again", t("again"), () => deeds.again(message)));
    this.foot.replaceChildren(buttons);
    if (cost) this.foot.append(costBox(cost, message.model));
    this.box?.remove();
    if (!trouble) return;
    this.box = troubleBox(trouble, { retry: () => deeds.again(message), useKey: (key) => deeds.useKey(key, message) });
    this.foot.before(this.box);
  }

  #branches() {
    const all = this.deeds.siblings(this.message);
    if (all.length < 2) return "";
    const i = all.indexOf(this.message);
    const step = (by) => () => this.deeds.choose(all[i + by]);
    return el("span", { class: "branches", role: "group", "aria-label": t("branch", { i: i + 1, n: all.length }) },
      iconButton("back", t("earlier"), step(-1), { disabled: i === 0 }),
      el("span", { text: `${i + 1}/${all.length}` }),
      iconButton("next", t("later"), step(1), { disabled: i === all.length - 1 }));
  }

  /** Put an editor in the message's place. */
  edit() {
    const { message, deeds } = this;
    const question = message.role === "user";
    const area = el("textarea", { value: message.text, rows: Math.min(16, message.text.split("\n").length + 1), "aria-label": t("edit") });
    const leave = () => {
      editor.replaceWith(this.body);
      this.foot.hidden = false;
      this.foot.querySelector("button")?.focus();
    };
    const editor = el("form", { class: "editor", on: {
      submit: (event) => {
        event.preventDefault();
        if (area.value.trim()) deeds.edit(message, area.value);
      },
      keydown: (event) => {
        if (event.key === "Escape" && !event.isComposing) {
          event.stopPropagation();
          leave();
        } else if (question && sends(event)) {
          event.preventDefault();
          editor.requestSubmit();
        }
      },
    } }, area, el("div", { class: "row" },
      el("button", { type: "button", text: t("cancel"), on: { click: leave } }),
      el("button", { type: "submit", class: "primary", text: t(question ? "send" : "save") })));
    this.body.replaceWith(editor);
    this.foot.hidden = true;
    area.focus();
  }
}

/**
 * Whether a key press means "send". An Enter that ends the composition of Chinese or Japanese does not, and on a
 * touch screen, whose keyboards have no Shift+Enter, none does. @param {KeyboardEvent} event
 */
export function sends(event) {
  return event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229
    && !matchMedia("(pointer: coarse)").matches;
}

/** A button that copies and says so. @param {() => string} text */
function copyButton(text) {
  const button = iconButton("copy", t("copy"), () => copyFrom(button, text()));
  return button;
}

/** Copy and show on the button whether it worked. @param {HTMLElement} button @param {string} text */
export async function copyFrom(button, text) {
  const done = await copyText(text);
  const words = t(done ? "copied" : "copyFailed");
  const span = button.querySelector("span");
  const before = { icon: button.querySelector(".icon"), words: span?.textContent };
  if (button.dataset.told) return;
  button.dataset.told = "yes";
  button.title = words;
  if (span) span.textContent = words;
  const mark = icon(done ? "done" : "close");
  before.icon.replaceWith(mark);
  document.getElementById("live").textContent = words;
  setTimeout(() => {
    mark.replaceWith(before.icon);
    if (span) span.textContent = before.words;
    button.title = t("copy");
    delete button.dataset.told;
  }, 1500);
}

function costBox(cost, model) {
  return el("details", { class: "cost" }, el("summary", { text: costLine(cost) }),
    el("dl", {}, ...[[t("model"), model || "–"], ...costRows(cost)].flatMap(([label, value]) => [el("dt", { text: label }), el("dd", { text: value })])));
}

function spoken(element) {
  if (!element.classList.contains("code")) return element.textContent.slice(0, 1000);
  return t("codeBlock", { n: element.querySelector("code").textContent.split("\n").length });
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
