"""Answers on a screen of few columns: words whole, wide characters whole, styles right, nothing lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from terminal import Screen

from edgellm.chat.terminal.answer import AnswerPrinter, View
from edgellm.chat.terminal.markdown import BOLD, CODE, ITALIC, MARK, PLAIN, Markdown
from edgellm.chat.terminal.wrap import Wrapper
from edgellm.prompt.markup import Part


def show(text: str, columns: int, **options) -> Screen:
    screen = Screen(columns, **options)
    wrapper = Wrapper(lambda: columns, colour=False, words=True)
    for char in text:
        screen.write(wrapper.feed([(char, "")]))
    screen.write(wrapper.finish())
    return screen


@pytest.mark.parametrize(
    ("text", "columns", "lines"),
    [
        ("The quick brown fox", 11, ["The quick", "brown fox"]),
        ("a verylongword here", 11, ["a", "verylongwo", "rd here"]),
        ("incomprehensibilities", 11, ["incomprehe", "nsibilitie", "s"]),
        ("你好世界再见", 8, ["你好世", "界再见"]),
        ("你好世。再见", 7, ["你好", "世。再", "见"]),
        ("他说（你好）", 7, ["他说", "（你", "好）"]),
        ("abc 你好 def", 8, ["abc 你", "好 def"]),
        ("one\ntwo three", 9, ["one", "two", "three"]),
        ("don’t stop — now", 8, ["don’t", "stop —", "now"]),
    ],
)
def test_lines_break_where_they_may(text, columns, lines):
    screen = show(text, columns)
    assert [line.rstrip() for line in screen.lines] == lines
    assert not screen.broken


WORDS = ["word", "a", "中文字符", "。", "（", "𠀀", "①", " ", " ", "\n", "long-winded-word"]
CLUSTERS = ["👩‍👩‍👧‍👦", "❤️", "🇨🇳", "👍🏽", "é", "नमस्ते"]  # terminals disagree on their widths
COLUMNS = st.integers(6, 30)
SAMPLES = st.lists(st.sampled_from(WORDS + CLUSTERS), max_size=30).map("".join)


@given(SAMPLES, COLUMNS, st.booleans())
def test_nothing_is_lost_whatever_the_terminal_makes_of_emoji(text, columns, joins):
    screen = show(text, columns, joins=joins)
    assert "".join(screen.lines).replace(" ", "") == text.replace(" ", "").replace("\n", "")
    if not screen.broken:
        lines = "\n".join(screen.lines)
        assert all(lines.count(cluster) == text.count(cluster) for cluster in CLUSTERS if cluster != "नमस्ते")


@given(st.lists(st.sampled_from(WORDS), max_size=30).map("".join), COLUMNS)
def test_no_line_is_too_long_where_widths_are_certain(text, columns):
    assert not show(text, columns, joins=False).broken


def styles(text: str) -> list[tuple[str, str]]:
    """Runs of one style."""
    runs: list[list[str]] = []
    for char, style in Markdown().feed(text):
        if runs and runs[-1][1] == style:
            runs[-1][0] += char
        else:
            runs.append([char, style])
    return [(text, style) for text, style in runs]


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("a **b c** d", [("a ", PLAIN), ("**", MARK), ("b c", BOLD), ("**", MARK), (" d", PLAIN)]),
        ("*一* x", [("*", MARK), ("一", ITALIC), ("*", MARK), (" x", PLAIN)]),
        ("2 * 3 * 4", [("2 ", PLAIN), ("*", MARK), (" 3 ", PLAIN), ("*", MARK), (" 4", PLAIN)]),
        ("2**3", [("2", PLAIN), ("**", MARK), ("3", PLAIN)]),
        ("use `a*b`!", [("use ", PLAIN), ("`", MARK), ("a*b", CODE), ("`", MARK), ("!", PLAIN)]),
        ("## Title\nx", [("##", MARK), (" ", PLAIN), ("Title", BOLD), ("\nx", PLAIN)]),
        ("- **x**", [("-", MARK), (" ", PLAIN), ("**", MARK), ("x", BOLD), ("**", MARK)]),
        ("1. x", [("1", PLAIN), (".", MARK), (" x", PLAIN)]),
        ("**open\nnext", [("**", MARK), ("open", BOLD), ("\nnext", PLAIN)]),
        (
            "```py\n*a*\n```\nb",
            [("```py", MARK), ("\n", PLAIN), ("*a*", CODE), ("\n", PLAIN), ("```", MARK), ("\nb", PLAIN)],
        ),
    ],
)
def test_markdown_is_styled(text, runs):
    assert styles(text) == runs


@given(st.text(alphabet="*`#-> \nab中1.", max_size=60))
def test_markdown_takes_no_character_away(text):
    assert "".join(char for char, _ in Markdown().feed(text)) == text


def printed(*parts: Part, terminal: bool = True, colour: bool = False, **view) -> str:
    printer = AnswerPrinter(View(**view), terminal=terminal, escapes=True, colour=colour)
    return "".join(map(printer.feed, parts)) + printer.end()


THOUGHT = (Part("thinking", "\n"), Part("thinking", "Hm.\n"), Part("text", "Yes"))


def test_thinking_is_shown_apart_or_not_at_all():
    assert printed(*THOUGHT) == "(thinking)\nHm.\n(done thinking)\n\nYes\n"
    dim = [f"\x1b[2m{line}\x1b[0m\n" for line in ("(thinking)", "Hm.", "(done thinking)")]
    assert printed(*THOUGHT, colour=True) == "".join(dim) + "\nYes\n"
    assert printed(*THOUGHT, thinking=False) == "Yes\n"
    assert printed(*THOUGHT, terminal=False) == "Yes\n"
    assert printed(Part("thinking", "\n\n"), Part("text", "Yes")) == "Yes\n"
    assert printed(Part("thinking", "cut")) == "(thinking)\ncut\n(done thinking)\n\n"


def test_styles_can_be_turned_off():
    text = Part("text", "**b**")
    assert printed(text, colour=True) == "\x1b[2m**\x1b[0m\x1b[1mb\x1b[0m\x1b[2m**\x1b[0m\n"
    assert printed(text, colour=True, markdown=False) == printed(text) == "**b**\n"


def test_code_is_not_broken_by_us():
    long = "x = 1; " * 40
    assert long in printed(Part("text", f"```\n{long}\n```"), colour=True).replace("\x1b[36m", "")
