"""Thinking and tool calls in streamed answers, however they are cut into pieces."""

import pytest
from fakes import ScriptedSession
from hypothesis import given
from hypothesis import strategies as st

from edgellm.prompt import markup
from edgellm.prompt.markup import Markup, MarkupParser

TOOLS = ({"type": "function", "function": {"name": "f", "parameters": {}}},)
QWEN = Markup.of("<think></think><tool_call>", TOOLS)
LLAMA = Markup.of("<|start_header_id|>", TOOLS)
THINKER = Markup.of("</think>")
CALL = '{"name": "f", "arguments": {"x": "<tool_call> 你好"}}'
LLAMA_CALL = '{"name": "f", "parameters": {"x": 1}}'

#: what is written -> (thinking, text, arguments of the calls, how many blocks are malformed)
ANSWERS = {
    "plain": (QWEN, "Hello, 世界 🎉 a < b", ("", "Hello, 世界 🎉 a < b", [], 0)),
    "thinking": (THINKER, "<think>\nHm, 2 < 3.\n</think>\n\nYes.", ("Hm, 2 < 3.", "Yes.", [], 0)),
    "empty thinking": (THINKER, "<think>\n\n</think>\n\nYes.", ("", "Yes.", [], 0)),
    "only thinking": (THINKER, "<think>\nand so on", ("and so on", "", [], 0)),
    "a tag later is text": (THINKER, "The <think> tag.", ("", "The <think> tag.", [], 0)),
    "almost a tag": (THINKER, "<thinker>", ("", "<thinker>", [], 0)),
    "a call": (QWEN, f"<tool_call>\n{CALL}\n</tool_call>", ("", "", [{"x": "<tool_call> 你好"}], 0)),
    "text and calls": (
        QWEN,
        f"Sure.\n<tool_call>{CALL}</tool_call>\n<tool_call>{CALL}</tool_call>",
        ("", "Sure.", [{"x": "<tool_call> 你好"}] * 2, 0),
    ),
    "thinking and a call": (
        QWEN,
        f"<think>\nI call <tool_call>.\n</think>\n\n<tool_call>{CALL}</tool_call>",
        ("I call <tool_call>.", "", [{"x": "<tool_call> 你好"}], 0),
    ),
    "no end tag": (QWEN, f"<tool_call>{CALL}", ("", "", [{"x": "<tool_call> 你好"}], 0)),
    "broken": (
        QWEN,
        "A<tool_call>{oops}</tool_call> b",
        ("", "A<tool_call>{oops}</tool_call>b", [], 1),
    ),
    "a Llama call": (LLAMA, LLAMA_CALL, ("", "", [{"x": 1}], 0)),
    "two": (LLAMA, f"{LLAMA_CALL}; {LLAMA_CALL}", ("", "", [{"x": 1}] * 2, 0)),
    "after the tag": (LLAMA, f"<|python_tag|>{LLAMA_CALL}", ("", "", [{"x": 1}], 0)),
    "JSON that is no call": (LLAMA, '{"a": 1}', ("", '{"a": 1}', [], 0)),
    "code for nobody": (LLAMA, "<|python_tag|>print(1)", ("", "print(1)", [], 1)),
    "a Llama's words": (LLAMA, "It is {sunny}.\n", ("", "It is {sunny}.\n", [], 0)),
}


def take_apart(what: Markup, pieces: list[str], *, thinking: bool = False, cut: bool = False) -> MarkupParser:
    parser = MarkupParser(what, thinking=thinking)
    parts = [part for piece in pieces for part in parser.feed(piece)] + parser.finish(cut=cut)
    assert "".join(part.text for part in parts if part.kind == "text") == parser.text
    assert [part.call for part in parts if part.kind == "call"] == parser.calls
    return parser


def found(parser: MarkupParser) -> tuple:
    return parser.thinking, parser.text, [call.arguments for call in parser.calls], len(parser.malformed)


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_answers_are_taken_apart_however_they_are_cut(name, size):
    what, text, expected = ANSWERS[name]
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    assert found(take_apart(what, pieces)) == expected


@given(
    st.sampled_from([QWEN, LLAMA, THINKER, Markup()]),
    st.lists(
        st.sampled_from(
            ["<think>", "</think>", "<tool_call>", "</tool_call>", "<", CALL, "a", "\n", "{", "中"]
        )
    ),
    st.data(),
)
def test_the_cuts_do_not_matter(what, atoms, data):
    text = "".join(atoms)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert found(take_apart(what, pieces)) == found(take_apart(what, [text]))


@pytest.mark.parametrize("text", ["<tool_call>" + CALL, "<tool_call>" + CALL[:-3]])
def test_a_call_the_limit_cut_is_none(text):
    parser = take_apart(QWEN, [text], cut=True)
    assert parser.calls == []
    assert parser.text == text


def test_text_appears_at_once():
    parser = MarkupParser(THINKER)
    assert parser.feed("<th") == []  # it may begin a tag
    for piece in ("a ", "<", "b\n", "c"):
        assert [part.text for part in parser.feed(piece)][-1].endswith(piece)
    assert [part.text for part in MarkupParser(THINKER).feed("<think>so")] == ["so"]


def test_a_prompt_may_open_the_thinking():
    assert markup.thinking_is_open("<|im_start|>assistant\n<think>\n")
    assert not markup.thinking_is_open("<think>\n\n</think>\n\n")
    assert found(take_apart(THINKER, ["so\n</think>\n\nYes"], thinking=True)) == ("so", "Yes", [], 0)


def test_tokens_of_thinking_are_counted():
    pieces = [b"<think>", b"\nso", b"</thi", b"nk>", b"\n\n", b"Yes"]
    assert markup.count_thinking(pieces) == 4
    assert markup.count_thinking(pieces[1:], thinking=True) == 3
    assert markup.count_thinking([b"no ", b"<think>"]) == 0
    assert markup.count_thinking(pieces[:2]) == 2


def test_tags_that_are_control_tokens_get_their_text():
    class Controlling(ScriptedSession):
        def tokenize(self, text, *, special=True, add_bos=False):
            return [256] if text == "<think>" and special else super().tokenize(text)

    session = Controlling(b"x")
    spelt = markup.spelled(session, THINKER)
    assert (spelt.piece(256), spelt.piece(65)) == (b"<think>", b"A")
    assert spelt.tokens is session.tokens
    assert markup.spelled(session, Markup()) is session
