"""Thinking and tool calls over sockets, with a template of our own on a bundled model, which knows neither.

That a call is made is the grammar's work; that thinking is told apart, the template's, which opens it.
"""

import json

import jsonschema
import pytest
import serving
import thinker

pytest.importorskip("llguidance")

WEATHER = {
    "type": "object",
    "properties": {
        "city": {"enum": ["Rome", "Oslo"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 7},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "Of a city.", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "stop", "parameters": {"type": "object", "properties": {}}}},
]
ASKED = [{"role": "user", "content": "What is the capital of France?"}]
PATH = "/v1/chat/completions"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = thinker.made(tmp_path_factory.mktemp("models"))
    with serving.served(folder) as running:
        yield running


def deltas(said):
    assert said.status == 200 and said.events[-1] == "[DONE]"
    return [choice["delta"] for chunk in said.events[:-1] for choice in chunk["choices"]]


def test_thinking_is_told_apart(server):
    asked = {"messages": ASKED, "temperature": 0, "max_tokens": 12}
    message = server.post(PATH, **asked).json["choices"][0]["message"]
    assert message["reasoning_content"] and not message["content"]
    streamed = deltas(server.post(PATH, **asked, stream=True))
    assert "".join(d.get("reasoning_content", "") for d in streamed) == message["reasoning_content"]
    assert not any(d.get("content") for d in streamed)


@pytest.mark.parametrize(
    "more",
    [{"chat_template_kwargs": {"enable_thinking": False}}, {"reasoning_effort": "none"}],
    ids=lambda m: next(iter(m)),
)
def test_thinking_is_left_out_where_that_is_asked_for(server, more):
    answer = server.post(PATH, messages=ASKED, temperature=0, max_tokens=12, **more).json
    message = answer["choices"][0]["message"]
    assert message["content"] and "reasoning_content" not in message
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0


def test_tokens_of_thinking_are_counted(server):
    answer = server.post(PATH, messages=ASKED, temperature=0, max_tokens=12).json
    usage = answer["usage"]
    assert 0 < usage["completion_tokens_details"]["reasoning_tokens"] <= usage["completion_tokens"]


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_calls_stream_as_they_are_written(server, choice):
    asked = {"messages": ASKED, "tools": TOOLS, "tool_choice": choice, "max_tokens": 80, "exact": True}
    for seed in range(3):
        whole = server.post(PATH, **asked, seed=seed).json["choices"][0]
        (call,) = whole["message"]["tool_calls"]
        assert whole["finish_reason"] == "tool_calls" and whole["message"]["content"] is None
        arguments = json.loads(call["function"]["arguments"])
        if call["function"]["name"] == "weather":
            jsonschema.validate(arguments, WEATHER)
        parts = [
            d["tool_calls"][0]
            for d in deltas(server.post(PATH, **asked, seed=seed, stream=True))
            if "tool_calls" in d
        ]
        assert parts[0]["function"]["name"] == call["function"]["name"] and parts[0]["id"]
        assert all(part["index"] == 0 and "id" not in part for part in parts[1:])
        assert json.loads("".join(part["function"]["arguments"] for part in parts)) == arguments


def test_a_call_and_its_result_go_back(server):
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    messages = [
        *ASKED,
        {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    ]
    prompt = server.post("/apply-template", messages=messages, tools=TOOLS).json["prompt"]
    assert '"city": "Rome"' in prompt and "sunny" in prompt and "Of a city." in prompt
    assert server.post(PATH, messages=messages, tools=TOOLS, max_tokens=5).status == 200


def test_no_tool_is_called_where_none_may_be(server):
    said = server.post(
        PATH, messages=ASKED, tools=TOOLS, tool_choice="none", temperature=0, max_tokens=20
    ).json
    message = said["choices"][0]["message"]
    assert "tool_calls" not in message
    said = server.post(
        PATH, messages=ASKED, tools=TOOLS, tool_choice={"type": "function", "function": {"name": "x"}}
    )
    assert said.status == 400 and "weather" in said.json["error"]["message"]
