"""The Python API on a bundled model: what its few lines promise, with threads, abandoned streams and errors."""

import os
import signal
import subprocess
import sys
import threading

import pytest

import edgellm
from edgellm.errors import EngineError, UsageError
from edgellm.generation import scoring

FRANCE = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def model():
    with edgellm.load("tiny-qwen3", n_ctx=512, n_threads=1) as model:
        yield model


def test_importing_edgellm_imports_nothing_else():
    loaded = "[m for m in sys.modules if m.startswith('edgellm.')], 'numpy' in sys.modules"
    code = f"import sys, edgellm; dir(edgellm); print({loaded})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "['edgellm.version'] False"


def test_every_public_name_is_there():
    assert all(getattr(edgellm, name) for name in edgellm.__all__)
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        edgellm.lode  # noqa: B018


def test_messages_are_answered_and_a_string_is_continued(model):
    answer = model.complete(FRANCE, temperature=0)
    assert "Paris" in answer.text and answer.finish_reason == "stop"
    cut = model.complete("The capital of France is", temperature=0, max_tokens=2)
    assert len(cut.tokens) == 2 and cut.finish_reason == "length"


def test_a_stream_gives_the_same_text_in_pieces(model):
    stream = model.stream(FRANCE, temperature=0)
    assert "".join(stream) == stream.text == model.complete(FRANCE, temperature=0).text


def test_messages_that_grow_are_found_in_the_cache(model):
    first = model.complete(FRANCE, temperature=0)
    said = [
        *FRANCE,
        {"role": "assistant", "content": first.text},
        {"role": "user", "content": "And of Italy?"},
    ]
    second = model.complete(said, temperature=0)
    assert second.usage.n_cached >= first.usage.n_prompt + len(first.tokens)


def test_content_in_parts_is_text(model):
    parts = [{"role": "user", "content": [{"type": "text", "text": FRANCE[0]["content"]}]}]
    assert model.complete(parts, temperature=0).text == model.complete(FRANCE, temperature=0).text


def test_a_chat_remembers_and_forgets(model):
    chat = model.chat(system="You are helpful.", temperature=0)
    answer = chat.ask(FRANCE[0]["content"]).text
    assert [m["role"] for m in chat.messages] == ["system", "user", "assistant"]
    assert chat.messages[2]["content"] == answer
    assert chat.regenerate().text == answer
    assert chat.undo() == FRANCE[0]["content"]
    again = model.chat(messages=chat.messages, temperature=0)
    assert again.ask(FRANCE[0]["content"]).text == answer


def test_settings_of_one_answer_hold_for_it_alone(model):
    chat = model.chat(temperature=0)
    assert chat.ask("Tell me a story.", max_tokens=2).answer.finish_reason == "length"
    chat.undo()
    assert len(chat.ask("Tell me a story.").answer.tokens) > 2


def test_a_later_call_ends_a_stream_left_open_and_says_so(model):
    left = model.stream(FRANCE, temperature=0)
    next(left)
    assert "Paris" in model.complete(FRANCE, temperature=0).text
    with pytest.raises(UsageError, match="a later call on the same model ended this stream"):
        next(left)
    assert left._reply.completion.finish_reason == "cancelled"


def test_threads_take_turns(model):
    expected = model.complete(FRANCE, temperature=0).text
    found = []

    def ask():
        found.append("".join(model.stream(FRANCE, temperature=0)))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 8


def test_a_stream_left_open_in_one_thread_lets_another_wait(model):
    stream = model.stream(FRANCE, temperature=0)
    next(stream)
    found = []
    thread = threading.Thread(target=lambda: found.append(model.complete(FRANCE, temperature=0).text))
    thread.start()
    thread.join(0.2)
    assert not found
    text = stream.text
    thread.join()
    assert found == [text]


def test_a_cancel_that_finds_a_reader_inside_is_carried_out_when_it_leaves(model):
    stream = model.stream(FRANCE, temperature=0)
    read = stream._reply.parts

    def parts():
        part = next(read())
        other = threading.Thread(target=stream.cancel)  # while this thread is inside
        other.start()
        other.join()
        yield part

    stream._reply.parts = parts
    assert next(stream)
    found = []
    thread = threading.Thread(target=lambda: found.append(model.complete(FRANCE, max_tokens=1)), daemon=True)
    thread.start()
    thread.join(60)
    assert found and stream.answer.finish_reason == "cancelled"


def test_a_failed_call_leaves_the_model_usable(model):
    with pytest.raises(EngineError, match="do not fit the context"):
        model.complete("word " * 2000)
    assert "Paris" in model.complete(FRANCE, temperature=0).text


def test_score_is_what_the_logits_say(model):
    text = "The capital of France is Paris."
    score = model.score(text)
    assert score.tokens == tuple(model.tokenize(text)) and score.log_probs[0] is None
    model.session.rewind(0)
    logs = scoring.log_softmax(model.session.eval_all(score.tokens))
    expected = [logs[i, token] for i, token in enumerate(score.tokens[1:])]
    assert score.log_probs[1:] == pytest.approx(expected)
    assert score.bits_per_byte == pytest.approx(-sum(expected) / 0.6931471805599453 / score.n_bytes)


def test_score_after_a_text_counts_its_own_tokens(model):
    good, bad = (model.score(word, after="The capital of France is") for word in (" Paris", " Rome"))
    assert good.log_prob > bad.log_prob and None not in good.log_probs
    assert good.n_bytes == 6


def test_a_text_longer_than_the_context_is_scored_once_everywhere(model):
    text = " ".join(["The capital of France is Paris."] * 200)
    score = model.score(text)
    assert len(score.tokens) > 2 * model.info.n_ctx
    assert len(score.log_probs) == len(score.tokens) and score.log_probs.count(None) == 1


def test_nothing_to_score_is_an_error(model):
    with pytest.raises(UsageError, match="none that can be scored"):
        model.score("")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temprature": 1}, "there is no setting 'temprature'"),
        ({"temprature": 1}, "did you mean temperature"),
        ({"top_p": 2}, "top_p cannot be 2: give a number from 0 to 1"),
        ({"max_tokens": -5}, "max_tokens cannot be -5"),
        ({"json_schema": {}, "grammar": 'root ::= "x"'}, "exclude each other"),
        ({"logprobs": True}, "logprobs is how many"),
    ],
)
def test_settings_are_checked(model, settings, message):
    with pytest.raises(UsageError, match=message):
        model.stream("x", **settings)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "there is nothing to answer"),
        (["hello"], r"messages\[0\] is not a mapping"),
        ([{"role": "king", "content": ""}], "has the role 'king'"),
        ([{"role": "user"}], "has no content"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "something that is not text"),
    ],
)
def test_messages_are_checked(model, messages, message):
    with pytest.raises(UsageError, match=message):
        model.complete(messages)


def test_a_closed_model_says_so():
    model = edgellm.load("tiny-llama3", n_ctx=64, n_threads=1)
    stream = model.stream("Once upon a time")
    next(stream)
    model.close()
    model.close()
    with pytest.raises(UsageError, match="this model is closed"):
        model.complete("x")
    with pytest.raises(UsageError, match="ended this stream"):
        next(stream)
    assert "closed" in repr(model)


@pytest.mark.parametrize("faster", [{"lookup": True}, {"draft": "tiny-qwen3"}], ids=["lookup", "draft"])
def test_guessing_ahead_changes_nothing(model, faster):
    with edgellm.load("tiny-qwen3", n_ctx=512, n_threads=1, **faster) as other:
        assert other.complete(FRANCE, temperature=0).text == model.complete(FRANCE, temperature=0).text
        counting = "one two three one two three one two"
        texts = [m.complete(counting, temperature=0, max_tokens=20).text for m in (other, model)]
        assert texts[0] == texts[1]
    with pytest.raises(UsageError, match="exclude each other"):
        edgellm.load("tiny-qwen3", lookup=True, draft="tiny-qwen3")


def test_an_isolated_model_answers_again_after_a_crash():
    """In the middle of an answer, and between two: the call that meets it is an error, the next one works."""
    with edgellm.load("tiny-qwen3", n_ctx=512, n_threads=1, isolated=True) as other:
        expected, chat = other.complete(FRANCE, temperature=0).text, other.chat()
        chat.ask("Hello", max_tokens=3, seed=1).text  # noqa: B018
        stream = other.stream("Once", ignore_eos=True, max_tokens=400)
        next(stream)
        os.kill(other.session.pid, signal.SIGSEGV)
        with pytest.raises(EngineError, match="died of SIGSEGV"):
            list(stream)
        assert other.complete(FRANCE, temperature=0).text == expected
        os.kill(other.session.pid, signal.SIGKILL)
        with pytest.raises(EngineError, match="died of SIGKILL"):
            chat.ask("What is the capital of France?")
        answer = chat.ask("What is the capital of France?", temperature=0).answer
        assert answer.usage.n_cached == 0 and len(chat.messages) == 4


def test_an_isolated_model_answers_the_same(model):
    with edgellm.load("tiny-qwen3", n_ctx=512, n_threads=1, isolated=True) as other:
        assert other.complete(FRANCE, temperature=0).text == model.complete(FRANCE, temperature=0).text
