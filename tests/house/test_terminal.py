"""What is shown: nothing that commands a terminal, columns that line up, progress of one line that goes away.

Authorities: Unicode's tables, the json module, and the terminal as a list of cells (terminal.py).
"""

import io
import json
import re
import sys
import unicodedata

import plain
import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import ROOT
from terminal import Screen

from edgellm.terminal import Progress, aligned, bar, cut, fit, visible, width

ANYTHING = st.text(st.characters(blacklist_categories=()))


def test_nothing_harmful_of_unicode_is_left_and_nothing_else_is_touched():
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        category = unicodedata.category(char)
        if plain.harmful(char) or char == "\n":
            assert visible(char).isascii() and visible(char).isprintable()
        elif category[0] in "LMNPS" or category == "Zs" or char in "\u200c\u200d":
            assert visible(char) == char


@given(
    st.recursive(
        ANYTHING | st.integers(), lambda inner: st.dictionaries(ANYTHING, inner, max_size=3), max_leaves=4
    )
)
def test_json_stays_the_same_json(value):
    shown = visible(json.dumps(value, ensure_ascii=False, indent=1), keep="\n")
    assert json.loads(shown) == json.loads(json.dumps(value))
    assert not plain.harmful(shown)


def test_escapes_are_those_of_json():
    assert visible("a\x1b[31m\n\x9b\u202e\udce9\U000e0041") == (
        r"a\u001b[31m\n\u009b\u202e\udce9\udb40\udc41"
    )
    assert visible("a\nb\tc\rd", keep="\n\t") == "a\nb\tc\\rd"


@given(
    st.lists(
        st.lists(
            st.sampled_from(["", "a", "中文", "é", "word", "\x1b[2J", "𠀀", "12"]), min_size=3, max_size=3
        )
    )
)
def test_columns_begin_and_end_where_they_should(rows):
    lines = aligned([[*row, "|"] for row in rows], "<><")
    ends = set()
    for row, line in zip(rows, lines, strict=True):
        screen = Screen(200)
        screen.write(line)
        cells = screen.rows[-1]
        ends.add((cells.index("|"), len(cells)))
        assert "".join(cells).startswith(visible(row[0]))
    assert len(ends) <= 1


def test_rows_of_unlike_length_and_none():
    assert aligned([]) == []
    assert aligned([("a", "1"), ("bb",), ("c", "10", "x")], "<>") == ["a    1", "bb", "c   10  x"]


@pytest.mark.parametrize(("text", "columns"), [("abc", 3), ("中文", 4), ("é", 1), ("👩‍👩‍👧‍👦", 2), ("𠀀", 2)])
def test_width_counts_columns(text, columns):
    assert width(text) == columns


@pytest.mark.parametrize("columns", [1, 2, 5, 6, 10, 40])
def test_a_line_that_is_cut_ends_at_the_edge(columns):
    for text in ("中文字符很多很多", "short and long", "a\nb\x1b[31mc", "e\u0301" * 50, "x" * 5000, ""):
        line = fit(text, columns)
        assert width(line) <= columns
        assert not plain.harmful(line + "\n")
        whole = visible(" ".join(text.split()))
        assert line == whole or (line.endswith("…") and whole.startswith(line[:-1]))
        assert cut(whole, columns) == line


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def progress_on(monkeypatch, stream, **options) -> None:
    """Progress with `stream` for standard error: a terminal of 20 columns, if any."""
    monkeypatch.setenv("COLUMNS", "20")
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", stream)
        with pytest.raises(KeyboardInterrupt), Progress(**options) as progress:
            progress.show("中文" * 30)
            progress.show("a\x1b[2J\nb")
            for done in range(4):
                progress.count("evaluating", done, 3)
            raise KeyboardInterrupt


def test_progress_is_one_line_and_gone_at_the_end(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    progress_on(monkeypatch, terminal)
    first, *drawn = terminal.getvalue().split("\r\x1b[K")
    assert first == drawn[-1] == ""
    assert len(drawn) == 7
    assert all(width(line) < 20 and not plain.harmful(line + "\n") for line in drawn)


def test_progress_is_silent_elsewhere(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    quiet, dumb, file = Terminal(), Terminal(), io.StringIO()
    progress_on(monkeypatch, quiet, quiet=True)
    progress_on(monkeypatch, file)
    progress_on(monkeypatch, None)
    monkeypatch.setenv("TERM", "dumb")
    progress_on(monkeypatch, dumb)
    assert quiet.getvalue() == dumb.getvalue() == file.getvalue() == ""


def test_a_bar_has_as_many_cells_as_asked(monkeypatch):
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), "utf-8"))
    assert (bar(0.5, 4), bar(2.0, 4), bar(-1.0, 4)) == ("██░░", "████", "░░░░")
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    assert bar(0.5, 4) == "##.."


def test_nobody_else_pads_columns_or_draws_over_a_line():
    """But the wrapper of answers, which moves words on the screen."""
    by_hand = re.compile(
        r"""\\r\\x1b|\\x1b\[K|[lr]just\(.*(print|say|echo)|\{[^{}]*:[<>](\d|\{)|:\d+\}["'{]"""
    )
    allowed = {"edgellm/terminal.py", "edgellm/chat/terminal/wrap.py", "convert/verify/hard_strings.py"}
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for folder in ("edgellm", "convert", "profiles", "models")
        for path in (ROOT / folder).rglob("*.py")
        if str(path.relative_to(ROOT)) not in allowed
        for line in path.read_text(encoding="utf-8").splitlines()
        if by_hand.search(line)
    ]
    assert not found
