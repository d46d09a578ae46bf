"""Calls told while they are written: the same calls, text and thinking as the whole answer gives, however it is cut.

The authorities are the parser that waits for whole calls, Python's `json`, and `jiter`, with which a well-known client
reads the arguments after every piece.
"""

import itertools
import json

import jiter
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgellm.prompt import tools
from edgellm.prompt.call_stream import Arguments, NoJson
from edgellm.prompt.markup import Markup, MarkupParser, Part


def tool(name: str, **properties):
    parameters = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = (tool("write", path={"type": "string"}), tool("write_all"), tool("python"))
QWEN = Markup.of("<think></think><tool_call>", TOOLS)
LLAMA = Markup.of("<|start_header_id|>", TOOLS)
XML = "<function=write>\n<parameter=path>\na.txt\n</parameter>\n</function>"


class Streamed:
    """What came of an answer that was streamed, checked piece by piece."""

    def __init__(self, what: Markup, pieces: list[str], *, thinking: bool = False, cut: bool = False) -> None:
        parser = MarkupParser(what, thinking=thinking, stream_calls=True)
        self.steps = [parser.feed(piece) for piece in pieces] + [parser.finish(cut=cut)]
        self.text, self.thinking, self.malformed = parser.text, parser.thinking, parser.malformed
        self.calls = [(call.name, call.arguments) for call in parser.calls]
        self.told: list[tuple[str, str, bool]] = []  # name, arguments as told, whether they are whole
        parts = [part for step in self.steps for part in step]
        while parts:
            part = parts.pop(0)
            if part.kind == "call":
                self._follow(part, parts)
            else:
                assert part.kind in ("text", "thinking") and part.text
        whole = [(name, json.loads(arguments)) for name, arguments, ended in self.told if ended]
        assert whole == self.calls

    def _follow(self, first: Part, parts: list[Part]) -> None:
        assert first.call and first.call.arguments == {}
        told = ""
        while (part := parts.pop(0)).kind == "arguments":
            assert part.text and part.call == first.call
            told += part.text
            told.encode()
            jiter.from_json(told.encode(), partial_mode="trailing-strings")
        assert part.kind == "end"
        assert part.call is None or (part.call.id, part.call.name) == (first.call.id, first.call.name)
        self.told.append((first.call.name, told, part.call is not None))


def whole(what: Markup, text: str, *, cut: bool = False) -> tuple:
    parser = MarkupParser(what)
    parser.feed(text)
    parser.finish(cut=cut)
    return parser.text, parser.thinking, [(call.name, call.arguments) for call in parser.calls]


def pieces_of(text: str, cuts: list[int]) -> list[str]:
    at = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(at)]


texts = st.text(st.sampled_from('ab"\\/\n\t{}[]:,<>中🎉é\x01 ')) | st.just("</tool>")
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def json_calls(draw, words=("arguments", "parameters")) -> str:
    name, word = draw(st.sampled_from(["write", "write_all"])), draw(st.sampled_from(words))
    members = [("name", name), (word, draw(st.dictionaries(texts, values, max_size=3)))]
    extra = draw(st.sampled_from([None, ("type", "function"), ("id", "call_1"), ("id", -1.5e3)]))
    members = draw(st.permutations([*members, extra] if extra else members))
    style = draw(st.sampled_from([{}, {"indent": 2}, {"separators": (",", ":")}]))
    call = json.dumps(dict(members), ensure_ascii=draw(st.booleans()), **style)
    return call if draw(st.booleans()) else f'{{"type": "function", "function": {call}}}'


@st.composite
def answers(draw, what: str) -> str:
    blanks = st.sampled_from(["", "\n", " ", "\n\n"])
    forms = json_calls() | st.just(XML)
    before = draw(st.sampled_from(["", "Let me see.", "Ünïcode 中文: a < b.\n"]))
    if what == "qwen":
        before = draw(st.sampled_from(["", "<think>\nWhich <tool_call>?\n</think>\n\n"])) + before
        calls = [
            f"<tool_call>{draw(blanks)}{one}{draw(blanks)}</tool_call>"
            for one in draw(st.lists(forms, max_size=3))
        ]
        return before + draw(blanks) + draw(blanks).join(calls) + draw(st.sampled_from(["", "\nDone."]))
    calls = draw(st.lists(json_calls(), min_size=1, max_size=3))
    tag = draw(st.sampled_from(["", "<|python_tag|>"]))
    if draw(st.booleans()):
        return tag + draw(blanks) + draw(st.sampled_from(["; ", "\n", ";"])).join(calls) + draw(blanks)
    other = ["write.call(path='a')", "[write(path='a'), write_all()]", "print(1)", f"[{', '.join(calls)}]"]
    return tag + draw(st.sampled_from(other))


cuts = st.lists(st.integers(0, 500), max_size=40)


@given(answers("qwen"), cuts)
def test_qwens_calls_are_those_of_the_whole_answer(text, at):
    found = Streamed(QWEN, pieces_of(text, at))
    assert (found.text, found.thinking, found.calls) == whole(QWEN, text)
    assert found.malformed == []


@given(answers("llama"), cuts)
def test_llamas_calls_are_those_of_the_whole_answer(text, at):
    found = Streamed(LLAMA, pieces_of(text, at))
    assert (found.text, found.thinking, found.calls) == whole(LLAMA, text)


_ATOMS = ['{"name": "write", "arguments": ', '{"name": "write_all", "parameters": {', '"name": "write"', "{", "}", "[",
          "]", '"', "\\", "\\u12", "\\ud83d", "\\ude00", "12", "-", "1e5", "tru", "e", ":", ",", "<tool_call>", "\n",
          "</tool_call>", "<|python_tag|>", "<think>", "</think>", "中", " ", "a", ";", XML, "```json\n",
          "\n```"]  # fmt: skip


@given(st.sampled_from([QWEN, LLAMA]), st.lists(st.sampled_from(_ATOMS), max_size=14), cuts, st.booleans())
def test_however_it_is_cut_the_same_is_told_of_any_text(what, atoms, at, cut):
    text = "".join(atoms)
    found, at_once = Streamed(what, pieces_of(text, at), cut=cut), Streamed(what, [text], cut=cut)
    assert (found.text, found.thinking, found.told) == (at_once.text, at_once.thinking, at_once.told)
    assert found.malformed == at_once.malformed


@given(st.text(st.sampled_from('{}[]",:\\u0dc8a1-+.eE tfn\n\x01中')) | values.map(json.dumps), cuts)
def test_arguments_end_where_json_ends(text, at):
    text = '{"a": ' + text
    try:
        end = json.JSONDecoder().raw_decode(text)[1]
        jiter.from_json(text[:end].encode())  # half a surrogate pair is JSON for Python only
    except ValueError:
        end = None
    reading, held, n_read = Arguments(), "", 0
    try:
        for piece in pieces_of(text, at):
            held += piece
            while not reading.complete and (n := reading.read(held)):
                n_read, held = n_read + n, held[n:]
    except NoJson as fault:
        n_read += fault.n_read
    assert reading.complete == (end is not None)
    assert n_read == end or end is None
    jiter.from_json(text[:n_read].encode(), partial_mode=True)


def test_the_name_comes_when_the_arguments_open_and_then_they_flow():
    parser = MarkupParser(QWEN, stream_calls=True)
    assert parser.feed('<tool_call>\n{"name": "write", "arguments": ') == []
    call, opening = parser.feed("{")
    assert (call.kind, call.call and call.call.name, opening.text) == ("call", "write", "{")
    for piece in ('"path": "/ho', "me/中", '", "n": [1, '):
        assert [(part.kind, part.text) for part in parser.feed(piece)] == [("arguments", piece)]
    assert parser.calls == []
    assert [part.kind for part in parser.feed("2]}")] == ["arguments", "end"]
    assert [call.arguments for call in parser.calls] == [{"path": "/home/中", "n": [1, 2]}]
    assert parser.feed("}\n</tool_call>") == []


def test_escapes_and_numbers_are_not_divided():
    parser = MarkupParser(LLAMA, stream_calls=True)
    told = []
    for piece in (
        '{"name": "write", "parameters": {"x": "a\\',
        "u00",
        "e9 \\ud83d",
        "\\ude00",
        '", "n": 1',
        "2}}",
    ):
        told.append("".join(part.text for part in parser.feed(piece)))
    assert told == ['{"x": "a', "", "\\u00e9 ", "\\ud83d\\ude00", '", "n": ', "12}"]


CUT = [  # written, the arguments told, and the text beside them
    ('<tool_call>{"name": "write", "arguments": {"path": "a', '{"path": "a', ""),
    ('<tool_call>{"name": "write", "arguments": {"path": 12', '{"path": ', ""),
    ('<tool_call>{"name": "write", "argu', None, '<tool_call>{"name": "write", "argu'),
    ('<tool_call>{"arguments": {}, "name": "write"', None, '<tool_call>{"arguments": {}, "name": "write"'),
]  # fmt: skip


@pytest.mark.parametrize(("text", "arguments", "rest"), CUT)
def test_a_call_that_was_cut_stays_a_beginning_of_json(text, arguments, rest):
    found = Streamed(QWEN, list(text), cut=True)
    assert found.told == ([("write", arguments, False)] if arguments else [])
    assert (found.calls, found.text) == ([], rest)
    assert len(found.malformed) == 1


FAULTS = {  # written -> arguments told, whether they are a call's, the text after them
    '{"name": "write", "arguments": {"path": oops}}': ('{"path": ', False, "oops}}"),
    '{"name": "write", "arguments": {"path": "a\nb"}}': ('{"path": "a', False, '\nb"}}'),
    '{"name": "write", "arguments": {"path": "a",}}': ('{"path": "a",', False, "}}"),
    '{"name": "write", "arguments": {"path": "a"}': ('{"path": "a"}', True, ""),
    '{"name": "write", "arguments": {"path": "a"}, oops}': ('{"path": "a"}', True, "oops}"),
    '{"name": "write", "arguments": {"path": "a"}} is a call.': ('{"path": "a"}', True, "is a call."),
    '{"name": "write", "arguments": {}, "name": "write_all"}': ("{}", True, ""),
    '{"name": "write", "parameters": {}, "arguments": {"path": "a"}}': ("{}", True, ""),
}


@pytest.mark.parametrize("text", FAULTS)
@pytest.mark.parametrize("size", [1, 4, 1000])
def test_what_was_told_stays_told_and_what_follows_a_fault_is_text(text, size):
    arguments, is_call, rest = FAULTS[text]
    found = Streamed(LLAMA, pieces_of(text, list(range(0, len(text), size))))
    assert (found.told, found.text) == ([("write", arguments, is_call)], rest)


def test_a_missing_brace_before_the_tag_costs_nothing():
    found = Streamed(QWEN, ['<tool_call>{"name": "write", "arguments": {"path": "a"}</tool_call>'])
    assert (found.calls, found.text) == ([("write", {"path": "a"})], "")


def test_the_tags_text_may_stand_in_an_argument():
    found = Streamed(
        QWEN, list('<tool_call>{"name": "write", "arguments": {"path": "</tool_call>"}}</tool_call>')
    )
    assert (found.calls, found.text) == ([("write", {"path": "</tool_call>"})], "")


@pytest.mark.parametrize("name", ["Bob", "writ", "write_"])
def test_a_name_that_no_tool_has_is_not_told_before_the_whole_is_there(name):
    call = f'{{"name": "{name}", "arguments": {{"path": "a"}}}}'
    assert (Streamed(LLAMA, list(call)).told, Streamed(LLAMA, list(call)).text) == ([], call)
    tagged = Streamed(QWEN, list(f"<tool_call>{call}</tool_call>"))
    assert tagged.calls == [(name, {"path": "a"})]
    assert [part.kind for part in tagged.steps[-2]] == ["call", "arguments", "end"]


def test_half_a_surrogate_pair_is_no_character():
    call = '{"name": "write", "arguments": {"x": "\\ud83d"}}'
    assert Streamed(LLAMA, [call]).told == [("write", '{"x": "', False)]
    (whole,) = tools.parse_answer(call, frozenset({"write"}))
    assert whole.arguments_json() == '{"x": "\N{REPLACEMENT CHARACTER}"}'


def test_long_arguments_take_time_in_proportion():
    parser = MarkupParser(QWEN, stream_calls=True)
    parser.feed('<tool_call>{"name": "write", "arguments": {"path": "')
    assert all(len(parser.feed("line \\n")) == 1 for _ in range(20_000))  # quadratic, this would take minutes
    assert [part.kind for part in parser.feed('"}}</tool_call>')] == ["arguments", "end"]
    assert len(parser.calls[0].arguments["path"]) == 120_000
