"""Tool calls in the forms that models write without or against their template, told from text while they stream.

The first two answers of `WRITTEN` are what Qwen2.5-Coder-0.5B-Instruct (Q4_K_M, greedy) wrote when asked for the
weather and for a sum; the XML is Qwen3-Coder's, the list in brackets Llama 3.2's as Meta's prompt format has it.
The slow test holds parsing against the models' own templates.
"""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgellm.prompt.call_syntax import coerced
from edgellm.prompt.markup import Markup, MarkupParser
from edgellm.prompt.messages import Message, for_template
from edgellm.prompt.template import ChatTemplate
from edgellm.prompt.tools import ToolCall


def tool(name: str, **properties):
    parameters = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = (
    tool("get_weather", city={"type": "string"}, unit={"enum": ["C", "F"]}),
    tool("add", a={"type": "number"}, b={"type": "number"}),
)
QWEN = Markup.of("<think></think><tool_call>", TOOLS)
LLAMA = Markup.of("<|start_header_id|>", TOOLS)
ROME = ("get_weather", {"city": "Rome", "unit": "C"})
SUM = ("add", {"a": 2, "b": 3})
ROME_JSON = '{"name": "get_weather", "arguments": {"city": "Rome", "unit": "C"}}'
SUM_JSON = '{"name": "add", "parameters": {"a": 2, "b": 3}}'
ROME_XML = (
    "<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n"
    "<parameter=unit>\nC\n</parameter>\n</function>"
)
SUM_XML = "<function=add><parameter=a>2</parameter><parameter=b>3</parameter></function>"
FENCED = '```json\n{\n  "name": "get_weather",\n  "arguments": {\n    "city": "Rome",\n    "unit": "C"\n  }\n}\n```'

#: what is written -> the text, the calls
WRITTEN = {
    "fenced": (FENCED, "", [ROME]),
    "bare": (SUM_JSON, "", [SUM]),
    "words, then a fence": (f"Of course:\n\n{FENCED}\nDone.", "Of course:Done.", [ROME]),
    "words, then bare": (f"Of course.\n{ROME_JSON}", "Of course.", [ROME]),
    "a fence without a name": (f"```\n{ROME_JSON}\n```", "", [ROME]),
    "a fence without an end": (f"```json\n{ROME_JSON}", "", [ROME]),
    "tags in a fence": (f"```xml\n<tool_call>{ROME_JSON}</tool_call>\n```", "", [ROME]),
    "two": (f"{ROME_JSON}\n{SUM_JSON}", "", [ROME, SUM]),
    "a list": (f"[{ROME_JSON}, {SUM_JSON}]", "", [ROME, SUM]),
    "semicolons": (f"{ROME_JSON}; {SUM_JSON}", "", [ROME, SUM]),
    "OpenAI's": (f'{{"type": "function", "function": {SUM_JSON}}}', "", [SUM]),
    "XML": (f"<tool_call>\n{ROME_XML}\n</tool_call>", "", [ROME]),
    "XML after words": (f"I look.\n<tool_call>\n{ROME_XML}\n</tool_call>", "I look.", [ROME]),
    "XML without its tag": (f"I look.\n{ROME_XML}\n</tool_call>", "I look.", [ROME]),
    "XML twice": (f"{ROME_XML}\n{SUM_XML}", "", [ROME, SUM]),
    "numbers in XML": (f"<tool_call>{SUM_XML}</tool_call>", "", [SUM]),
    "JSON in a function": ('<function=add>{"a": 2, "b": 3}</function>', "", [SUM]),
    "pythonic": ("[get_weather(city='Rome', unit=\"C\"), add(a=2, b=3)]", "", [ROME, SUM]),
    "Llama's tag": (f"<|python_tag|>{ROME_JSON}", "", [ROME]),
    "Llama's tag, pythonic": ("<|python_tag|>[add(a=2, b=3)]", "", [SUM]),
}  # fmt: skip

#: what is none, and stays as it is written
TEXTS = [
    '{"name": "Bob", "age": 3}',
    '```json\n{"name": "Bob", "arguments": {}}\n```\nAnd so on.',
    "Use it so:\n```python\nprint([1, 2])\n```\n\nThat is all.",
    f"You would write {ROME_JSON} to call it.",
    f"{ROME_JSON} is how one calls it.",
    '{"name": "delete_all", "arguments": {}}',
    "[1, 2, 3]",
    "[get_weather]",
    "[delete_all(x=1)]",
    "[get_weather('Rome')]",
    "[get_weather(city=open('x'))]",
    "<function=delete_all><parameter=x>1</parameter></function>",
    "a < b, <function> and ``` alone",
    '{"name": "get_weather", "arguments": {"city": ',
    "```",
    "[link](https://example.com)\n\n[1]: note\n",
    "x = {\n    'a': [\n        1,\n    ],\n}\n",
]  # fmt: skip


def taken_apart(what: Markup, text: str, size: int, *, cut: bool = False) -> MarkupParser:
    parser = MarkupParser(what)
    parts = [part for i in range(0, len(text), size) for part in parser.feed(text[i : i + size])]
    parts += parser.finish(cut=cut)
    assert "".join(part.text for part in parts if part.kind == "text") == parser.text
    assert [part.call for part in parts if part.kind == "call"] == parser.calls
    return parser


@pytest.mark.parametrize("size", [1, 3, 7, 10_000])
@pytest.mark.parametrize("what", [QWEN, LLAMA], ids=["qwen", "llama"])
@pytest.mark.parametrize("name", WRITTEN)
def test_every_habit_is_recognised(name, what, size):
    written, text, calls = WRITTEN[name]
    parser = taken_apart(what, written, size)
    assert [(call.name, call.arguments) for call in parser.calls] == calls
    assert (parser.text, parser.malformed) == (text, [])


@pytest.mark.parametrize("name", WRITTEN)
def test_without_tools_all_of_it_is_text(name):
    written = WRITTEN[name][0]
    parser = taken_apart(Markup.of("<think></think><tool_call>"), written, 3)
    assert (parser.text, parser.calls) == (written, [])


@pytest.mark.parametrize("size", [1, 3, 10_000])
@pytest.mark.parametrize("what", [QWEN, LLAMA], ids=["qwen", "llama"])
@pytest.mark.parametrize("text", TEXTS)
def test_what_is_no_call_is_left_as_it_is(text, what, size):
    parser = taken_apart(what, text, size)
    assert (parser.text, parser.calls, parser.malformed) == (text, [], [])


@pytest.mark.parametrize("name", ["fenced", "bare", "XML", "pythonic"])
def test_a_call_that_was_cut_is_none(name):
    written = WRITTEN[name][0]
    parser = taken_apart(QWEN, written[:-5], 3, cut=True)
    assert (parser.text, parser.calls) == (written[:-5], [])


def test_text_is_not_held_back_for_a_call_that_it_cannot_be():
    parser = MarkupParser(QWEN)
    assert "".join(p.text for p in parser.feed('```json\n{"city": "Ro')) == '```json\n{"city": "Ro'
    assert "".join(p.text for p in parser.feed('me"}\n[1, 2')) == 'me"}\n[1, 2'


_PIECES = ["```", "json", "\n", "{", "}", "[", "]", ROME_JSON, ROME_XML, "<tool_call>", "</tool_call>", "<function=",
           "add", "(", ")", "a=1", '"name"', ":", " ", ";", "中", "<|python_tag|>", "</think>", "<think>"]  # fmt: skip


@given(
    st.sampled_from([QWEN, LLAMA]),
    st.lists(st.sampled_from(_PIECES), max_size=12),
    st.integers(1, 9),
    st.booleans(),
)
def test_however_it_is_cut_the_same_is_found(what, pieces, size, cut):
    text = "".join(pieces)
    found, whole = taken_apart(what, text, size, cut=cut), taken_apart(what, text, 10_000, cut=cut)
    assert found.text == whole.text
    assert [(c.name, c.arguments) for c in found.calls] == [(c.name, c.arguments) for c in whole.calls]


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("\nRome\n", {"type": "string"}, "Rome"),
        ("3", {"type": "string"}, "3"),
        ("3", {"type": "integer"}, 3),
        ("3.0", {"type": "integer"}, 3),
        ("3.5", {"type": "number"}, 3.5),
        ("True", {"type": "boolean"}, True),
        ("null", {"type": ["string", "null"]}, None),
        ("3", {"anyOf": [{"type": "integer"}, {"type": "null"}]}, 3),
        ('\n{"a": [1]}\n', {"type": "object"}, {"a": [1]}),
        ("[1, 2]", {"type": "array"}, [1, 2]),
        ("three", {"type": "integer"}, "three"),
        ("NaN", {"type": "number"}, "NaN"),
        ("C", {"enum": ["C", "F"]}, "C"),
        ("3", {}, 3),
        ("Rome", {}, "Rome"),
        ("line one\n\nline two\n", {"type": "string"}, "line one\n\nline two"),
    ],
)
def test_xml_parameters_have_the_types_of_the_schema(text, schema, value):
    found = coerced(text, schema)
    assert found == value and type(found) is type(value)


_FOLDERS = sorted(Path(os.environ.get("EDGELLM_CHECKPOINTS", "/nonexistent")).glob("*/tokenizer_config.json"))


@pytest.mark.slow
@pytest.mark.parametrize("folder", _FOLDERS, ids=lambda path: path.parent.name)
def test_what_a_models_own_template_writes_for_a_call_is_that_call(folder):
    """Needs real tokenizer files (never committed): EDGELLM_CHECKPOINTS=DIR pytest -m slow <this file>."""
    template = ChatTemplate(json.loads(folder.read_text(encoding="utf-8"))["chat_template"])
    call = ToolCall("get_weather", {"city": "北京 <b>", "days": 3, "deep": {"x": [1, None, True]}}, "call_1")
    asked = [Message("user", "天气?")]
    answered = [*asked, Message("assistant", "", calls=(call,))]
    before, after = (
        template.render(
            for_template(said, str, one_call_each=True), add_generation_prompt=prompt, tools=TOOLS
        )
        for said, prompt in ((asked, True), (answered, False))
    )
    same = [a == b for a, b in zip(before, after, strict=False)]
    written = (
        after[(same.index(False) if False in same else len(same)) :]
        .split("<|im_end|>")[0]
        .split("<|eot_id|>")[0]
    )
    parser = taken_apart(Markup.of(template.source, TOOLS), written.replace("<think>\n\n</think>\n\n", ""), 4)
    assert [(c.name, c.arguments) for c in parser.calls] == [(call.name, call.arguments)]
