// Markdown blocks as data: what models write of CommonMark and GitHub's tables. No HTML: it stays text.

/**
 * `raw` is the source a block was made of: blocks of the same type and source look the same.
 * @typedef {{type: "heading", raw: string, level: number, text: string}
 *   | {type: "para", raw: string, text: string} | {type: "math", raw: string, text: string}
 *   | {type: "rule", raw: string} | {type: "code", raw: string, lang: string, text: string}
 *   | {type: "quote", raw: string, blocks: Block[]}
 *   | {type: "list", raw: string, ordered: boolean, start: number, items: Item[]}
 *   | {type: "table", raw: string, align: Align[], rows: Row[]}} Block
 * @typedef {{raw: string, checked: boolean | null, blocks: Block[]}} Item `checked` of a task, else null
 * @typedef {{raw: string, cells: string[]}} Row the first one holds the headings
 * @typedef {"left" | "center" | "right" | ""} Align
 */

const MAX_DEPTH = 12; // lists and quotes in one another; what is deeper is a paragraph
const BLANK = /^\s*$/;
const FENCE = /^ {0,3}(`{3,}|~{3,})[ \t]*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+(.*))?$/;
const RULE = /^ {0,3}(?:(?:-[ \t]*){3,}|(?:\*[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const MARKER = /^( {0,3})([-*+]|\d{1,9}[.)])(?:( {1,4})(?=\S)| +|$)/;
const UNDERLINE = /^ {0,3}(=+|-+)[ \t]*$/;
const TASK = /^\[([ xX])\] +/;
const MATH = /^ {0,3}(\$\$|\\\[)/;
const TABLE_RULE = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;

/** @param {string} text @returns {Block[]} */
export function parse(text) {
  return new Lines(seen(text.split("\n")), 0).blocks();
}

/** Text that grows at its end, parsed again only from the last block that could still change. */
export class Growing {
  constructor() {
    this.text = "";
    this.settled = []; // blocks that no further text changes
    this.at = 0; // where in the text they end
  }

  /**
   * @param {string} text all of it
   * @returns {{blocks: Block[], kept: number}} and how many of the first blocks are those of the last call
   */
  update(text) {
    if (!text.startsWith(this.text)) Object.assign(this, { settled: [], at: 0 });
    const kept = this.settled.length;
    this.text = text;
    const lines = text.slice(this.at).split("\n");
    const open = new Lines(seen(lines), 0);
    const blocks = open.blocks();
    // A block has ended when two lines of the next are whole: before that "1" may become "1." or "1.5", and
    // whether a line heads a table is told by the one below it.
    const ended = open.starts.findLastIndex((line, i) => i > 0 && line < lines.length - 2);
    if (ended > 0) {
      this.settled = this.settled.concat(blocks.slice(0, ended));
      for (let i = 0; i < open.starts[ended]; i++) this.at += lines[i].length + 1;
      return { blocks: this.settled.concat(blocks.slice(ended)), kept };
    }
    return { blocks: this.settled.concat(blocks), kept };
  }
}

/** Lines as they are read: the last one, if it is blank, may yet become another, and says nothing. */
function seen(lines) {
  const whole = BLANK.test(lines.at(-1)) ? lines.slice(0, -1) : lines;
  return whole.map((line) => (line.endsWith("\r") ? line.slice(0, -1) : line));
}

/** Lines of a text, a quote or a list's item, taken from first to last. */
class Lines {
  constructor(lines, depth) {
    this.lines = lines;
    this.depth = depth;
    this.at = 0;
    this.starts = []; // the first line of each block
  }

  /** @returns {Block[]} */
  blocks() {
    const blocks = [];
    while (this.at < this.lines.length) {
      const start = this.at;
      const block = this.block(this.lines[start]);
      if (!block) continue;
      block.raw = this.lines.slice(start, this.at).join("\n");
      blocks.push(block);
      this.starts.push(start);
    }
    return blocks;
  }

  block(line) {
    if (BLANK.test(line)) return void this.at++;
    const fence = FENCE.exec(line);
    if (fence) return this.fence(line, fence);
    const heading = HEADING.exec(line);
    if (heading) return this.one({ type: "heading", level: heading[1].length, text: headingText(heading[2]) });
    if (RULE.test(line)) return this.one({ type: "rule" });
    if (MATH.test(line)) {
      const math = this.math(line);
      if (math) return math;
    }
    if (this.depth < MAX_DEPTH) {
      if (QUOTE.test(line)) return this.quote();
      const marker = MARKER.exec(line);
      if (marker) return this.list(marker);
    }
    return this.table() ?? this.paragraph();
  }

  one(block) {
    this.at++;
    return block;
  }

  fence(first, [, mark, info]) {
    const indent = first.length - first.trimStart().length;
    const text = [];
    this.at++;
    while (this.at < this.lines.length) {
      const line = this.lines[this.at++];
      if (closesFence(line, mark)) break;
      let cut = 0;
      while (cut < indent && line[cut] === " ") cut++;
      text.push(line.slice(cut));
    }
    return { type: "code", lang: info.trim().split(/\s/, 1)[0].toLowerCase(), text: text.join("\n") };
  }

  math(first) {
    const [, opening] = MATH.exec(first);
    const closing = opening === "$$" ? "$$" : "\\]";
    let end = this.at;
    let rest = first.slice(first.indexOf(opening) + 2);
    while (rest !== undefined && !rest.includes(closing)) {
      rest = this.lines[++end];
      if (rest !== undefined && BLANK.test(rest)) return null;
    }
    // Where text goes on after it, it is a paragraph. Where the closing is missing, it may yet come.
    if (rest !== undefined && !BLANK.test(rest.slice(rest.indexOf(closing) + 2))) return null;
    const text = this.lines.slice(this.at, end + 1).join("\n").trim();
    this.at = end + 1;
    return { type: "math", text };
  }

  quote() {
    const inner = [];
    while (this.at < this.lines.length) {
      const line = this.lines[this.at];
      const quoted = QUOTE.test(line);
      if (!quoted && (BLANK.test(line) || BLANK.test(inner.at(-1)) || startsBlock(line))) break;
      inner.push(quoted ? line.replace(QUOTE, "") : line);
      this.at++;
    }
    return { type: "quote", blocks: new Lines(inner, this.depth + 1).blocks() };
  }

  list(marker) {
    const kind = marker[2].slice(-1); // one of - * + . )
    const indent = marker[1].length;
    const items = [];
    for (let found = marker; found; found = this.sibling(kind, indent)) {
      items.push(this.item(found));
    }
    const ordered = kind === "." || kind === ")";
    return { type: "list", ordered, start: ordered ? parseInt(marker[2], 10) : 1, items };
  }

  /** The marker of the list's next item, if the line at hand has one. */
  sibling(kind, indent) {
    let at = this.at;
    while (at < this.lines.length && BLANK.test(this.lines[at])) at++;
    const line = this.lines[at] ?? "";
    const found = RULE.test(line) ? null : MARKER.exec(line);
    if (!found || !found[2].endsWith(kind) || found[1].length >= indent + 2) return null;
    this.at = at;
    return found;
  }

  item(marker) {
    const start = this.at;
    const first = this.lines[this.at++].slice(marker[0].length);
    const task = TASK.exec(first);
    const inner = [task ? first.slice(task[0].length) : first];
    const width = marker[0].length || 2;
    const base = marker[1].length;
    let fence = FENCE.exec(inner[0])?.[1];
    for (let end = this.at; end < this.lines.length; end++) {
      if (BLANK.test(this.lines[end])) continue; // belongs to the item if what follows does
      const line = this.lines[end].replace(fence ? /^\t/ : /^[ \t]+/, (space) => space.replaceAll("\t", "    "));
      const depth = line.length - line.trimStart().length;
      const blankBefore = end > this.at || BLANK.test(inner.at(-1));
      // Two columns are enough: models indent what belongs to "1. " by two, three or four.
      const inside = depth >= Math.min(width, base + 2);
      if (!inside && (blankBefore || fence || MARKER.test(line) || startsBlock(line))) break;
      while (this.at < end) inner.push(this.lines[this.at++]);
      const content = inside ? line.slice(Math.min(depth, width)) : line.trimStart();
      inner.push(content);
      this.at++;
      if (fence ? closesFence(content, fence) : FENCE.test(content)) fence = fence ? undefined : FENCE.exec(content)[1];
    }
    return {
      raw: this.lines.slice(start, this.at).join("\n"),
      checked: task ? task[1] !== " " : null,
      blocks: new Lines(inner, this.depth + 1).blocks(),
    };
  }

  table() {
    if (!this.headsTable()) return null;
    const { lines, at } = this;
    const head = cells(lines[at]);
    const marks = cells(lines[at + 1]);
    const rows = [{ raw: lines[at], cells: head }];
    this.at += 2;
    while (this.at < lines.length && !BLANK.test(lines[this.at]) && !startsBlock(lines[this.at])) {
      const raw = lines[this.at++];
      rows.push({ raw, cells: cells(raw).slice(0, head.length) });
    }
    return { type: "table", align: marks.map(alignment), rows };
  }

  headsTable() {
    const [line, below] = [this.lines[this.at], this.lines[this.at + 1] ?? ""];
    return line.includes("|") && TABLE_RULE.test(below) && cells(line).length === cells(below).length;
  }

  paragraph() {
    const text = [this.lines[this.at++].trim()];
    while (this.at < this.lines.length) {
      const line = this.lines[this.at];
      if (BLANK.test(line)) break;
      const under = UNDERLINE.exec(line);
      if (under && (under[1][0] === "=" || under[1].length > 1)) {
        this.at++;
        return { type: "heading", level: under[1][0] === "=" ? 1 : 2, text: text.join("\n") };
      }
      if (startsBlock(line, this.depth) || this.headsTable()) break;
      text.push(line.trimStart());
      this.at++;
    }
    return { type: "para", text: text.join("\n").trimEnd() };
  }
}

/** Whether a line cannot go on a paragraph. Of numbers only 1 begins a list there: "2024. was" is prose. */
function startsBlock(line, depth = 0) {
  if (FENCE.test(line) || HEADING.test(line) || RULE.test(line)) return true;
  if (depth >= MAX_DEPTH) return false;
  if (QUOTE.test(line)) return true;
  const marker = MARKER.exec(line);
  return !!marker && marker[0].length < line.length && (marker[2].length > 2 ? false : !/[02-9]/.test(marker[2]));
}

function alignment(mark) {
  if (mark.endsWith(":")) return mark.startsWith(":") ? "center" : "right";
  return mark.startsWith(":") ? "left" : "";
}

function closesFence(line, mark) {
  const text = line.trim();
  return text.length >= mark.length && text[0] === mark[0] && /^(`+|~+)$/.test(text)
    && line.length - line.trimStart().length < 4;
}

function headingText(text) {
  return (text ?? "").trim().replace(/(^|[ \t])#+$/, "").trim();
}

/** A table row's cells: parts between bars that are neither escaped nor in code, where code is closed. */
function cells(line) {
  const closed = line.split("`").length % 2 === 1;
  const parts = [];
  let cell = "";
  let code = false;
  for (const piece of line.trim().split(/(\\\||\||`)/)) {
    if (piece === "`") code = closed && !code;
    if (piece === "|" && !code) {
      parts.push(cell.trim());
      cell = "";
    } else cell += piece === "\\|" ? "|" : piece;
  }
  parts.push(cell.trim());
  if (parts.length > 1 && parts[0] === "") parts.shift();
  if (parts.length > 1 && parts.at(-1) === "") parts.pop();
  return parts;
}
