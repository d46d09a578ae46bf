"""What reaches the terminal: no control characters, the right widths, colours only where wanted."""

import io
import time

import pytest
from chat_fakes import Terminal
from hypothesis import given
from hypothesis import strategies as st

from edgellm.chat.terminal import render
from edgellm.chat.terminal.answer import View
from edgellm.chat.terminal.render import Screen
from edgellm.chat.terminal.text import Cleaner
from edgellm.generation.generate import Usage
from edgellm.prompt.markup import Part
from edgellm.terminal import width

HOSTILE = {
    "colour": ("a\x1b[31mred\x1b[0m", "ared"),
    "clear screen": ("\x1b[2J\x1b[Hgone", "gone"),
    "window title": ("\x1b]0;owned\x07text", "text"),
    "title, ended by ST": ("\x1b]0;owned\x1b\\text", "text"),
    "clipboard": ("\x1b]52;c;ZXZpbA==\x07x", "x"),
    "title without end": ("\x1b]0;owned\nnext", "\nnext"),
    "device string": ("\x1bP1$r0m\x1b\\ok", "ok"),
    "8-bit CSI": ("\x9b31mred", "red"),
    "bell, backspace, return": ("a\x07b\x08c\rd", "abcd"),
    "charset": ("\x1b(0lqk", "lqk"),
    "reset": ("\x1bcfresh", "fresh"),
    "escape at the end": ("end\x1b", "end"),
    "plain": ("中文\t𠀀 👩‍👩‍👧‍👦\n", "中文\t𠀀 👩‍👩‍👧‍👦\n"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("size", [1, 2, 1000])
def test_escape_sequences_are_stripped_however_they_are_cut(name, size):
    text, shown = HOSTILE[name]
    cleaner = Cleaner()
    assert "".join(cleaner.feed(text[i : i + size]) for i in range(0, len(text), size)) == shown


@given(st.text(alphabet="\x1b\x07\x9b\x9d[]P;\\m1a中\n", max_size=40))
def test_no_control_character_gets_through(text):
    cleaner = Cleaner()
    shown = "".join(cleaner.feed(c) for c in text)
    assert not set(shown) & set("\x1b\x07\x9b\x9d\r")


@given(st.text(alphabet=st.characters(blacklist_categories=("Cc", "Cs")), max_size=40))
def test_ordinary_text_is_untouched(text):
    assert Cleaner().feed(text) == text


def test_text_after_a_false_start_of_an_endless_string_appears():
    assert Cleaner().feed("\x1b]0;" + "x" * 5000).endswith("x" * 4000)


def test_tables_line_up_with_wide_characters(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    terminal = Terminal()
    rows = [("中文", "one"), ("abcdef", "two " * 20)]
    Screen(terminal).table(rows)
    lines = terminal.getvalue().splitlines()
    assert len(lines) > 3
    assert width(lines[0].split("one")[0]) == width(lines[1].split("two")[0]) == 10
    assert all(line.startswith(" " * 10) for line in lines[2:])
    Screen(terminal).table(rows, cut=True)
    cut = terminal.getvalue().splitlines()[len(lines) :]
    assert len(cut) == 2
    assert cut[1].endswith("…")
    assert all(width(line) < 40 for line in [*lines, *cut])


def test_answers_are_cleaned_for_a_terminal_only():
    terminal, pipe = Terminal(), io.StringIO()
    Screen(terminal).answer(["a\x1b[3", "1mb"])
    Screen(pipe, notes=io.StringIO()).answer(["a\x1b[3", "1mb\n"])
    assert terminal.getvalue() == "ab\n"
    assert pipe.getvalue() == "a\x1b[31mb\n"


def test_waiting_is_erased_by_the_first_piece(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal, pipe = Terminal(), io.StringIO()
    read = iter(range(640, 10**9, 128))

    def late(screen: io.StringIO):
        while screen is terminal and "768" not in screen.getvalue():
            time.sleep(0.01)
        yield "hello"

    for screen in (terminal, pipe):
        Screen(screen, notes=io.StringIO()).answer(late(screen), lambda: render.reading(next(read), 1662))
    assert "reading 640 of 1,662" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[Khello\n")
    assert pipe.getvalue() == "hello\n"


def test_hidden_thinking_is_a_line_that_goes_away(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()

    def parts():
        yield Part("thinking", "Hm. ")
        while "thinking" not in terminal.getvalue():
            time.sleep(0.01)
        yield Part("text", "Five.")

    Screen(terminal, view=View(thinking=False)).answer(parts(), lambda: "reading")
    assert "Hm." not in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[KFive.\n")


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_colours_only_where_wanted(monkeypatch, variables, coloured):
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal()
    Screen(terminal).note("dim \x1b[31mtext")
    assert ("\x1b[2m" in terminal.getvalue()) is coloured
    assert "\x1b[31m" not in terminal.getvalue()


def test_notices_break_between_words_at_the_edge(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    terminal = Terminal()
    Screen(terminal).note("一二三四五六 七八九十 and some words more")
    Screen(terminal).print("the text of an answer is left for the terminal to break")
    lines = terminal.getvalue().splitlines()
    assert all(width(line) <= 20 for line in lines[:-1])
    assert len(lines[-1]) > 20


def test_the_stats_line_says_only_what_is_known():
    line = render.stats_line(Usage(30, 20, 5, 0.5, 0.8), 123_400_000)
    assert line == "5 tokens · first after 0.50 s · 5.0 tok/s · prompt 10 new + 20 cached · 123 MB"
    assert (
        render.stats_line(Usage(30, 0, 1, 0.5, 0.0), None)
        == "1 token · first after 0.50 s · prompt 30 new + 0 cached"
    )


def test_resident_memory_is_this_process_at_least():
    import psutil

    assert render.resident_bytes() >= 0.5 * psutil.Process().memory_info().rss
