// Blocks of Markdown as elements. Text that grows changes only what its last block changed: a line of code, a row.

import { Growing } from "./markdown.js";
import { inline, safeLink } from "./inline.js";
import { highlight } from "./highlight.js";
import { el, icon } from "./dom.js";
import { t } from "./words.js";

/** @typedef {import("./markdown.js").Block} Block @typedef {import("./inline.js").Inline} Inline */

/** Shows one text in one element; call `show` with all of it whenever it has grown. */
export class Painter {
  /** @param {HTMLElement} root empty, and nobody else's */
  constructor(root) {
    this.root = root;
    this.growing = new Growing();
    this.blocks = [];
  }

  /** @param {string} text */
  show(text) {
    const { blocks, kept } = this.growing.update(text);
    reconcile(this.root, this.blocks, blocks, block, kept);
    this.blocks = blocks;
  }
}

/**
 * Make the children of `parent`, which show `before`, show `after`. Equal ones stay; of two in the same place the
 * second may be painted over the first.
 * @param {(value: object, old: object | null, element: Element | null) => Element} make returns `element` where it could
 *   be used again
 */
function reconcile(parent, before, after, make, from = 0) {
  for (let i = from; i < after.length; i++) {
    const [old, now] = [before[i], after[i]];
    if (old && old.type === now.type && old.raw === now.raw) continue;
    const element = parent.children[i] ?? null;
    const made = make(now, old ?? null, old ? element : null);
    if (made === element) continue;
    if (element) element.replaceWith(made);
    else parent.append(made);
  }
  while (parent.children.length > after.length) parent.lastElementChild.remove();
}

function block(now, old, element) {
  const again = old?.type === now.type ? element : null;
  switch (now.type) {
    case "heading": return text(el(`h${Math.min(6, now.level + 2)}`), now.text);
    case "rule": return el("hr");
    case "math": return el("p", { class: "math", text: now.text });
    case "code": return code(now, again && old, again);
    case "quote": return nested(again ?? el("blockquote"), again ? old.blocks : [], now.blocks);
    case "list": return list(now, again && old, again);
    case "table": return table(now, again && old, again);
    default: return text(again ?? el("p"), now.text);
  }
}

function text(element, source) {
  element.replaceChildren(...spans(inline(source), false));
  return element;
}

/** @param {Inline[]} nodes @param {boolean} linked whether they are in a link: there are no links in links */
function spans(nodes, linked) {
  return nodes.map((node) => {
    switch (node.t) {
      case "text": return document.createTextNode(node.s);
      case "break": return el("br");
      case "code": return el("code", { text: node.s });
      case "math": return el("span", { class: "math", text: node.s });
      case "link": return link(node, linked);
      default: return el(node.t, {}, ...spans(node.c, linked));
    }
  });
}

/** Only http and https may be followed; other targets are shown as text. */
function link(node, linked) {
  const inside = spans(node.c, true);
  if (linked) return el("span", {}, ...inside);
  const href = safeLink(node.href);
  if (href) return el("a", { href, target: "_blank", rel: "noopener noreferrer nofollow", title: href }, ...inside);
  return el("span", {}, ...inside, node.href ? ` (${node.href})` : "");
}

function nested(element, before, after) {
  reconcile(element, before, after, block);
  return element;
}

function list(now, old, element) {
  const again = old && old.ordered === now.ordered ? element : null;
  const root = again ?? el(now.ordered ? "ol" : "ul");
  if (now.ordered && root.start !== now.start) root.start = now.start;
  reconcile(root, again ? old.items : [], now.items, item);
  return root;
}

function item(now, old, element) {
  const again = old && old.checked === now.checked ? element : null;
  const root = again ?? el("li", now.checked === null ? {} : { class: now.checked ? "task checked" : "task" });
  nested(root, again ? old.blocks : [], now.blocks);
  return root;
}

function table(now, old, element) {
  const again = old && old.align.join() === now.align.join() && old.rows[0].raw === now.rows[0].raw ? element : null;
  const row = (tag) => ({ cells }) => el("tr", {}, ...cells.map((cell, i) => text(el(tag, { class: now.align[i] }), cell)));
  const [head, ...rows] = now.rows;
  const frame = again ?? el("div", { class: "scroll", tabIndex: 0 },
    el("table", {}, el("thead", {}, row("th")(head)), el("tbody")));
  reconcile(frame.querySelector("tbody"), again ? old.rows.slice(1) : [], rows, row("td"));
  return frame;
}

/** What a code block has painted: nodes of whole lines stay, those of the last line are painted again. */
const painted = new WeakMap();

function code(now, old, element) {
  const goesOn = old && old.lang === now.lang && now.text.startsWith(old.text) && now.text !== "";
  const frame = goesOn ? element : codeFrame(now.lang);
  const progress = painted.get(frame) ?? { at: 0, state: "", last: [] };
  const target = frame.querySelector("code");
  for (const node of progress.last) node.remove();
  const fresh = document.createDocumentFragment();
  const ends = now.text.lastIndexOf("\n") + 1;
  while (progress.at < ends) {
    const end = now.text.indexOf("\n", progress.at);
    const { parts, state } = highlight(now.text.slice(progress.at, end), now.lang, progress.state);
    fresh.append(...colours(parts), "\n");
    Object.assign(progress, { at: end + 1, state });
  }
  progress.last = colours(highlight(now.text.slice(ends), now.lang, progress.state).parts);
  fresh.append(...progress.last);
  target.append(fresh);
  painted.set(frame, progress);
  return frame;
}

function codeFrame(lang) {
  return el("div", { class: "code" },
    el("div", { class: "codebar" },
      el("span", { text: lang || t("code") }),
      el("button", { type: "button", class: "quiet", "data-copy": "code" }, icon("copy"), el("span", { text: t("copy") }))),
    el("pre", { tabIndex: 0 }, el("code")));
}

function colours(parts) {
  return parts.map(({ kind, text: content }) => (kind ? el("span", { class: `c-${kind}`, text: content }) : document.createTextNode(content)));
}
