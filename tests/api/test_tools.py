"""Tools, thinking and OpenAI's messages through the Python API, on a scripted model."""

import json

import pytest
from chat_fakes import ChatMl, ChatSession

from edgellm.api.model import Model
from edgellm.errors import UsageError
from edgellm.prompt import openai

ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CALL = b'<tool_call>{"name": "add", "arguments": {"a": 2, "b": 3}}</tool_call>'
QUESTION = {"role": "user", "content": "2 + 3?"}
ANSWER = {"role": "assistant", "content": "5"}


class QwenLike(ChatMl):
    """A template that says what it has a place for."""

    source = "<tool_call> </think> enable_thinking tools"


def model(*answers: bytes) -> Model:
    return Model(ChatSession(*answers), QwenLike())


def test_a_call_is_told_apart_and_its_result_goes_back():
    opened = model(CALL, b"5")
    asked = opened.complete([QUESTION], tools=[ADD])
    (call,) = asked.calls
    assert (asked.text, asked.finish_reason, call.name) == ("", "tool_calls", "add")
    assert json.loads(asked.message["tool_calls"][0]["function"]["arguments"]) == {"a": 2, "b": 3}
    result = {"role": "tool", "content": "5", "tool_call_id": call.id}
    assert opened.complete([QUESTION, asked.message, result], tools=[ADD]).text == "5"


def test_a_chat_waits_for_results():
    chat = model(CALL, b"It is 5.").chat(tools=[ADD])
    assert chat.ask("2 + 3?").answer.finish_reason == "tool_calls"
    (call,) = chat.pending
    assert chat.respond({call.id: "5"}).text == "It is 5."
    assert [m["role"] for m in chat.messages] == ["user", "assistant", "tool", "assistant"]
    assert chat.edit("2 + 3, please?").text == "It is 5."
    assert len(chat.messages) == 2


def test_thinking_is_apart_and_not_seen_later():
    opened = model(b"<think>Easy.</think>\n\n5")
    stream = opened.stream([QUESTION], think=True)
    by_kind = {"thinking": "", "text": ""}
    for part in stream.parts():
        by_kind[part.kind] += part.text
    assert by_kind == {"thinking": "Easy.", "text": "5"}
    answer = opened.complete([QUESTION], think=True)
    assert (answer.text, answer.thinking) == ("5", "Easy.")
    assert answer.message == {"role": "assistant", "content": "5"}


def test_messages_come_back_as_they_were_read():
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    said = [
        {"role": "system", "content": "Be brief."},
        QUESTION,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "5", "tool_call_id": "c1"},
    ]
    system, read = openai.read(said)
    assert system == "Be brief."
    assert [openai.written(message) for message in read] == said[1:]


@pytest.mark.parametrize(
    "call",
    [{}, {"function": {"name": "f", "arguments": "[1]"}}, {"function": {"name": "f", "arguments": "{"}}],
)
def test_calls_that_are_none_are_refused(call):
    with pytest.raises(UsageError, match=r"messages\[0\]"):
        openai.read([{"role": "assistant", "content": None, "tool_calls": [call]}])


@pytest.mark.parametrize("said", [[], [{"role": "system", "content": "x"}]])
def test_something_must_be_left_to_answer(said):
    with pytest.raises(UsageError, match="nothing to answer"):
        model(b"5").complete(said)


def test_an_answer_that_is_gone_on_from_has_text():
    with pytest.raises(UsageError, match="no text to go on from"):
        model(b"5").complete([QUESTION, {"role": "assistant", "content": ""}])


def test_tools_are_for_messages():
    with pytest.raises(UsageError, match="tools and think are for messages"):
        model(b"5").complete("2 + 3 =", tools=[ADD])
