// Colours for code: comments, strings, numbers, keywords, names that are called. A guess by the language's word at
// the fence, one line after the other; what it cannot tell is plain. The parts of a line always add up to the line.

/** @typedef {{kind: "" | "comment" | "string" | "number" | "keyword" | "call" | "tag" | "add" | "del", text: string}} Part */
/** @typedef {string} State what a line leaves open: the text that ends it (a comment's, a long string's), or "" */

const MAX_LINE = 4000; // characters; a longer line is data, and plain

const words = (text) => new Set(text.split(" "));
const C_WORDS = "auto break case char const continue default do double else enum extern float for goto if inline int "
  + "long return short signed sizeof static struct switch typedef union unsigned void volatile while";
const JS_WORDS = "as async await break case catch class const continue debugger default delete do else export extends "
  + "false finally for from function get if import in instanceof let new null of return set static super switch this "
  + "throw true try typeof undefined var void while with yield";

const c = { line: ["//"], block: [["/*", "*/"]], quotes: "\"'" };
const hash = { line: ["#"], block: [], quotes: "\"'" };
const LANGUAGES = {
  c: { ...c, words: words(`${C_WORDS} bool class constexpr delete explicit false friend mutable namespace new noexcept `
    + "nullptr operator override private protected public template this throw true try catch typename using virtual "
    + "#include #define #if #ifdef #ifndef #else #endif #pragma") },
  js: { ...c, block: [["/*", "*/"], ["`", "`"]], words: words(`${JS_WORDS} abstract any boolean declare enum implements `
    + "interface keyof namespace never number private protected public readonly string type unknown") },
  java: { ...c, words: words(`${C_WORDS} abstract as base bool boolean byte catch class data decimal extends false final `
    + "finally fun get implements import in instanceof interface internal is let new null object open override package "
    + "private protected public sealed set string super synchronized this throw throws true try using val var when where") },
  go: { ...c, block: [["/*", "*/"], ["`", "`"]], words: words("break case chan const continue default defer else "
    + "fallthrough false for func go goto if import interface iota map nil package range return select struct switch true "
    + "type var bool byte error float32 float64 int int32 int64 rune string uint") },
  rust: { ...c, quotes: '"', words: words("as async await break const continue crate dyn else enum extern false fn for if "
    + "impl in let loop match mod move mut pub ref return self Self static struct super trait true type unsafe use where "
    + "while bool char f32 f64 i32 i64 str u8 u32 u64 usize String Vec Option Result") },
  swift: { ...c, quotes: '"', block: [['"""', '"""'], ["/*", "*/"]], words: words("as break case catch class continue "
    + "default defer deinit do else enum extension false fileprivate for func guard if import in init inout internal is "
    + "let nil override private protocol public return self static struct super switch throw throws true try typealias "
    + "var where while") },
  python: { ...hash, block: [['"""', '"""'], ["'''", "'''"]], words: words("and as assert async await break case class "
    + "continue def del elif else except False finally for from global if import in is lambda match None nonlocal not or "
    + "pass raise return self True try while with yield") },
  shell: { ...hash, words: words("case do done elif else esac export fi for function if in local read return select set "
    + "source then until while echo cd exit sudo") },
  ruby: { ...hash, words: words("alias and begin break case class def do else elsif end ensure false for if in module next "
    + "nil not or redo rescue return self super then true unless until when while yield require") },
  data: { ...hash, words: words("true false null yes no on off True False None") },
  json: { line: ["//"], block: [["/*", "*/"]], quotes: '"', words: words("true false null") },
  sql: { line: ["--"], block: [["/*", "*/"]], quotes: "'\"", fold: true, words: words("add all alter and as asc begin between "
    + "by case check column commit constraint create cross default delete desc distinct drop else end exists foreign from "
    + "full group having if in index inner insert into is join key left like limit not null offset on or order outer "
    + "primary references returning right rollback select set table then union unique update using values view when "
    + "where with") },
  lua: { line: ["--"], block: [["--[[", "]]"], ["[[", "]]"]], quotes: "\"'", words: words("and break do else elseif end false "
    + "for function goto if in local nil not or repeat return then true until while") },
  css: { line: [], block: [["/*", "*/"]], quotes: "\"'", words: words("@media @import @supports @keyframes !important") },
  html: { line: [], block: [["<!--", "-->"]], quotes: "\"'", words: words(""), tags: true },
  diff: { diff: true },
};

const NAMES = {
  "c++": "c", cpp: "c", cc: "c", h: "c", hpp: "c", cuda: "c", objc: "c", arduino: "c", javascript: "js", jsx: "js",
  mjs: "js", node: "js", ts: "js", tsx: "js", typescript: "js", kotlin: "java", kt: "java", csharp: "java", cs: "java",
  "c#": "java", scala: "java", dart: "java", groovy: "java", php: "js", golang: "go", rs: "rust", py: "python",
  python3: "python", ipython: "python", bash: "shell", sh: "shell", zsh: "shell", console: "shell", fish: "shell",
  dockerfile: "shell", makefile: "shell", make: "shell", rb: "ruby", perl: "ruby", r: "python", julia: "ruby",
  elixir: "ruby", yaml: "data", yml: "data", toml: "data", ini: "data", conf: "data", properties: "data", json5: "json",
  jsonc: "json", jsonl: "json", mysql: "sql", postgresql: "sql", sqlite: "sql", scss: "css", less: "css", xml: "html",
  svg: "html", vue: "html", patch: "diff",
};

const WORD = /[#@!]?[\p{L}_$][\p{L}\p{N}_$-]*/uy;
const NUMBER = /(?:0[xXbBoO][\da-fA-F_]+|\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?)[a-zA-Z%]*/y;
const TAG = /<\/?[a-zA-Z][\w:-]*|\/?>/y;

/**
 * @param {string} line without its end
 * @param {string} lang the fence's word, lower case
 * @param {State} state what the line before left open, "" at first
 * @returns {{parts: Part[], state: State}}
 */
export function highlight(line, lang, state = "") {
  const name = NAMES[lang] ?? lang;
  const rules = Object.hasOwn(LANGUAGES, name) ? LANGUAGES[name] : null;
  if (!rules || line.length > MAX_LINE) return { parts: [{ kind: "", text: line }], state };
  if (rules.diff) return { parts: [{ kind: diffKind(line), text: line }], state };
  return new LineScanner(line, rules, state).run();
}

function diffKind(line) {
  if (/^(@@|diff |index |\+\+\+|---)/.test(line)) return "comment";
  return line.startsWith("+") ? "add" : line.startsWith("-") ? "del" : "";
}

class LineScanner {
  constructor(line, rules, state) {
    Object.assign(this, { line, rules, state, at: 0, parts: [] });
  }

  run() {
    if (this.state) this.until(this.state, this.state === "*/" || this.state === "-->" ? "comment" : "string", 0);
    while (this.at < this.line.length) this.step();
    return { parts: this.parts, state: this.state };
  }

  push(kind, length) {
    const text = this.line.slice(this.at, this.at + length);
    this.at += length;
    const last = this.parts.at(-1);
    if (last?.kind === kind) last.text += text;
    else if (text) this.parts.push({ kind, text });
  }

  /** Up to and with `closing`, or to the line's end, which leaves it open. */
  until(closing, kind, skip) {
    const end = this.line.indexOf(closing, this.at + skip);
    this.state = end < 0 ? closing : "";
    this.push(kind, (end < 0 ? this.line.length : end + closing.length) - this.at);
  }

  step() {
    const { line, rules, at } = this;
    for (const [opening, closing] of rules.block) {
      if (!line.startsWith(opening, at)) continue;
      return this.until(closing, closing === "*/" || closing === "-->" ? "comment" : "string", opening.length);
    }
    if (rules.line.some((mark) => line.startsWith(mark, at)) && (line[at] !== "#" || !/[\w$&]/.test(line[at - 1] ?? ""))) {
      return this.push("comment", line.length - at);
    }
    if (rules.quotes.includes(line[at])) return this.push("string", stringLength(line, at));
    if (rules.tags) {
      const tag = this.match(TAG);
      if (tag) return this.push("tag", tag.length);
    }
    const word = this.match(WORD);
    if (word) return this.push(this.wordKind(word), word.length);
    return this.push(/\d/.test(line[at]) ? "number" : "", this.match(NUMBER)?.length ?? 1);
  }

  match(pattern) {
    pattern.lastIndex = this.at;
    return pattern.exec(this.line)?.[0];
  }

  wordKind(word) {
    const { words, fold, tags } = this.rules;
    if (words.has(fold ? word.toLowerCase() : word)) return "keyword";
    return this.line[this.at + word.length] === "(" && !tags ? "call" : "";
  }
}

/** A string's length with its quotes, to the line's end if it is not closed. */
function stringLength(line, at) {
  for (let end = at + 1; end < line.length; end++) {
    if (line[end] === "\\") end++;
    else if (line[end] === line[at]) return end + 1 - at;
  }
  return line.length - at;
}
