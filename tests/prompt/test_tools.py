"""Tool calls out of what models write: the good ones structured, all else refused without an exception."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgellm.errors import UsageError
from edgellm.prompt import tools

KNOWN = frozenset({"get_weather", "python"})
DEEP = "[" * 100_000
GOOD = '{"name": "get_weather", "arguments": {"city": "北京", "days": 3}}'


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"\n{GOOD}\n",
        '{"name": "get_weather", "parameters": {"city": "北京", "days": 3}}',
        '{"type": "function", "function": {"name": "get_weather", "arguments": {"city": "北京", "days": 3}}}',
        json.dumps({"name": "get_weather", "arguments": '{"city": "北京", "days": 3}'}),
    ],
)
def test_a_block_gives_a_call(text):
    call = tools.parse_block(text)
    assert (call.name, call.arguments) == ("get_weather", {"city": "北京", "days": 3})
    assert call.id.startswith("call_")
    assert call.id != tools.parse_block(text).id


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "[]",
        "7",
        "{}",
        '{"name": 7}',
        '{"name": ""}',
        '{"name": "f", "arguments": [1]}',
        '{"name": "f", "arguments": "not json"}',
        '{"name": "f", "arguments": "[1]"}',
        '{"name": "f", "arguments": {"x": NaN}}',
        '{"name": "f", "arguments": {"x": 1}',
        GOOD + GOOD,
        DEEP,
        '{"name": "f", "arguments": ' + DEEP,
        '{"a":' * 100_000,
        '{"name": "f", "arguments": {"x": ' + "9" * 10_000 + "}}",
    ],
)
def test_what_is_no_call_gives_none(text):
    assert tools.parse_block(text) is None


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ('{"name": "get_weather", "parameters": {"city": "a"}}', [{"city": "a"}]),
        ('{"name": "get_weather", "parameters": {"n": 1}}; {"name": "get_weather", "parameters": {"n": 2}}',
         [{"n": 1}, {"n": 2}]),
        ('[{"name": "get_weather", "parameters": {"n": 1}}, {"name": "get_weather", "parameters": {}}]',
         [{"n": 1}, {}]),
        ('get_weather.call(city="a, b", days=3)', [{"city": "a, b", "days": 3}]),
        ('{"name": "delete_all", "parameters": {}}', []),  # nobody offered that
        ('{"name": "get_weather", "parameters": {}} and more', []),
        ('{"city": "a"}', []),
        ('get_weather.call(open("x"))', []),
        ('get_weather.call(city=open("x"))', []),
        ('get_weather.call(**{"a": 1})', []),
        ('get_weather.call(x={1, 2})', []),
        ("get_weather.call(x=" + "(" * 10_000 + ")" * 10_000 + ")", []),
        ("plain text", []), ("", []), (DEEP, []),
    ],
)  # fmt: skip
def test_a_llama_answer_is_calls_or_is_none(text, arguments):
    assert [call.arguments for call in tools.parse_answer(text, KNOWN)] == arguments


def test_code_after_the_python_tag_is_a_call_where_somebody_runs_code():
    assert tools.parse_code("print(1)", KNOWN).arguments == {"code": "print(1)"}
    assert tools.parse_code("print(1)", frozenset({"get_weather"})) is None
    assert tools.parse_code("  ", KNOWN) is None


_KEYS = st.sampled_from(["name", "arguments", "parameters", "x"])
_SCALARS = st.none() | st.booleans() | st.text(max_size=5) | st.floats()
_JSON = st.recursive(_SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(_KEYS, v, max_size=3))


@given(st.text(max_size=60) | _JSON.map(json.dumps))
def test_no_text_raises(text):
    call = tools.parse_block(text)
    assert call is None or isinstance(call.arguments, dict)
    assert all(isinstance(call.name, str) for call in tools.parse_answer(text, KNOWN))


@pytest.mark.parametrize("wrong", [{}, {"function": {}}, {"name": 3}, "get_weather", {"function": "f"}])
def test_a_tool_in_another_form_is_refused(wrong):
    with pytest.raises(UsageError, match="a tool must be"):
        tools.names([wrong])
