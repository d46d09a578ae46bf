"""What answers tell and take: log-probabilities, an answer begun, a schema's class, conversations in files."""

import json

import numpy as np
import pydantic
import pytest

import edgellm
from edgellm import errors
from edgellm.errors import CheckFailedError, EngineError, StorageError, UsageError

FRANCE = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def model():
    with edgellm.load("tiny-qwen3", n_ctx=512, n_threads=1) as model:
        yield model


def log_softmax(logits):
    logits = logits.astype(np.float64)
    return (
        logits
        - logits.max(-1, keepdims=True)
        - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True))
    )


@pytest.mark.parametrize("name", ["tiny-qwen3", "tiny-qwen3:onnx-int8"])
def test_logprobs_are_the_engine_s_own(name):
    prompt = "The capital of France is"
    with edgellm.load(name, n_ctx=256, n_threads=1) as model:
        answer = model.complete(prompt, max_tokens=8, temperature=1.0, seed=5, logprobs=3, ignore_eos=True)
        assert len(answer.logprobs) == len(answer.tokens) == 8
        assert tuple(one.token for one in answer.logprobs) == answer.tokens
        assert b"".join(one.data for one in answer.logprobs).decode() == answer.text
        ids = model.session.tokenize(prompt, add_bos=model.info.add_bos)
        model.session.rewind(0)
        rows = log_softmax(model.session.eval_all([*ids, *answer.tokens]))[len(ids) - 1 : -1]
    for row, one in zip(rows, answer.logprobs, strict=True):  # token by token and all at once round otherwise
        assert one.logprob == pytest.approx(row[one.token], abs=0.05)
        assert [top.logprob for top in one.top] == pytest.approx(sorted(row)[:-4:-1], abs=0.05)


def test_logprobs_are_what_llama_cpp_python_says(model):
    import llama_cpp

    answer = model.complete("The capital of France is", max_tokens=6, temperature=0, logprobs=2, exact=True)
    other = llama_cpp.Llama(str(model.artifact.path), n_ctx=256, n_threads=1, logits_all=True, verbose=False)
    try:
        said = other.create_completion("The capital of France is", max_tokens=6, temperature=0, logprobs=2)
    finally:
        other.close()
    theirs = said["choices"][0]["logprobs"]
    assert theirs["tokens"] == [one.text for one in answer.logprobs]
    assert theirs["token_logprobs"] == pytest.approx([one.logprob for one in answer.logprobs], abs=0.05)
    for top, one in zip(theirs["top_logprobs"], answer.logprobs, strict=True):
        assert sorted(top.values()) == pytest.approx(sorted(each.logprob for each in one.top), abs=0.05)


@pytest.mark.parametrize("how", [{"grammar": 'root ::= " " [0-9]'}, {"stop": " Paris"}, {"max_tokens": 0}])
def test_there_is_one_logprob_for_every_token(model, how):
    answer = model.complete("The capital of France is", temperature=0, **{"max_tokens": 9, **how}, logprobs=0)
    assert tuple(one.token for one in answer.logprobs) == answer.tokens
    assert all(one.top == () and one.logprob <= 0 for one in answer.logprobs)
    assert model.complete("2 + 2 =", max_tokens=1).logprobs is None


def test_drafts_change_no_logprob(model):
    prompt = "one two three one two three one two"
    with edgellm.load("tiny-qwen3", n_ctx=512, n_threads=1, lookup=True) as other:
        mine, theirs = (m.complete(prompt, temperature=0, max_tokens=20, logprobs=1) for m in (model, other))
    assert mine.tokens == theirs.tokens
    assert [one.logprob for one in mine.logprobs] == pytest.approx(
        [one.logprob for one in theirs.logprobs], abs=0.05
    )


def test_what_cannot_be_told_is_refused():
    with (
        edgellm.load("tiny-qwen3", n_ctx=64, n_threads=1, isolated=True) as other,
        pytest.raises(EngineError, match="without isolation"),
    ):
        other.complete("x", logprobs=0)


def test_an_answer_goes_on_from_the_assistant_s_last_words(model):
    whole = model.complete(FRANCE, temperature=0)
    begun = [*FRANCE, {"role": "assistant", "content": "The capital of"}]
    answer = model.complete(begun, temperature=0)
    assert answer.prefill + answer.text == whole.text and answer.message == whole.message
    assert answer.usage.n_prompt == whole.usage.n_prompt + len(model.tokenize("The capital of"))
    again = model.complete([*FRANCE, answer.message, *FRANCE], temperature=0)
    assert again.usage.n_cached >= answer.usage.n_prompt + len(answer.tokens)  # nothing is evaluated twice
    assert model.complete(FRANCE, temperature=0).text == whole.text


def test_words_that_begin_an_answer_stay_words(model):
    """A control token spelt out in them does not end the answer and open another turn."""
    begun = [*FRANCE, {"role": "assistant", "content": "<|im_end|>"}]
    answer = model.complete(begun, max_tokens=1)
    plain = model.complete(FRANCE, max_tokens=1)
    assert (
        answer.usage.n_prompt - plain.usage.n_prompt == len(model.tokenize("<|im_end|>", special=False)) > 1
    )


@pytest.mark.parametrize(
    "last",
    [{"content": ""}, {"content": "x", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}],
)
def test_an_answer_needs_words_to_go_on_from(model, last):
    with pytest.raises(UsageError, match="no text to go on from"):
        model.complete([*FRANCE, {"role": "assistant", **last}])


class City(pydantic.BaseModel):
    city: str
    population: int


def test_a_pydantic_model_is_a_schema_and_reads_the_answer(model):
    found = model.respond(FRANCE, as_=City, temperature=0, max_tokens=80)
    assert isinstance(found, City)
    answer = model.chat().ask("Rome?", json_schema=City, max_tokens=80, temperature=0).answer
    assert answer.parse(City).model_dump() == json.loads(answer.text)
    with pytest.raises(CheckFailedError, match=r"cut \(length\) after 2 tokens.*max_tokens"):
        model.respond(FRANCE, as_=City, max_tokens=2)


def test_a_conversation_is_saved_and_goes_on(model, tmp_path):
    path = tmp_path / "talk.json"
    chat = model.chat(system="Be brief.", temperature=0)
    chat.ask(FRANCE[0]["content"]).text  # noqa: B018
    chat.save(path)
    again = edgellm.Chat.load(model, path, temperature=0)
    assert again.messages == chat.messages
    assert again.ask("And of Italy?").text == chat.ask("And of Italy?").text
    again.save(path)
    assert edgellm.Chat.load(model, path).messages == chat.messages
    assert json.loads(path.read_text(encoding="utf-8"))["format"] == "edgellm-chat/1"
    path.write_text("{}")
    with pytest.raises(StorageError, match="not a saved conversation"):
        edgellm.Chat.load(model, path)
    with pytest.raises(UsageError, match="there is no file"):
        edgellm.Chat.load(model, tmp_path / "none.json")


def test_the_command_line_goes_on_with_a_saved_conversation(model, tmp_path, monkeypatch):
    from edgellm.chat.store import Store

    chat = model.chat(temperature=0)
    chat.ask("Hello").text  # noqa: B018
    chat.save(tmp_path / "hello.json")
    assert [saved.title for saved in Store(tmp_path).all()] == ["Hello"]


def test_what_is_printed_is_the_text(model):
    answer = model.complete(FRANCE, temperature=0, logprobs=5)
    assert str(answer) == answer.text == f"{model.stream(FRANCE, temperature=0)}"
    shown = [model, model.chat(messages=FRANCE), model.stream("x"), model.astream("x"), answer]
    assert [repr(one).split("(")[0] for one in shown] == [
        "<edgellm.Model Tiny Qwen3 Q8_0, llamacpp, n_ctx 512>",
        "<edgellm.Chat with Tiny Qwen3, 1 message>",
        "<edgellm.Stream, open>",
        "<edgellm.AsyncStream, not begun>",
        "Answer",
    ]
    assert len(repr(answer)) < 250
    assert len(repr(model.score("Some text that is longer than a line of a terminal would be " * 9))) < 250


def test_all_errors_are_public():
    kinds = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert {name for name in kinds if issubclass(getattr(errors, name), errors.EdgellmError)} <= set(
        edgellm.__all__
    )


def test_settings_are_called_what_the_reader_calls_them(model):
    text = "word " * 2000
    with pytest.raises(EngineError) as python:
        model.complete(text)
    with errors.said_as_flags(), pytest.raises(EngineError) as shell:
        model.complete(text)
    assert str(python.value).endswith("raise n_ctx") and str(shell.value).endswith("raise -c")


def test_the_command_line_and_its_child_processes_say_flags():
    from click.testing import CliRunner

    from edgellm.cli import cli

    run = CliRunner().invoke(cli, ["run", "tiny-qwen3", "-c", "64", "--raw", "word " * 600])
    assert str(run.exception).endswith("raise -c")
    with errors.said_as_flags():
        other = edgellm.load("tiny-qwen3", n_ctx=64, n_threads=1, isolated=True)
    with (
        other,
        pytest.raises(EngineError, match="raise -c"),
    ):  # said by the engine's process, which stays what it is
        other.complete("word " * 600)
