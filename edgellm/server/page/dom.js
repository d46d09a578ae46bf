// Elements from words: the one place that makes them. Text goes in as text nodes; nothing here reads markup.

/**
 * @param {string} tag
 * @param {Object<string, unknown>} [traits] `class`, `text`, `on` (listeners by event), any property of the element,
 *   or an attribute (names with a hyphen, `role`, `for`)
 * @param {...(Node | string | null | false | undefined)} children what is null, false or undefined is left out
 * @returns {HTMLElement}
 */
export function el(tag, traits = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(traits)) {
    if (name === "class") element.className = value;
    else if (name === "text") element.textContent = value;
    else if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name in element && !name.includes("-")) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== false && child !== undefined));
  return element;
}

/** @param {string} name of ICONS below @returns {SVGElement} decoration: the button has the words */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  for (const d of ICONS[name]) {
    const path = document.createElementNS(space, "path");
    path.setAttribute("d", d);
    svg.append(path);
  }
  return svg;
}

/** @type {Object<string, string[]>} strokes on a 24 by 24 field */
const ICONS = {
  menu: ["M4 7h16M4 12h16M4 17h16"],
  plus: ["M12 5v14M5 12h14"],
  gear: ["M4 8h8M18 8h2M4 16h2M12 16h8", "M15 5.5a2.5 2.5 0 1 0 0 5a2.5 2.5 0 1 0 0-5z", "M9 13.5a2.5 2.5 0 1 0 0 5a2.5 2.5 0 1 0 0-5z"],
  send: ["M12 19V5M6 11l6-6 6 6"],
  stop: ["M7 7h10v10H7z"],
  copy: ["M9 9h10v11H9z", "M5 15V4h10"],
  done: ["M5 12.5l4.5 4.5L19 7.5"],
  edit: ["M4 20l1-4L16 5l3 3L8 19z"],
  again: ["M19 12a7 7 0 1 1-2-4.9", "M19 4v4h-4"],
  back: ["M14 6l-6 6 6 6"],
  next: ["M10 6l6 6-6 6"],
  more: ["M5 12h.01M12 12h.01M19 12h.01"],
  down: ["M12 5v14M6 13l6 6 6-6"],
  close: ["M6 6l12 12M18 6L6 18"],
};

/**
 * A button with a picture and words for those who do not see it.
 * @param {string} name of the icon @param {string} label @param {(event: Event) => void} action
 * @param {Object<string, unknown>} [traits]
 */
export function iconButton(name, label, action, traits = {}) {
  return el("button", { type: "button", class: "quiet", title: label, "aria-label": label, on: { click: action }, ...traits }, icon(name));
}

/** Put text on the clipboard, also where the page came over plain HTTP from another machine. @param {string} text */
export async function copyText(text) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch { /* not allowed: the old way below */ }
  }
  const area = el("textarea", { class: "offstage", value: text, readOnly: true });
  const before = document.activeElement;
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  before?.focus?.();
  return done;
}

/** Give the user a file. @param {string} name @param {string} type @param {string} text */
export function download(name, type, text) {
  const href = URL.createObjectURL(new Blob([text], { type }));
  el("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 10_000);
}
