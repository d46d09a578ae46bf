"""The chat page's modules: hostile text, streams cut anywhere, Markdown held against markdown-it, words."""

import random
import re
from html.parser import HTMLParser

import page_scripts
import pytest

#: Checks that return something for Python to judge.
JUDGED = ("inline_as_html", "blocks_as_html", "words")


@pytest.mark.parametrize("name", [name for name in page_scripts.NAMES if name not in JUDGED])
def test_modules(name):
    page_scripts.run(name)


def markdown_it(**options):
    module = pytest.importorskip("markdown_it", reason="needs markdown-it-py: pip install edgellm[dev]")
    return module.MarkdownIt("commonmark", options)


def test_emphasis_code_and_links_are_commonmarks():
    authority = markdown_it(breaks=True).enable("strikethrough")
    draw = random.Random(1)
    pieces = ["**", "*", "_", "__", "***", "a", "b", " ", ".", "`", "``", "[", "c](/y)", "\\*", "~~"]
    texts = ["".join(draw.choices(pieces, k=draw.randint(2, 12))).strip() for _ in range(5000)]
    texts = [text for text in texts if text]
    have = page_scripts.run("inline_as_html", texts)
    wrong = [(t, h, w) for t, h in zip(texts, have, strict=True) if h != (w := authority.renderInline(t))]
    assert not wrong, wrong[:3]


DOCUMENTS = (
    "# One\n\nTwo\nlines **bold**\n\n## Three #\n\nfour\n===\n\n***\n\nend",
    "- a\n- b\n  - c\n    - d\n  - e\n- f\n\n  more of f\n\nafter",
    "1. one\n2. two\n   - three\n   - four\n3. five\n\n7. other\n",
    "- a\n\n- b\n\n\n- c\n* other\n+ third",
    "1. code\n   ```py\n   x = 1\n\n     y\n   ```\n2. on\n",
    "```python\ndef f():\n    return '```'\n```\n~~~\n```\n~~~\n````\n```\n````",
    "```\nnever closed\n\n- not a list",
    "> quote\ngoes on\n> - list\n>   > deeper\n\nout",
    "| a | b |\n|---|:-:|\n| 1 | `x` |\n| **2** | y \\| z |\n\nafter",
    "text\n| a |\n|--|\n| b |",
    "no | table\nhere",
    "2024. was a year\n\nIn\n2023. another\n- but a list",
    "<div onclick='x'>\n\n<script>alert(1)</script> &amp; &lt;b&gt;",
    "a * b * c\n\n\\# no heading\n\n#no heading\n\n####### seven",
    "* * *\n- - -\n-\n- x",
    '[a](http://x "t") ![i](/p) [b]\n\n- [c](<d>)',
)


@pytest.mark.parametrize("text", DOCUMENTS)
def test_blocks_are_commonmarks(text):
    """HTML apart: here it is text. Of paragraphs in lists the page knows no loose and tight ones."""
    authority = markdown_it(breaks=True, html=False).enable(["table", "strikethrough"])
    authority.disable(["html_block", "html_inline"])
    (have,) = page_scripts.run("blocks_as_html", [text])
    assert Outline(have).parts == Outline(authority.render(text)).parts


class Outline(HTMLParser):
    """Tags and texts in order; paragraphs, and space that a browser drops, left out."""

    def __init__(self, html):
        super().__init__()
        self.parts, self.in_code = [], False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        told = dict(attrs)
        self.in_code |= tag == "pre"
        if tag == "img":  # the page loads none: it links
            self.parts += [("a", {"href": told["src"]}), told["alt"], "/a"]
        elif tag != "p":
            self.parts.append((tag, {name: value for name, value in told.items() if name != "title"}))

    def handle_endtag(self, tag):
        self.in_code &= tag != "pre"
        if tag not in ("p", "br", "hr", "img"):
            self.parts.append(f"/{tag}")

    def handle_data(self, data):
        text = data.rstrip("\n") if self.in_code else " ".join(data.split())
        if text:
            self.parts.append(text)


def test_both_languages_say_the_same():
    words = page_scripts.run("words")
    english, chinese = words["en"], words["zh"]
    plain_keys = {key for key in english if not key.endswith(".one")}
    assert plain_keys == set(chinese)
    for key in plain_keys:
        first, second = english[key], chinese[key]
        assert type(first) is type(second) and first and second
        if isinstance(first, str):
            assert set(re.findall(r"\{(\w+)\}", first)) == set(re.findall(r"\{(\w+)\}", second)), key
            assert not first.isascii() or first == second or re.search(r"[\u4e00-\u9fff]", second), key


def test_every_word_is_used_and_every_used_word_is_there():
    words = page_scripts.run("words")["en"]
    text = "".join(source for name, source in page_scripts.sources().items() if name != "words.js")
    quoted = set(re.findall(r'"([a-zA-Z]+)"', text))
    used = set(re.findall(r'\bt\("([a-zA-Z]+)"', text))
    assert used <= set(words)
    kinds = {f"{kind}{part}" for kind in quoted for part in ("Title", "Text")}
    unused = {key for key in words if not key.endswith(".one")} - quoted - kinds
    assert not unused


@pytest.mark.parametrize("name", page_scripts.sources())
def test_no_module_makes_markup_or_reaches_out(name):
    source = page_scripts.sources()[name]
    assert len(source.splitlines()) <= 400
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "DOMParser",
        "eval(",
        "new Function",
        'setAttribute("style',
    ):
        assert word not in source
    addresses = set(re.findall(r"https?://[\w.]+", source)) - {"http://www.w3.org"}
    assert not addresses
