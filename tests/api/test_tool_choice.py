"""`tool_choice` with real engines: what must be called is called, with arguments that jsonschema finds valid.

The bundled models know no tools and would never call one: that they do is the grammar's work alone.
"""

import jsonschema
import pytest
from chat_fakes import ChatMl

from edgellm import backends
from edgellm.api.model import Model
from edgellm.catalog import first_use
from edgellm.errors import UsageError
from edgellm.session import EngineOptions

pytest.importorskip("llguidance")

POINT = {
    "type": "object",
    "properties": {"x": {"type": "integer"}},
    "required": ["x"],
    "additionalProperties": False,
}
PARAMETERS = {
    "get_weather": {
        "type": "object",
        "properties": {
            "city": {"enum": ["Rome", "Oslo"]},
            "days": {"type": "integer", "minimum": 1, "maximum": 7},
        },
        "required": ["city", "days"],
        "additionalProperties": False,
    },
    "move": {
        "type": "object",
        "$defs": {"point": POINT},
        "properties": {"to": {"$ref": "#/$defs/point"}},
        "required": ["to"],
        "additionalProperties": False,
    },
    "stop": {"type": "object", "properties": {}, "additionalProperties": False},
}
TOOLS = [{"type": "function", "function": {"name": n, "parameters": p}} for n, p in PARAMETERS.items()]
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


class QwenLike(ChatMl):
    """A template with a place for tools, and (below) one that has opened a thought."""

    source = "<tool_call> tools"
    end = ""

    def render(self, messages, add_generation_prompt=True, tools=None, **extra) -> str:
        names = [tool["function"]["name"] for tool in tools or ()]
        return (
            (f"Tools: {names}\n" if tools else "")
            + super().render(messages, add_generation_prompt)
            + self.end
        )


class LlamaLike(QwenLike):
    source = "<|start_header_id|> tools"


class Thinking(QwenLike):
    source, end = "<tool_call> tools </think>", "<think>\n"


@pytest.fixture(scope="module", params=["tiny-qwen3", "tiny-qwen3:onnx-int4"])
def session(request):
    with backends.open_session(
        first_use.resolve(request.param), EngineOptions(n_ctx=512, n_threads=1)
    ) as session:
        yield session


@pytest.fixture(params=[QwenLike, LlamaLike, Thinking])
def model(request, session):
    return Model(session, request.param())


def prompt_of(model) -> str:
    return model.detokenize(model.session.tokens)


@pytest.mark.parametrize("choice", ["required", "get_weather", "move", "stop"])
def test_a_call_that_must_be_is_made(model, choice):
    for seed in range(4):
        answer = model.complete(
            QUESTION, tools=TOOLS, tool_choice=choice, seed=seed, temperature=1.5, max_tokens=60
        )
        (call,) = answer.calls
        assert choice in ("required", call.name)
        jsonschema.validate(call.arguments, PARAMETERS[call.name])
        assert (answer.finish_reason, answer.text, answer.thinking, answer.valid) == (
            "tool_calls",
            "",
            "",
            True,
        )


def test_openais_mapping_names_a_tool(model):
    choice = {"type": "function", "function": {"name": "stop"}}
    assert model.complete(QUESTION, tools=TOOLS, tool_choice=choice, max_tokens=40).calls[0].arguments == {}


def test_none_neither_offers_tools_nor_looks_for_calls(session):
    model = Model(session, QwenLike())
    answer = model.complete(QUESTION, tools=TOOLS, tool_choice="none", temperature=0)
    assert not answer.calls and "Tools:" not in prompt_of(model)
    assert "Paris" in answer.text
    model.complete(QUESTION, tools=TOOLS, temperature=0)
    assert "Tools: ['get_weather', 'move', 'stop']" in prompt_of(model)


def test_a_chat_that_must_call_may_go_on_after_the_results(session):
    chat = Model(session, QwenLike()).chat(tools=TOOLS, tool_choice="stop", max_tokens=40, temperature=0)
    assert chat.ask("What is the capital of France?").answer.calls[0].name == "stop"
    answer = chat.respond({chat.pending[0].id: "done"}).answer
    assert answer.valid is None  # no grammar: it is free to say something
    assert chat.ask("Again.").answer.calls[0].name == "stop"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tools": TOOLS, "tool_choice": "fly"}, "one of: get_weather, move, stop"),
        ({"tools": TOOLS, "tool_choice": {"type": "function"}}, "cannot be ''"),
        ({"tool_choice": "required"}, "there are no tools"),
        ({"tools": TOOLS, "tool_choice": "required", "grammar": 'root ::= "a"\n'}, "leave one out"),
    ],
)
def test_a_choice_that_cannot_be_is_refused(session, settings, said):
    with pytest.raises(UsageError, match=said):
        Model(session, QwenLike()).complete(QUESTION, **settings)


def test_a_choice_is_for_messages(session):
    with pytest.raises(UsageError, match="are for messages"):
        Model(session, QwenLike()).complete("2 + 2 =", tool_choice="required")
