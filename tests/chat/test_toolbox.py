"""Tools that the chat offers: a file's functions as schemas, MCP servers by the official SDK, calls checked and run.

Authorities: `jsonschema` for the schemas, and a server of our own written with the SDK (mcp_server.py).
"""

import json
import sys
import textwrap

import jsonschema
import pytest
from places import HELPERS

from edgellm.chat.tools import functions, mcp, opening
from edgellm.errors import EngineError, UsageError
from edgellm.prompt.tools import ToolCall

FILE = '''
import dataclasses
from typing import Annotated, Literal, Optional

_factor = 2


async def weather(city: str, unit: Literal["C", "F"] = "C", days: Optional[int] = None) -> dict:
    """Say the weather.

    Over several lines.

    Args:
        city: Where, e.g. Paris.
        unit (str): Of degrees.
    """
    return {"city": city, "unit": unit}


def mean(numbers: list[float], label: Annotated[str, "What it is of."] = "") -> float:
    return sum(numbers) / len(numbers)


def _private(x): ...
'''
SERVER = f"{sys.executable} {HELPERS / 'mcp_server.py'}"


@pytest.fixture
def file(tmp_path):
    def write(text: str):
        path = tmp_path / "mine.py"
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="module")
def servers():
    box = opening.opened((), [SERVER])
    yield box
    box.close()


def test_a_files_functions_become_schemas_that_say_what_may_be_given(file):
    weather, mean = functions.load(file(FILE))
    assert (weather.name, weather.description) == ("weather", "Say the weather. Over several lines.")
    for tool in (weather, mean):
        jsonschema.Draft202012Validator.check_schema(tool.parameters)
    right = jsonschema.Draft202012Validator(weather.parameters)
    assert right.is_valid({"city": "Paris", "unit": "F", "days": 3})
    for wrong in (
        {},
        {"city": 1},
        {"city": "x", "unit": "K"},
        {"city": "x", "days": "3"},
        {"city": "x", "y": 1},
    ):
        assert not right.is_valid(wrong)
    assert weather.parameters["properties"]["city"]["description"] == "Where, e.g. Paris."
    assert weather.parameters["properties"]["unit"]["description"] == "Of degrees."
    assert mean.parameters["properties"]["label"] == {"type": "string", "description": "What it is of."}


def test_calls_are_checked_and_run_and_errors_are_words_for_the_model(file):
    box = opening.opened([file(FILE)], ())

    def result(name: str, **arguments: object) -> str:
        call = ToolCall(name, arguments)
        return box.problem(call) or box.run(call)

    assert json.loads(result("weather", city="巴黎")) == {"city": "巴黎", "unit": "C"}
    assert result("mean", numbers=[1, 2]) == "1.5"
    assert result("mean", numbers=[]) == "error: ZeroDivisionError: division by zero"
    assert result("mean") == "error: mean needs numbers"
    assert "must be of type array, not 'x'" in result("mean", numbers="x")
    assert "has no parameter y; it takes: numbers, label" in result("mean", numbers=[1], y=2)
    assert result("_private") == "error: there is no tool _private; there are: weather, mean"


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("1 / 0", "cannot be run: ZeroDivisionError"),
        ("x = 1", "has no function to offer"),
        ("def f(a): ...", r"f\(a\) has no type hint"),
        ("def f(*a: int): ...", r"f\(a\) has no type hint"),
        ("def f(a: bytes): ...", r"f\(a\) is of type bytes, which JSON has not"),
    ],
)
def test_a_file_that_offers_nothing_usable_is_refused_with_the_reason(file, text, fact):
    with pytest.raises(UsageError, match=fact):
        functions.load(file(text))


def test_two_tools_of_one_name_are_refused(file):
    path = file("def f(): ...")
    with pytest.raises(UsageError, match="two tools have one name: f"):
        opening.opened([path, path], ())


def test_an_mcp_server_is_asked_and_answers(servers):
    assert servers.names == ["add", "fail", "picture"]
    assert servers.run(ToolCall("add", {"a": 2, "b": 40})) == "42"
    assert servers.run(ToolCall("fail", {"why": "no reason"})).startswith("error: ")
    assert "(image, which cannot be read as text)" in servers.run(ToolCall("picture", {}))
    assert servers.problem(ToolCall("add", {"a": 1})) == "error: add needs b"


def test_servers_are_named_as_other_clients_do(tmp_path):
    path = tmp_path / "config.json"
    one = {"command": "uvx", "args": ["x"], "env": {"KEY": "v"}}
    path.write_text(json.dumps({"mcpServers": {"a": one, "b": {"url": "http://127.0.0.1:1/mcp"}}}))
    a, b = mcp.named(str(path))
    assert (a.name, a.command, a.args, a.env, b.url) == (
        "a",
        "uvx",
        ("x",),
        {"KEY": "v"},
        "http://127.0.0.1:1/mcp",
    )
    (line,) = mcp.named("npx -y 'a server'")
    assert (line.command, line.args) == ("npx", ("-y", "a server"))
    path.write_text("{}")
    with pytest.raises(UsageError, match="no mcpServers"):
        mcp.named(str(path))


def test_a_server_that_does_not_start_is_one_line():
    with pytest.raises(EngineError, match=r"the MCP server .* does not start: .*no such server"):
        opening.opened((), [f"{sys.executable} -c \"raise SystemExit('no such server')\""])
