// Checks of the page's modules that need no page. `load` imports a module by its name; run by page_scripts.py under
// node, or in the browser where there is none. A check throws, or returns a value that Python holds against another's.

const equal = (have, want) => {
  const [a, b] = [have, want].map((value) => JSON.stringify(value));
  if (a !== b) throw new Error(`have ${a.slice(0, 600)}, want ${b.slice(0, 600)}`);
};
const bytes = (text) => new TextEncoder().encode(text);
const withoutRaw = (value) => JSON.stringify(value, (key, inner) => (key === "raw" ? undefined : inner));

/** Numbers that look drawn, the same in every run. */
function drawn(seed) {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return (state >> 8) % below;
  };
}

const PIECES = ["a", "b c", "- ", "1. ", "2. ", "2", ".", "\n", "\n", "\n", "\n\n", "  ", "   ", "|", "-|-", "---", "```", "``",
  "`", "# ", "> ", "$$", "\\[", "\\]", "===", "[x] ", "\t", "\r\n", "*", "x|y\n-|-\n", "中文。", "**", "[a](http://b)"];

function scribble(draw) {
  let text = "";
  for (let n = 3 + draw(16); n > 0; n--) text += PIECES[draw(PIECES.length)];
  return text;
}

/** HTML as CommonMark's tools write it, to be compared with theirs; the page itself never makes HTML. */
async function html(load, text) {
  const [{ parse }, { inline }] = [await load("markdown.js"), await load("inline.js")];
  const escaped = (s) => s.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/"/g, "&quot;");
  const spans = (nodes) => nodes.map((node) => {
    if (node.t === "text" || node.t === "math") return escaped(node.s);
    if (node.t === "code") return `<code>${escaped(node.s)}</code>`;
    if (node.t === "break") return "<br />\n";
    if (node.t === "link") return `<a href="${escaped(node.href)}">${spans(node.c)}</a>`;
    const tag = node.t === "del" ? "s" : node.t;
    return `<${tag}>${spans(node.c)}</${tag}>`;
  }).join("");
  const block = (b) => {
    if (b.type === "heading") return `<h${b.level}>${spans(inline(b.text))}</h${b.level}>`;
    if (b.type === "rule") return "<hr />";
    if (b.type === "math") return `<p>${escaped(b.text)}</p>`;
    if (b.type === "code") return `<pre><code${b.lang ? ` class="language-${b.lang}"` : ""}>${escaped(b.text)}\n</code></pre>`;
    if (b.type === "quote") return `<blockquote>${blocks(b.blocks)}</blockquote>`;
    if (b.type === "list") return list(b);
    if (b.type === "table") return table(b);
    return `<p>${spans(inline(b.text))}</p>`;
  };
  const list = (b) => {
    const tag = b.ordered ? "ol" : "ul";
    const start = b.ordered && b.start !== 1 ? ` start="${b.start}"` : "";
    return `<${tag}${start}>${b.items.map((item) => `<li>${blocks(item.blocks)}</li>`).join("")}</${tag}>`;
  };
  const table = ({ align, rows: [head, ...rows] }) => {
    const row = (tag) => ({ cells }) => `<tr>${cells.map((cell, i) =>
      `<${tag}${align[i] ? ` style="text-align:${align[i]}"` : ""}>${spans(inline(cell))}</${tag}>`).join("")}</tr>`;
    return `<table><thead>${row("th")(head)}</thead><tbody>${rows.map(row("td")).join("")}</tbody></table>`;
  };
  const blocks = (all) => all.map(block).join("");
  return { inline: spans(inline(text)), blocks: blocks(parse(text)) };
}

export const checks = {
  async inline_as_html(load, texts) {
    return Promise.all(texts.map(async (text) => (await html(load, text)).inline));
  },

  async blocks_as_html(load, texts) {
    return Promise.all(texts.map(async (text) => (await html(load, text)).blocks));
  },

  async words(load) {
    return (await load("words.js")).WORDS;
  },

  async events_are_whole_wherever_bytes_are_cut(load) {
    const { SseDecoder } = await load("sse.js");
    const stream = bytes("\ufeff: hello\r\n\r\ndata: 你好\ndata:  😀 two\r\rid: 3\nevent: note\ndata\n\ndata: a: b\r\n\r\n"
      + "retry: 1\n\n\ndata:[DONE]\n\ndata: cut off");
    const want = [
      { event: "message", data: "你好\n 😀 two" }, { event: "note", data: "" }, { event: "message", data: "a: b" },
      { event: "message", data: "[DONE]" },
    ];
    for (let size = 1; size <= stream.length; size++) {
      for (let first = 0; first < Math.min(size, 8); first++) {
        const decoder = new SseDecoder();
        const have = decoder.push(stream.slice(0, first));
        for (let at = first; at < stream.length; at += size) have.push(...decoder.push(stream.slice(at, at + size)));
        equal(have, want);
      }
    }
  },

  async an_event_of_a_megabyte_in_small_pieces(load) {
    const { SseDecoder } = await load("sse.js");
    const data = "x".repeat(1 << 20);
    const stream = bytes(`data: ${data}\n\n`);
    const decoder = new SseDecoder();
    const have = [];
    for (let at = 0; at < stream.length; at += 97) have.push(...decoder.push(stream.slice(at, at + 97)));
    equal(have.map((event) => event.data.length), [data.length]);
  },

  async bytes_that_are_no_text_do_not_end_the_stream(load) {
    const { SseDecoder } = await load("sse.js");
    const decoder = new SseDecoder();
    const have = decoder.push(new Uint8Array([...bytes("data: "), 0xff, 0xfe, 0xc3, ...bytes("\n\ndata: on\n\n")]));
    equal(have.length, 2);
    equal(have[1].data, "on");
  },

  async text_that_grows_ends_as_text_that_came_at_once(load) {
    const { parse, Growing } = await load("markdown.js");
    const draw = drawn(7);
    for (let n = 0; n < 4000; n++) {
      const text = scribble(draw);
      const growing = new Growing();
      let blocks = [];
      let before = [];
      for (let at = 0; at < text.length; ) {
        at = Math.min(text.length, at + 1 + draw(3));
        const update = growing.update(text.slice(0, at));
        equal(update.blocks.slice(0, update.kept), before.slice(0, update.kept));
        before = blocks = update.blocks;
      }
      equal(`${JSON.stringify(text)} ${withoutRaw(blocks)}`, `${JSON.stringify(text)} ${withoutRaw(parse(text))}`);
    }
  },

  async another_text_begins_anew(load) {
    const { parse, Growing } = await load("markdown.js");
    const growing = new Growing();
    growing.update("# one\n\ntwo\n\nthree\n\nfour\n");
    equal(growing.update("other\n\n- text").blocks, parse("other\n\n- text"));
  },

  async only_http_may_be_followed(load) {
    const { safeLink } = await load("inline.js");
    for (const href of ["javascript:alert(1)", "JaVaScRiPt:alert(1)", " javascript:alert(1)", "java\nscript:alert(1)",
      "data:text/html,<script>", "vbscript:x", "file:///etc/passwd", "//evil.example", "/v1/models", "blob:http://x",
      "http:evil", "https:", "http://", "http://[", "\u0001javascript:x", "mailto:a@b", ""]) equal([href, safeLink(href)], [href, null]);
    equal(safeLink("https://example.org/a?b=c#d"), "https://example.org/a?b=c#d");
    equal(safeLink("HTTP://EXAMPLE.org"), "http://example.org/");
  },

  async hostile_text_takes_no_time_and_no_depth(load) {
    const [{ parse, Growing }, { inline }] = [await load("markdown.js"), await load("inline.js")];
    const N = 50_000;
    const many = (text, n = N) => text.repeat(n);
    const texts = [many("*a "), many("**a*"), many("_a__"), many("["), many("[a]("), many("![") + many("](a)"), `[a](${many(" ")}`,
      `https://${many(",")}`, many("https://a**"), `https://${many(")")}a`, many("$a "), many("\\("), many("<"), many("&"),
      many('[a](b "'), many("[a](b (c"), many("*a **b ") + many("** *"), many("`a``b"), many("~~a~"), many("[a](", N) + many(")", N),
      many(">"), many("> ", 20_000), many("- "), many("- ", 5000) + many("\n"), many("1. ", 5000), many("|") + "\n" + many("|-"),
      `|a|b|\n|-|-|\n${many("|x|y\n", 5000)}`, many("# "), many("#"), many("$$\na\n\n", 5000), many("\\[\n", 5000), many("```\n", 5000),
      Array.from({ length: 400 }, (_, i) => `${many(" ", i * 2)}- a`).join("\n"), many("\t- a\n", 5000), many("\u0000\u2028\ud800"),
      Array.from({ length: 400 }, (_, i) => many("`", i + 1)).join(" "), many("=\n", 5000), many("a\n===\n", 5000), many("<br", 20_000)];
    for (const text of texts) {
      inline(text);
      const nested = JSON.stringify(parse(text)).match(/"blocks":\[/g)?.length ?? 0;
      if (nested > 4 * N) throw new Error(`${text.slice(0, 20)}: ${nested} containers`);
      const growing = new Growing();
      for (let part = 1; part <= 4; part++) growing.update(text.slice(0, (text.length * part) / 4));
    }
    const depth = (value) => (value && typeof value === "object" ? 1 + Math.max(0, ...Object.values(value).map(depth)) : 0);
    for (const text of [many("*a **b ", 300) + many("c** d* ", 300), many("> ", 300) + "x", many("- ", 300) + "x"]) {
      if (depth(parse(text)) > 60 || depth(inline(text)) > 60) throw new Error(`too deep: ${text.slice(0, 20)}`);
    }
  },

  async nothing_of_the_text_is_lost(load) {
    const { inline } = await load("inline.js");
    const text = (nodes) => nodes.map((node) => node.s ?? (node.c ? text(node.c) : "\n")).join("");
    const marks = /[*_~`\\[\]()!$<>&\s]|http:\/\/b/g;
    const draw = drawn(11);
    for (let n = 0; n < 4000; n++) {
      const source = scribble(draw).replace(/&|<br/g, "");
      equal(text(inline(source)).replace(marks, ""), source.replace(marks, ""));
    }
  },

  async emphasis_beside_chinese_punctuation(load) {
    const { inline } = await load("inline.js");
    const strong = (s) => ({ t: "strong", c: [{ t: "text", s }] });
    equal(inline("**注意：**这是"), [strong("注意："), { t: "text", s: "这是" }]);
    equal(inline("请看**“重点”**内容"), [{ t: "text", s: "请看" }, strong("“重点”"), { t: "text", s: "内容" }]);
  },

  async latex_stays_as_it_is(load) {
    const [{ parse }, { inline }] = [await load("markdown.js"), await load("inline.js")];
    for (const math of ["\\(a_1 * b_2 * c\\)", "$x_1^{*} + y_2^{*}$", "$$a_b$$", "\\[\\frac{1}{2}*x*\\]"]) {
      equal(inline(`so ${math} is`), [{ t: "text", s: "so " }, { t: "math", s: math }, { t: "text", s: " is" }]);
    }
    equal(inline("from $5 to $6"), [{ t: "text", s: "from $5 to $6" }]);
    equal(parse("$$\n- x\n+ *y*\n$$")[0].text, "$$\n- x\n+ *y*\n$$");
  },

  async coloured_code_adds_up_to_its_lines(load) {
    const { highlight } = await load("highlight.js");
    const draw = drawn(3);
    const languages = ["python", "js", "c", "html", "diff", "sql", "lua", "yaml", "rust", "sh", "go", "json", "css", "swift", "nope",
      "constructor", "__proto__", "toString", ""];
    const pieces = ['"', "'", "`", '"""', "'''", "/*", "*/", "//", "#", "--", "--[[", "]]", "<!--", "-->", "<a", "</", ">", "\\", "x", "def ",
      "0x1f", "1.5e3", "é", "变量", "(", " ", "$", "@", "😀", "\t", "if", "\ud800"];
    for (let n = 0; n < 6000; n++) {
      const language = languages[draw(languages.length)];
      let state = "";
      for (let lines = 0; lines < 4; lines++) {
        let line = "";
        for (let k = draw(10); k > 0; k--) line += pieces[draw(pieces.length)];
        const found = highlight(line, language, state);
        equal(found.parts.map((part) => part.text).join(""), line);
        state = found.state;
      }
    }
    const long = 'x = "' + "a".repeat(100_000);
    equal(highlight(long, "python").parts.map((part) => part.text).join(""), long);
  },

  async colours_are_what_they_are_called(load) {
    const { highlight } = await load("highlight.js");
    const kinds = (line, language, state) => highlight(line, language, state).parts.filter((p) => p.kind).map((p) => `${p.kind}:${p.text}`);
    equal(kinds("def f(x): return 1.5 # it's", "py"), ["keyword:def", "call:f", "keyword:return", "number:1.5", "comment:# it's"]);
    equal(kinds("s = 'it\\'s' + \"#no\"", "python"), ["string:'it\\'s'", 'string:"#no"']);
    equal(kinds("const a = `x", "js"), ["keyword:const", "string:`x"]);
    equal(kinds("y` + b", "js", highlight("const a = `x", "js").state), ["string:y`"]);
    equal(kinds("echo $# a#b # c", "bash"), ["keyword:echo", "comment:# c"]);
    equal(kinds("SELECT * FROM t -- all", "sql"), ["keyword:SELECT", "keyword:FROM", "comment:-- all"]);
    equal(kinds("+new", "diff"), ["add:+new"]);
  },

  async branches_and_what_is_asked(load) {
    const tree = await load("tree.js");
    const { completed } = await load("settings.js");
    const chat = tree.newChat(completed({ system: "Be brief." }));
    const first = tree.add(chat, null, { role: "user", text: "one" });
    const answer = tree.add(chat, first, { role: "assistant", text: "1", thinking: "hm", ended: 1 });
    const second = tree.add(chat, answer, { role: "user", text: "two" });
    const edited = tree.add(chat, answer, { role: "user", text: "zwei" });
    equal(tree.path(chat).map((m) => m.text), ["one", "1", "zwei"]);
    tree.choose(chat, second);
    equal(tree.path(chat).map((m) => m.text), ["one", "1", "two"]);
    equal(tree.children(chat, answer.id).length, 2);
    equal(tree.asked(chat, edited).map((m) => [m.role, m.content]),
      [["system", "Be brief."], ["user", "one"], ["assistant", "1"], ["user", "zwei"]]);
    const call = { id: "c1", name: "f", arguments: "{}" };
    const calling = tree.add(chat, second, { role: "assistant", text: "", thinking: "use f", calls: [call], ended: 1 });
    const result = tree.add(chat, calling, { role: "tool", text: "42", callId: "c1" });
    const asked = tree.asked(chat, result);
    equal(asked.slice(-2), [
      { role: "assistant", content: "", reasoning_content: "use f",
        tool_calls: [{ id: "c1", type: "function", function: { name: "f", arguments: "{}" } }] },
      { role: "tool", tool_call_id: "c1", content: "42" }]);
    equal("reasoning_content" in asked[2], false);
    equal(chat.title, "one");
  },

  async chats_from_elsewhere_are_looked_at(load) {
    const { Store, StoreError } = await load("store.js");
    const { path, newChat, add } = await load("tree.js");
    const items = new Map();
    const storage = {
      get length() { return items.size; }, key: (i) => [...items.keys()][i], getItem: (key) => items.get(key) ?? null,
      setItem: (key, value) => void items.set(key, value), removeItem: (key) => void items.delete(key),
    };
    const store = new Store(storage);
    const fails = (text) => {
      try {
        store.import(text);
      } catch (error) {
        return error instanceof StoreError && error.kind;
      }
      return "taken";
    };
    for (const text of ["", "{", "null", "[1]", '{"version":2}', '{"version":1,"id":3,"messages":{}}', '{"version":1,"id":"a","messages":[]}']) {
      equal([text, fails(text)], [text, "unreadable"]);
    }
    const circle = { version: 1, id: "x", messages: {
      a: { id: "a", parent: "b", role: "user", text: "1" }, b: { id: "b", parent: "a", role: "user", text: "2" },
      c: { id: "c", parent: null, role: "wizard", text: "3" }, d: { id: "d", parent: null, role: "user", text: 4 },
      e: { id: "e", parent: null, role: "assistant", text: "ok", calls: [{ name: 1 }] }, "__proto__": { role: "user" } } };
    const [taken] = store.import(JSON.stringify(circle));
    equal(path(taken), []);
    equal(Object.keys(taken.messages), ["a", "b"]);
    const again = store.import(JSON.stringify(circle))[0];
    equal(again.id === "x", false); // nothing here is written over

    // Two windows on one chat: what either adds is kept.
    const mine = newChat({});
    const first = add(mine, null, { role: "user", text: "first" });
    store.save(mine);
    const theirs = new Store(storage);
    const copy = theirs.load(mine.id);
    add(copy, copy.messages[first.id], { role: "assistant", text: "theirs", began: 1, ended: 2 });
    theirs.save(copy);
    add(mine, first, { role: "assistant", text: "mine", began: 3, ended: 4 });
    store.save(mine);
    equal(Object.values(store.load(mine.id).messages).map((m) => m.text).sort(), ["first", "mine", "theirs"]);

    theirs.remove(mine.id);
    let kind = "";
    try {
      store.save(mine);
    } catch (error) {
      kind = error.kind;
    }
    equal(kind, "gone");
  },

  async what_was_not_measured_is_said(load) {
    const { costOf, costLine, costRows } = await load("cost.js");
    const bare = costOf({ usage: { prompt_tokens: 3, completion_tokens: 1 }, energy: { joules: null, reason: "no meter" } }, null);
    equal(costLine(bare), "1 token");
    const rows = Object.fromEntries(costRows(bare));
    equal([rows.Energy, rows.Decode, rows.TTFT], ["not measured: no meter", "not measured", "not measured"]);
    const full = costOf({
      usage: { prompt_tokens: 1200, completion_tokens: 10, prompt_tokens_details: { cached_tokens: 1000 }, completion_tokens_details: { reasoning_tokens: 4 } },
      timings: { prompt_per_second: 412.345, predicted_per_second: 20.06, queue_ms: 3 }, energy: { joules: 5, scope: "RAPL package-0", reason: null },
    }, 1234);
    equal(costLine(full), "10 tokens · 20.1 tok/s · first after 1.23 s · 5 J");
    equal(Object.fromEntries(costRows(full)).Energy, "5 J · 0.5 J/token · RAPL package-0");
    equal(Object.fromEntries(costRows(full)).Prompt, "1,200 tokens (1,000 from the cache)");
  },
};
