"""Anthropic's official client against the server: what it understands of answers, streams, tools, thinking, errors."""

import json

import anthropic
import httpx2
import jsonschema
import pytest
import reciter

pytestmark = pytest.mark.usefixtures("loopback_alone")

WEATHER = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {
            "city": {"enum": ["Rome", "Oslo"]},
            "days": {"type": "integer", "minimum": 1, "maximum": 7},
        },
        "required": ["city", "days"],
        "additionalProperties": False,
    },
}
ADD = {"name": "add", "input_schema": {"type": "object", "properties": {}}}
TOOLS = [WEATHER, ADD]
ASKED = [{"role": "user", "content": "What is the weather in Rome?"}]
FRANCE = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def client(agents_server):
    with (
        httpx2.Client(trust_env=False) as http,
        anthropic.Anthropic(
            base_url=agents_server.url, api_key="a key", max_retries=0, timeout=60, http_client=http
        ) as client,
    ):
        yield client


def ask(client, messages=ASKED, **more):
    return client.messages.create(**{"model": "reciter", "max_tokens": 200, "messages": messages, **more})


def kinds(message):
    return [block.type for block in message.content]


def test_a_message_is_answered(client):
    message = ask(client, FRANCE, model="tiny-qwen3", extra_body={"temperature": 0})
    assert (message.role, message.model, message.stop_reason) == ("assistant", "tiny-qwen3", "end_turn")
    assert [block.text for block in message.content] == ["The capital of France is Paris."]
    assert message.usage.output_tokens == 8


def test_thinking_is_a_block_of_its_own(client):
    message = ask(client, thinking={"type": "enabled", "budget_tokens": 1024})
    thinking, text = message.content
    assert (thinking.type, thinking.thinking.strip()) == ("thinking", reciter.THOUGHT) and thinking.signature
    assert (text.type, text.text) == ("text", reciter.TEXT)
    assert 0 < message.usage.output_tokens_details.thinking_tokens < message.usage.output_tokens
    plain = ask(client, thinking={"type": "disabled"})
    assert kinds(plain) == ["text"] and plain.content[0].text == reciter.TEXT


def test_tools_are_called_and_their_results_answered(client):
    message = ask(client, tools=TOOLS)
    assert message.stop_reason == "tool_use"
    assert kinds(message) == ["thinking", "text", "tool_use", "tool_use"]
    first, second = message.content[2:]
    assert (first.name, first.input, second.name, second.input) == (
        "get_weather",
        reciter.FIRST,
        "add",
        reciter.SECOND,
    )
    results = [
        {"type": "tool_result", "tool_use_id": first.id, "content": "20 degrees"},
        {
            "type": "tool_result",
            "tool_use_id": second.id,
            "content": [{"type": "text", "text": "6"}],
            "is_error": True,
        },
    ]
    going_on = [*ASKED, message.to_param(), {"role": "user", "content": results}]
    answer = ask(client, going_on, tools=TOOLS)
    assert (answer.stop_reason, answer.content[-1].text) == ("end_turn", reciter.TEXT)
    assert answer.usage.cache_read_input_tokens >= message.usage.input_tokens - 1


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_weather"}])
def test_a_tool_that_must_be_called_is(client, choice):
    message = ask(client, tools=[WEATHER], tool_choice=choice, max_tokens=100)
    (call,) = (block for block in message.content if block.type == "tool_use")
    assert call.name == "get_weather"
    jsonschema.validate(call.input, WEATHER["input_schema"])


def test_tools_that_must_not_be_called_are_not(client):
    assert kinds(ask(client, tools=TOOLS, tool_choice={"type": "none"}))[-1] == "text"
    one = ask(client, tools=TOOLS, tool_choice={"type": "auto", "disable_parallel_tool_use": True})
    assert kinds(one) == ["thinking", "text", "tool_use"]


def test_a_stream_tells_the_same_in_the_order_the_client_wants(client):
    whole = ask(client, tools=TOOLS)
    with client.messages.stream(model="reciter", max_tokens=200, messages=ASKED, tools=TOOLS) as stream:
        events = list(stream)
        streamed = stream.get_final_message()
    assert [(b.type, getattr(b, "input", getattr(b, "text", None))) for b in streamed.content] == [
        (b.type, getattr(b, "input", getattr(b, "text", None))) for b in whole.content
    ]
    assert streamed.stop_reason == "tool_use"
    assert streamed.usage.output_tokens == whole.usage.output_tokens
    total = streamed.usage.input_tokens + streamed.usage.cache_read_input_tokens
    assert total == whole.usage.input_tokens + whole.usage.cache_read_input_tokens
    told = [event.type for event in events]
    assert told[0] == "message_start" and told[-1] == "message_stop"
    assert told.count("content_block_start") == told.count("content_block_stop") == 4
    arguments = [event.partial_json for event in events if event.type == "input_json"]
    assert len(arguments) > 4, "arguments come in pieces, as they are written"


def test_the_raw_events_are_anthropics(client):
    raw = client.messages.create(model="reciter", max_tokens=200, messages=ASKED, stream=True)
    events = [event.to_dict() for event in raw]
    shape = [f"{event['type']}:{event.get('delta', {}).get('type', '')}".rstrip(":") for event in events]
    once = [kind for i, kind in enumerate(shape) if i == 0 or kind != shape[i - 1]]
    assert once == [
        "message_start",
        "content_block_start",
        "content_block_delta:thinking_delta",
        "content_block_delta:signature_delta",
        "content_block_stop",
        "content_block_start",
        "content_block_delta:text_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert [event["index"] for event in events if event["type"] == "content_block_start"] == [0, 1]
    assert events[0]["message"]["stop_reason"] is None
    assert events[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}


def test_why_it_ended(client):
    cut = ask(client, thinking={"type": "disabled"}, max_tokens=2)
    assert (cut.stop_reason, cut.usage.output_tokens) == ("max_tokens", 2)
    stopped = ask(client, thinking={"type": "disabled"}, stop_sequences=[" in 北"])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", " in 北")
    assert stopped.content[0].text == "It is 20 degrees"
    call = ask(client, tools=TOOLS, thinking={"type": "disabled"}, max_tokens=6)
    assert (call.stop_reason, call.content[-1].type) == ("max_tokens", "tool_use")
    with client.messages.stream(
        model="reciter", max_tokens=6, messages=ASKED, tools=TOOLS, thinking={"type": "disabled"}
    ) as stream:
        streamed = stream.get_final_message()
    assert streamed.content[-1].input == call.content[-1].input


def test_the_answer_keeps_a_schema(client):
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    }
    form = {"format": {"type": "json_schema", "schema": schema}}
    message = ask(client, FRANCE, model="tiny-qwen3", output_config=form)
    jsonschema.validate(json.loads(message.content[0].text), schema)
    older = client.beta.messages.create(
        model="tiny-qwen3",
        max_tokens=200,
        messages=FRANCE,
        betas=["structured-outputs-2025-11-13"],
        extra_body={"output_format": form["format"]},
    )
    jsonschema.validate(json.loads(older.content[0].text), schema)


def test_tokens_are_counted_as_they_are_spent(client):
    system = [{"type": "text", "text": "You are brief."}, {"type": "text", "text": "You are kind."}]
    asked = {"model": "reciter", "messages": ASKED, "system": system, "tools": TOOLS}
    counted = client.messages.count_tokens(**asked)
    spent = client.messages.create(max_tokens=5, **asked).usage
    assert counted.input_tokens == spent.input_tokens + spent.cache_read_input_tokens


def test_models_are_listed(client):
    assert [model.id for model in client.models.list()] == ["reciter", "tiny-qwen3"]


@pytest.mark.parametrize(
    ("what", "error", "said"),
    [
        ({"model": "gpt-9"}, anthropic.NotFoundError, "gpt-9"),
        ({"max_tokens": 0}, anthropic.BadRequestError, "max_tokens"),
        ({"messages": []}, anthropic.BadRequestError, "messages"),
        ({"tool_choice": {"type": "any"}}, anthropic.BadRequestError, "there are no tools"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
                        ],
                    }
                ]
            },
            anthropic.BadRequestError,
            "messages[0].content[0]: the type 'image' cannot be read here",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "document", "source": {}}]}]},
            anthropic.BadRequestError,
            "'document'",
        ),
        ({"messages": [{"role": "user", "content": "ab " * 9000}]}, anthropic.BadRequestError, "tokens"),
        (
            {"messages": [*ASKED, {"role": "assistant", "content": "It is"}]},
            anthropic.BadRequestError,
            "the last message",
        ),
    ],
    ids=["model", "limit", "empty", "no tools", "image", "document", "too long", "prefill"],
)
@pytest.mark.parametrize("stream", [False, True])
def test_errors_are_the_clients(client, what, error, said, stream):
    with pytest.raises(error) as caught:
        ask(client, stream=stream, **what)
    body = caught.value.body
    assert body["type"] == "error" and said in body["error"]["message"]
    assert body["error"]["type"] == {404: "not_found_error"}.get(
        caught.value.status_code, "invalid_request_error"
    )


def test_a_wrong_key_is_said(agents_server):
    with (
        httpx2.Client(trust_env=False) as http,
        anthropic.Anthropic(
            base_url=agents_server.url, api_key="another", max_retries=0, timeout=60, http_client=http
        ) as client,
        pytest.raises(anthropic.AuthenticationError),
    ):
        ask(client)
