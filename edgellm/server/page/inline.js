// The inside of a paragraph: Markdown's emphasis, code, links. Data in, data out; linear in time on any input.

/**
 * @typedef {{t: "text" | "code" | "math", s: string} | {t: "break"}
 *   | {t: "strong" | "em" | "del", c: Inline[]} | {t: "link", href: string, c: Inline[]}} Inline
 */

const MAX_DEPTH = 24; // of emphasis and links in one another; what is deeper is flat
const PLAIN = /[^\\`*_~[\]!<&$\nhH]+/y;
const URL_START = /https?:\/\//iy;
const URL_CHARS = /[^\s<>"'`\\\u3000-\u303f\uff00-\uffef]{1,2048}/y; // Chinese punctuation ends an address
const PATH = /[^\s()<>]{0,2048}(?:\([^\s()<>]{0,2048}\)[^\s()<>]{0,2048}){0,8}/.source;
const TITLE = /(?:\s{1,3}(?:"[^"]*"|'[^']*'))?/.source;
const DESTINATION = new RegExp(`\\(\\s{0,3}(?:<([^<>\\n]*)>|(${PATH}))${TITLE}\\s{0,3}\\)`, "y");
const ENTITY = /&(?:amp|lt|gt|quot|apos|nbsp|#39|#x27);/y;
const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0", "#39": "'", "#x27": "'" };
const LINE_BREAK_TAG = /<br\s{0,8}\/?>/iy;
const ANGLE_LINK = /<(https?:\/\/[^\s<>]*)>/iy;
const ESCAPABLE = /[!-/:-@[-`{-~]/;
const SPACE = /\s/;
const PUNCTUATION = /[\p{P}\p{S}]/u;
const CJK = /[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\u3000-\u303f\uac00-\ud7af]/;

/** @param {string} text a paragraph's @returns {Inline[]} */
export function inline(text) {
  return new Scanner(text).run();
}

/** An address that may be followed: http or https, else null. @param {string} href @returns {string | null} */
export function safeLink(href) {
  if (!/^https?:\/\//i.test(href)) return null;
  try {
    const { protocol, href: clean } = new URL(href);
    return protocol === "http:" || protocol === "https:" ? clean : null;
  } catch {
    return null;
  }
}

/**
 * Goes over the text once and leaves a flat list of items: nodes, delimiter runs, brackets. Pairs that are found
 * become marks at their two ends, and `tree` nests what lies between.
 */
class Scanner {
  constructor(text) {
    this.text = text;
    this.at = 0;
    this.items = [];
    this.brackets = []; // places in items of "[" still open
    this.ticks = null;
    this.absent = new Map(); // closing string -> from where on it is known not to come
  }

  run() {
    while (this.at < this.text.length) this.step();
    this.pair(0);
    return tree(this.items);
  }

  step() {
    const { text, at } = this;
    switch (text[at]) {
      case "\\": return this.backslash();
      case "`": return this.codeSpan();
      case "$": return this.dollar();
      case "*": case "_": case "~": return this.delimiter();
      case "[": return this.bracket(1, false);
      case "!": return text[at + 1] === "[" ? this.bracket(2, true) : this.plain(1);
      case "]": return this.closeBracket();
      case "<": return this.angle();
      case "&": return this.entity();
      case "\n": return this.lineEnd();
      case "h": case "H": return this.address();
      default: return this.plain(this.match(PLAIN)?.[0].length ?? 1);
    }
  }

  match(pattern) {
    pattern.lastIndex = this.at;
    return pattern.exec(this.text);
  }

  plain(length, shown = this.text.slice(this.at, this.at + length)) {
    const last = this.items.at(-1);
    if (last?.t === "text") last.s += shown;
    else this.items.push({ t: "text", s: shown });
    this.at += length;
  }

  node(node, length) {
    this.items.push(node);
    this.at += length;
  }

  /** Where `closing` comes next at or after `from`, -1 if it does not. A search that failed is not made again. */
  find(closing, from) {
    if (from >= (this.absent.get(closing) ?? Infinity)) return -1;
    const found = this.text.indexOf(closing, from);
    if (found < 0) this.absent.set(closing, from);
    return found;
  }

  backslash() {
    const next = this.text[this.at + 1] ?? "";
    const closing = { "(": "\\)", "[": "\\]" }[next]; // LaTeX, which stays text as it is
    const end = closing ? this.find(closing, this.at + 2) : -1;
    if (end >= 0) return this.math(end + 2);
    if (next === "\n") return this.node({ t: "break" }, 2);
    return ESCAPABLE.test(next) ? this.plain(2, next) : this.plain(1);
  }

  math(end) {
    this.node({ t: "math", s: this.text.slice(this.at, end) }, end - this.at);
  }

  dollar() {
    const { text, at } = this;
    if (text[at + 1] === "$") {
      const end = this.find("$$", at + 2);
      return end > at + 2 ? this.math(end + 2) : this.plain(2);
    }
    const end = this.find("$", at + 1);
    const opens = end > at + 1 && !SPACE.test(text[at + 1]);
    const closes = opens && !SPACE.test(text[end - 1]) && !/\d/.test(text[end + 1] ?? "");
    return closes && !text.slice(at, end).includes("\n") ? this.math(end + 1) : this.plain(1);
  }

  codeSpan() {
    const length = runLength(this.text, this.at);
    this.ticks ??= tickRuns(this.text);
    const runs = this.ticks.get(length) ?? []; // none where a backslash took the run's first
    while (runs.length && runs.at(-1) <= this.at) runs.pop(); // last is nearest: they are kept backwards
    const end = runs.at(-1);
    if (end === undefined) return this.plain(length);
    let code = this.text.slice(this.at + length, end).replaceAll("\n", " ");
    if (/^ .*[^ ].* $/.test(code)) code = code.slice(1, -1);
    this.node({ t: "code", s: code }, end + length - this.at);
  }

  delimiter() {
    const { text, at } = this;
    const length = runLength(text, at);
    const before = at ? charBefore(text, at) : " ";
    const after = at + length < text.length ? String.fromCodePoint(text.codePointAt(at + length)) : " ";
    const [spaceBefore, spaceAfter] = [SPACE.test(before), SPACE.test(after)];
    const [punctBefore, punctAfter] = [PUNCTUATION.test(before), PUNCTUATION.test(after)];
    // Chinese and Japanese write no spaces, so that a mark between punctuation and a letter of theirs counts as well.
    const left = !spaceAfter && (!punctAfter || spaceBefore || punctBefore || CJK.test(before));
    const right = !spaceBefore && (!punctBefore || spaceAfter || punctAfter || CJK.test(after));
    const within = text[at] === "_";
    this.node({
      t: "run", char: text[at], length, left: length,
      opens: left && (!within || !right || punctBefore),
      closes: right && (!within || !left || punctAfter),
      ends: [], starts: [],
    }, length);
  }

  bracket(length, image) {
    this.brackets.push(this.items.length);
    this.node({ t: "bracket", s: image ? "![" : "[", image, ends: [], starts: [] }, length);
  }

  closeBracket() {
    const place = this.brackets.pop();
    if (place === undefined) return this.plain(1);
    const opener = this.items[place];
    DESTINATION.lastIndex = this.at + 1;
    const target = DESTINATION.exec(this.text);
    if (!target) return this.plain(1);
    this.pair(place + 1);
    const href = unescape(target[1] ?? target[2] ?? "");
    if (opener.image && place + 1 === this.items.length) this.items.push({ t: "text", s: href });
    opener.s = "";
    opener.starts.push({ t: "link", href });
    this.node({ t: "mark", ends: ["link"], starts: [] }, 1 + target[0].length);
    this.brackets = opener.image ? this.brackets.slice(-1) : []; // links do not nest; an image may be a link's text
  }

  angle() {
    const lineBreak = this.match(LINE_BREAK_TAG);
    if (lineBreak) return this.node({ t: "break" }, lineBreak[0].length);
    const link = this.match(ANGLE_LINK);
    if (!link) return this.plain(1);
    this.node({ t: "link", href: link[1], c: [{ t: "text", s: link[1] }] }, link[0].length);
  }

  entity() {
    const found = this.match(ENTITY);
    return found ? this.plain(found[0].length, ENTITIES[found[0].slice(1, -1)]) : this.plain(1);
  }

  lineEnd() {
    const last = this.items.at(-1);
    if (last?.t === "text") last.s = last.s.trimEnd();
    this.node({ t: "break" }, 1);
    this.at += this.match(/[ \t]*/y)[0].length;
  }

  address() {
    const { text, at } = this;
    if (at && /[\p{L}\p{N}]/u.test(text[at - 1]) && !CJK.test(text[at - 1])) return this.plain(1);
    if (!this.match(URL_START)) return this.plain(1);
    const url = addressEnd(this.match(URL_CHARS)[0]);
    this.node({ t: "link", href: url, c: [{ t: "text", s: url }] }, url.length);
  }

  /** Pair the delimiter runs from place `from` on, by CommonMark's rules; what finds no partner stays text. */
  pair(from) {
    const openers = [];
    const floors = new Map(); // kind of closer -> openers below this have been looked at in vain
    for (let i = from; i < this.items.length; i++) {
      const closer = this.items[i];
      if (closer.t !== "run") continue;
      if (closer.closes) this.close(closer, openers, floors);
      if (closer.opens && closer.left) openers.push(closer);
      closer.t = "mark";
    }
  }

  close(closer, openers, floors) {
    const kind = `${closer.char}${closer.opens}${closer.length % 3}`;
    while (closer.left) {
      let i = openers.length - 1;
      const floor = floors.get(kind) ?? 0;
      while (i >= floor && !partners(openers[i], closer)) i--;
      if (i < floor) {
        floors.set(kind, openers.length);
        return;
      }
      openers.length = i + 1;
      for (const [other, below] of floors) floors.set(other, Math.min(below, i));
      const opener = openers[i];
      const used = opener.left >= 2 && closer.left >= 2 ? 2 : 1;
      const type = closer.char === "~" ? "del" : used === 2 ? "strong" : "em";
      opener.starts.unshift({ t: type });
      closer.ends.push(type);
      opener.left -= used;
      closer.left -= used;
      if (!opener.left) openers.pop();
    }
  }
}

function partners(opener, closer) {
  if (opener.char !== closer.char) return false;
  if (closer.char === "~") return opener.left >= 2 && closer.left >= 2; // "~5" is not struck through
  const either = opener.closes || closer.opens;
  return !either || (opener.length + closer.length) % 3 !== 0
    || (opener.length % 3 === 0 && closer.length % 3 === 0);
}

/** Nest a flat list by its marks. */
function tree(items) {
  const root = { c: [] };
  const open = [root];
  let tooDeep = 0;
  const add = (node) => {
    const children = open.at(-1).c;
    const last = children.at(-1);
    if (node.t === "text" && last?.t === "text") last.s += node.s;
    else children.push(node);
  };
  for (const item of items) {
    if (!item.ends) {
      add(item);
      continue;
    }
    for (let n = item.ends.length; n > 0; n--) {
      if (tooDeep) tooDeep--;
      else open.pop();
    }
    const rest = item.t === "bracket" ? item.s : (item.char ?? "").repeat(item.left ?? 0);
    if (rest) add({ t: "text", s: rest });
    for (const start of item.starts) {
      if (open.length > MAX_DEPTH) tooDeep++;
      else {
        const node = { ...start, c: [] };
        add(node);
        open.push(node);
      }
    }
  }
  return root.c;
}

function runLength(text, at) {
  let end = at + 1;
  while (text[end] === text[at]) end++;
  return end - at;
}

/** Runs of backticks by length, each list from last to first. */
function tickRuns(text) {
  const runs = new Map();
  for (const { 0: run, index } of text.matchAll(/`+/g)) {
    if (!runs.has(run.length)) runs.set(run.length, []);
    runs.get(run.length).push(index);
  }
  for (const places of runs.values()) places.reverse();
  return runs;
}

function charBefore(text, at) {
  const low = text.charCodeAt(at - 1);
  return low >= 0xdc00 && low <= 0xdfff ? text.slice(at - 2, at) : text[at - 1];
}

/** An address in running text without what belongs to the sentence: emphasis, a full stop, a closing bracket. */
function addressEnd(found) {
  let end = found.search(/[*_~]{2}|$/);
  const balance = (text) => text.split("(").length - text.split(")").length;
  while (/[.,:;!?*_~\]]/.test(found[end - 1]) || (found[end - 1] === ")" && balance(found.slice(0, end)) < 0)) end--;
  return found.slice(0, end);
}

function unescape(text) {
  return text.replace(/\\([!-/:-@[-`{-~])/g, "$1").replace(/&amp;/g, "&");
}
