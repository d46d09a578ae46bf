"""OpenAI's official client against the server: chat, completions, embeddings, responses, tools, schemas, errors."""

import json

import httpx2
import jsonschema
import openai
import pydantic
import pytest
import reciter

pytestmark = pytest.mark.usefixtures("loopback_alone")

PARAMETERS = {
    "type": "object",
    "properties": {
        "city": {"enum": ["Rome", "Oslo"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 7},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
FUNCTIONS = [
    {"name": "get_weather", "description": "The weather of a city.", "parameters": PARAMETERS},
    {"name": "add", "parameters": {"type": "object", "properties": {}}},
]
CHAT_TOOLS = [{"type": "function", "function": function} for function in FUNCTIONS]
TOOLS = [{"type": "function", "strict": False, **function} for function in FUNCTIONS]
ASKED = [{"role": "user", "content": "What is the weather in Rome?"}]
FRANCE = [{"role": "user", "content": "What is the capital of France?"}]
CALLED = [("get_weather", reciter.FIRST), ("add", reciter.SECOND)]
PARIS = "The capital of France is Paris."


class Town(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    city: str = pydantic.Field(max_length=12)
    capital: bool


@pytest.fixture(scope="module")
def client(agents_server):
    with (
        httpx2.Client(trust_env=False) as http,
        openai.OpenAI(
            base_url=f"{agents_server.url}/v1", api_key="a key", max_retries=0, timeout=60, http_client=http
        ) as client,
    ):
        yield client


def chat(client, messages=ASKED, **more):
    return client.chat.completions.create(**{"model": "reciter", "messages": messages, **more})


def respond(client, asked="What is the weather in Rome?", **more):
    return client.responses.create(**{"model": "reciter", "input": asked, **more})


def called(calls):
    return [(call.name, json.loads(call.arguments)) for call in calls]


class TestChat:
    def test_it_answers(self, client):
        answer = chat(client, FRANCE, model="tiny-qwen3", temperature=0, logprobs=True, top_logprobs=2)
        (choice,) = answer.choices
        assert (choice.message.content, choice.finish_reason) == (PARIS, "stop")
        assert "".join(token.token for token in choice.logprobs.content) == PARIS
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens

    def test_it_thinks_and_calls(self, client):
        message = chat(client, tools=CHAT_TOOLS).choices[0].message
        assert called(call.function for call in message.tool_calls) == CALLED
        assert message.content == reciter.TEXT_OF_CALL
        assert message.reasoning_content.strip() == reciter.THOUGHT_OF_CALL
        results = [{"role": "tool", "tool_call_id": call.id, "content": "6"} for call in message.tool_calls]
        after = chat(client, [*ASKED, message, *results], tools=CHAT_TOOLS)
        assert after.choices[0].message.content == reciter.TEXT

    def test_a_stream_says_the_same(self, client):
        with client.chat.completions.stream(model="reciter", messages=ASKED, tools=CHAT_TOOLS) as stream:
            kinds = [event.type for event in stream]
            message = stream.get_final_completion().choices[0].message
        assert called(call.function for call in message.tool_calls) == CALLED
        assert message.content == reciter.TEXT_OF_CALL
        assert kinds.count("tool_calls.function.arguments.delta") > 4, "arguments come as they are written"

    def test_a_shape_is_kept(self, client):
        town = client.chat.completions.parse(
            model="tiny-qwen3", messages=FRANCE, response_format=Town, temperature=0
        )
        assert isinstance(town.choices[0].message.parsed, Town)

    def test_a_call_that_was_cut_may_come_back(self, client):
        cut = chat(client, tools=CHAT_TOOLS, max_tokens=6, reasoning_effort="none").choices[0]
        assert cut.finish_reason == "length" and cut.message.tool_calls
        (call,) = cut.message.tool_calls
        with pytest.raises(ValueError, match=r"."):
            json.loads(call.function.arguments)
        result = {"role": "tool", "tool_call_id": call.id, "content": "the arguments are no JSON"}
        after = chat(client, [*ASKED, cut.message, result], tools=CHAT_TOOLS)
        assert after.choices[0].message.content == reciter.TEXT


def test_text_is_continued(client):
    answer = client.completions.create(
        model="tiny-qwen3", prompt="Once upon a time", max_tokens=8, temperature=0
    )
    pieces = client.completions.create(
        model="tiny-qwen3", prompt="Once upon a time", max_tokens=8, temperature=0, stream=True
    )
    assert answer.choices[0].text
    assert "".join(piece.choices[0].text for piece in pieces if piece.choices) == answer.choices[0].text


def test_texts_become_vectors(client):
    one, other = client.embeddings.create(model="tiny-qwen3", input=["a cat", "a dog"]).data
    assert len(one.embedding) == len(other.embedding) == 256 and one.embedding != other.embedding
    assert (one.index, other.index) == (0, 1)


def test_models_are_listed(client):
    assert [model.id for model in client.models.list()] == ["reciter", "tiny-qwen3"]
    assert client.models.retrieve("tiny-qwen3").id == "tiny-qwen3"


class TestResponses:
    def test_it_answers(self, client):
        answer = respond(
            client,
            "What is the capital of France?",
            model="tiny-qwen3",
            temperature=0,
            instructions="Be brief.",
            store=True,
        )
        assert answer.status == "completed" and answer.output_text
        assert answer.to_dict()["store"] is False, "nothing is kept, and that is said"
        usage = answer.usage
        assert usage.total_tokens == usage.input_tokens + usage.output_tokens
        assert usage.output_tokens_details.reasoning_tokens == 0
        system = [{"role": "system", "content": "Be brief."}, *FRANCE]
        same = chat(client, system, model="tiny-qwen3", temperature=0)
        assert usage.input_tokens == same.usage.prompt_tokens, "instructions are a system message"

    def test_it_thinks_and_calls(self, client):
        answer = respond(client, tools=TOOLS)
        assert [item.type for item in answer.output] == [
            "reasoning",
            "message",
            "function_call",
            "function_call",
        ]
        assert answer.output[0].content[0].text.strip() == reciter.THOUGHT_OF_CALL
        assert answer.output_text == reciter.TEXT_OF_CALL
        assert called(answer.output[2:]) == CALLED
        assert answer.usage.output_tokens_details.reasoning_tokens > 0
        results = [
            {"type": "function_call_output", "call_id": call.call_id, "output": "6"}
            for call in answer.output[2:]
        ]
        after = respond(client, [*ASKED, *answer.output, *results], tools=TOOLS)
        assert after.output_text == reciter.TEXT
        assert after.usage.input_tokens_details.cached_tokens >= answer.usage.input_tokens - 1

    def test_a_stream_says_the_same_event_by_event(self, client):
        with client.responses.stream(model="reciter", input=ASKED, tools=TOOLS) as stream:
            events = list(stream)
            final = stream.get_final_response()
        assert [event.sequence_number for event in events] == list(range(len(events)))
        kinds = [event.type.removeprefix("response.") for event in events]
        once = [kind for i, kind in enumerate(kinds) if i == 0 or kind != kinds[i - 1]]
        text = [
            "output_item.added",
            "content_part.added",
            "X.delta",
            "X.done",
            "content_part.done",
            "output_item.done",
        ]
        call = [
            "output_item.added",
            "function_call_arguments.delta",
            "function_call_arguments.done",
            "output_item.done",
        ]
        assert once == [
            "created",
            "in_progress",
            *(kind.replace("X", "reasoning_text") for kind in text),
            *(kind.replace("X", "output_text") for kind in text),
            *call,
            *call,
            "completed",
        ]
        assert kinds.count("function_call_arguments.delta") > 4, "arguments come as they are written"
        assert called(item for item in final.output if item.type == "function_call") == CALLED
        assert final.output_text == reciter.TEXT_OF_CALL
        done = [event.item for event in events if event.type == "response.output_item.done"]
        assert [item.id for item in done] == [item.id for item in final.output]

    def test_a_shape_is_kept(self, client):
        answer = client.responses.parse(
            model="tiny-qwen3", input="What is the capital of France?", text_format=Town, temperature=0
        )
        assert isinstance(answer.output_parsed, Town)

    @pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "get_weather"}])
    def test_a_tool_that_must_be_called_is(self, client, choice):
        answer = respond(client, tools=TOOLS[:1], tool_choice=choice, max_output_tokens=100)
        (call,) = (item for item in answer.output if item.type == "function_call")
        jsonschema.validate(json.loads(call.arguments), PARAMETERS)

    def test_of_several_calls_one_may_be_wanted(self, client):
        one = respond(client, tools=TOOLS, parallel_tool_calls=False)
        assert called(item for item in one.output if item.type == "function_call") == CALLED[:1]
        allowed = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "add"}]}
        assert [tool.name for tool in respond(client, tools=TOOLS, tool_choice=allowed).tools] == ["add"]

    def test_an_answer_that_was_cut_is_incomplete(self, client):
        cut = respond(client, reasoning={"effort": "none"}, max_output_tokens=2)
        assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")
        assert [(item.type, item.status) for item in cut.output] == [("message", "incomplete")]
        with client.responses.stream(
            model="reciter", input=ASKED, reasoning={"effort": "none"}, max_output_tokens=2
        ) as stream:
            assert [event.type for event in stream][-1] == "response.incomplete"

    def test_logprobs_cover_the_text(self, client):
        answer = respond(
            client,
            "What is the capital of France?",
            model="tiny-qwen3",
            temperature=0,
            top_logprobs=2,
            include=["message.output_text.logprobs"],
        )
        logprobs = answer.output[0].content[0].logprobs
        assert "".join(one.token for one in logprobs) == answer.output_text
        assert all(len(one.top_logprobs) == 2 for one in logprobs)

    @pytest.mark.parametrize("field", ["previous_response_id", "conversation"])
    def test_what_needs_a_memory_is_refused_with_the_remedy(self, client, field):
        with pytest.raises(openai.BadRequestError, match="send the whole conversation in input") as caught:
            respond(client, **{field: "resp_1"})
        assert caught.value.param == field


@pytest.mark.parametrize(
    ("what", "error", "said"),
    [
        ({"model": "gpt-9"}, openai.NotFoundError, "gpt-9"),
        ({"max_output_tokens": 0}, openai.BadRequestError, "max_output_tokens"),
        ({"input": []}, openai.BadRequestError, "nothing to answer"),
        ({"input": "ab " * 9000}, openai.BadRequestError, "tokens"),
        ({"tool_choice": "required"}, openai.BadRequestError, "there are no tools"),
        (
            {
                "input": [
                    {
                        "role": "user",
                        "content": [{"type": "input_image", "image_url": "data:image/png;base64,"}],
                    }
                ]
            },
            openai.BadRequestError,
            "input[0].content[0]: the type 'input_image' cannot be read here",
        ),
    ],
    ids=["model", "limit", "empty", "too long", "no tools", "image"],
)
@pytest.mark.parametrize("stream", [False, True])
def test_errors_are_the_clients(client, what, error, said, stream):
    with pytest.raises(error) as caught:
        respond(client, **{"asked": "Hello", "stream": stream, **what})
    assert said in caught.value.message


def test_a_wrong_key_is_said(agents_server):
    with (
        httpx2.Client(trust_env=False) as http,
        openai.OpenAI(
            base_url=f"{agents_server.url}/v1", api_key="another", max_retries=0, timeout=60, http_client=http
        ) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        chat(client)
