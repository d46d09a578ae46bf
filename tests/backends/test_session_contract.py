"""What every session promises, held against all backends and the worker, on small random models."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import tinymodels
from onnx_helpers import nmse

from edgellm import backends
from edgellm.backends import worker
from edgellm.catalog import conversion
from edgellm.errors import EngineError
from edgellm.formats.artifact import Artifact
from edgellm.generation.speculative import Lookup
from edgellm.session import GREEDY, EngineOptions, Sampling, Session

OPTIONS = EngineOptions(n_ctx=128, n_threads=1)
QUANTS = {"llama": "F16", "ort": "onnx-fp32"}
HOT = Sampling(temperature=2.0, top_k=0, top_p=1.0, min_p=0.0)
BOUNDS = {"gguf": 1e-5, "onnx": 1e-8}  # relative squared error between kernels for one token and for many
OPENERS = {"here": backends.open_session, "worker": worker.open_isolated}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return tinymodels.write(tinymodels.CASES["llama"], tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module", params=backends.names())
def artifact(request, source, tmp_path_factory) -> Artifact:
    quant = QUANTS[request.param]
    output = tmp_path_factory.mktemp(request.param) / (quant if quant.startswith("onnx") else "tiny.gguf")
    return conversion.convert_checkpoint(source, output, quant)


@pytest.fixture(scope="module", params=sorted(OPENERS))
def opened(request, artifact):
    with OPENERS[request.param](artifact, OPTIONS) as session:
        yield session


@pytest.fixture
def session(opened) -> Session:
    opened.rewind(0)
    return opened


def first(session: Session, tokens: list[int], n: int, sampling: Sampling = GREEDY) -> list[int]:
    ids = session.stream(tokens, sampling)
    return [next(ids) for _ in range(n)]


def test_logits_do_not_depend_on_how_tokens_are_batched(session):
    tokens = list(range(1, 40))
    whole = session.eval_all(tokens)
    session.rewind(0)
    session.eval(tokens[:7])
    parts = session.eval(tokens[7:])
    assert whole.shape == (39, session.info.n_vocab)
    assert nmse(parts, whole[-1]) < BOUNDS[session.artifact.format]
    assert list(session.tokens) == tokens


def test_rewind_is_as_if_the_rest_never_was(session):
    before = session.eval([1, 2, 3, 4]).copy()
    session.eval([5, 6, 7])
    session.rewind(3)
    assert list(session.tokens) == [1, 2, 3]
    assert nmse(session.eval([4]), before) < BOUNDS[session.artifact.format]
    with pytest.raises(EngineError, match="cannot rewind to 9"):
        session.rewind(9)


def test_greedy_takes_the_largest_logit(session):
    best = int(np.argmax(session.eval([1, 2, 3])))
    session.rewind(0)
    assert first(session, [1, 2, 3], 1) == [best]


def test_a_seed_repeats_and_another_differs(session):
    def draw(seed: int) -> list[int]:
        session.rewind(0)
        return first(session, [1, 2, 3], 20, dataclasses.replace(HOT, seed=seed))

    for seed in (0, 1, 2**31, 2**32 - 2, 2**32 - 1, 2**32, -1, 2**70 + 5):  # 2^32 - 1 is "none" to llama.cpp
        assert draw(seed) == draw(seed)
    assert len({tuple(draw(seed)) for seed in (0, 1, 2, 2**31, 2**32 - 2)}) == 5


def test_without_a_seed_every_answer_is_another(session):
    def draw() -> list[int]:
        session.rewind(0)
        return first(session, [1, 2, 3], 20, HOT)

    assert len({tuple(draw()) for _ in range(3)}) == 3


def test_top_k_one_is_greedy_at_any_temperature(session):
    greedy = first(session, [1, 2, 3], 8)
    session.rewind(0)
    assert first(session, [1, 2, 3], 8, Sampling(temperature=5.0, top_k=1, seed=3)) == greedy


def test_a_repetition_penalty_that_is_absolute_forbids_repeats(session):
    sampling = Sampling(temperature=0.0, repeat_penalty=1e9, repeat_last_n=64)
    drawn = first(session, [1, 2, 3], 30, sampling)
    assert len(set(drawn)) == len(drawn)


def test_a_stream_appends_a_token_only_when_the_next_is_asked_for(session):
    ids = session.stream([1, 2, 3], GREEDY)
    drawn = [next(ids), next(ids)]
    assert list(session.tokens) == [1, 2, 3, drawn[0]]
    ids.close()


def test_the_stream_ends_when_the_context_is_full(session):
    room = session.info.n_ctx - 3
    assert len(list(session.stream([1, 2, 3], GREEDY))) == room + 1
    assert len(session.tokens) == session.info.n_ctx
    with pytest.raises(EngineError, match="do not fit the context"):
        session.eval([1])


def test_state_round_trip(session, artifact):
    session.eval([1, 2, 3, 4, 5])
    state = session.save_state()
    expected = first(session, [6], 5)
    session.rewind(0)
    session.restore_state(state, [1, 2, 3, 4, 5])
    assert first(session, [6], 5) == expected
    with backends.open_session(artifact, OPTIONS) as other:
        other.restore_state(state, [1, 2, 3, 4, 5])
        assert first(other, [6], 5) == expected


def test_ids_outside_the_vocabulary_are_refused(session):
    for token in (-1, session.info.n_vocab):
        with pytest.raises(EngineError, match=f"token id {token} is outside"):
            session.eval([1, token])


def test_an_empty_prompt_is_refused(session):
    for call in (
        session.eval,
        session.eval_all,
        session.hidden,
        lambda ids: next(session.stream(ids, GREEDY)),
    ):
        with pytest.raises(EngineError, match="prompt is empty"):
            call([])


def test_text_comes_back_from_its_tokens(session):
    text = "The quick brown fox's 1234 你好，世界 🎉\r\n\t é 👩‍👩‍👧"
    ids = session.tokenize(text)
    assert b"".join(map(session.piece, ids)).decode() == text
    assert session.tokenize(text, add_bos=True)[1:] == ids


def test_a_text_that_begins_with_bos_gets_no_second_one(session):
    (bos,) = session.tokenize("<|begin_of_text|>")
    assert session.tokenize("hi", add_bos=True) == [bos, *session.tokenize("hi")]
    assert session.tokenize("<|begin_of_text|>hi", add_bos=True) == [bos, *session.tokenize("hi")]
    assert session.tokenize("<|begin_of_text|>", add_bos=True) == [bos]
    assert session.tokenize("", add_bos=True) == [bos]
    plain = session.tokenize("<|begin_of_text|>hi", special=False, add_bos=True)
    assert plain == [bos, *session.tokenize("<|begin_of_text|>hi", special=False)]


def test_control_tokens_are_one_id_or_plain_text(session):
    (eot,) = session.tokenize("<|eot_id|>")
    assert session.piece(eot) == b"" and eot in session.info.eos_ids
    plain = session.tokenize("<|eot_id|>", special=False)
    assert b"".join(map(session.piece, plain)) == b"<|eot_id|>"


def test_hidden_states_leave_the_sequence_as_evaluating_does(session):
    tokens = list(range(1, 90))
    expected = session.eval(tokens).copy()
    session.rewind(0)
    states = session.hidden(tokens[:-1])
    assert states.shape[0] == 88 and np.isfinite(states).all()
    assert list(session.tokens) == tokens[:-1]
    assert nmse(session.eval(tokens[-1:]), expected) < BOUNDS[session.artifact.format]
    session.rewind(0)
    parts = [session.hidden(tokens[:5]), session.hidden(tokens[5:88])]
    assert nmse(np.concatenate(parts), states) < BOUNDS[session.artifact.format]


def test_the_worker_gives_the_same_numbers(artifact):
    with (
        worker.open_isolated(artifact, OPTIONS) as isolated,
        backends.open_session(artifact, OPTIONS) as here,
    ):
        np.testing.assert_array_equal(isolated.eval_all([1, 2, 3]), here.eval_all([1, 2, 3]))
        np.testing.assert_array_equal(isolated.hidden([4, 5]), here.hidden([4, 5]))
        assert first(isolated, [4], 10) == first(here, [4], 10)
        assert isolated.info == here.info


@pytest.mark.parametrize("drafter", [lambda: None, Lookup], ids=["plain", "drafting"])
@pytest.mark.parametrize("opener", OPENERS.values(), ids=OPENERS)
def test_a_closed_session_is_an_error_not_a_crash(opener, artifact, drafter):
    session = opener(artifact, OPTIONS)
    ids = session.stream([1, 2, 3], GREEDY, drafter=drafter())
    next(ids)
    session.close()
    session.close()
    for call in (
        lambda: next(ids),
        lambda: session.eval([1]),
        lambda: session.hidden([1]),
        session.save_state,
    ):
        with pytest.raises((EngineError, StopIteration)):
            call()


def test_every_engine_finds_the_same(source, tmp_path):
    """Logits, hidden states and greedy tokens of all backends, from one checkpoint."""
    tokens, found = list(range(1, 30)), {}
    for name in backends.names():
        quant = QUANTS[name]
        output = tmp_path / (f"{name}" if quant.startswith("onnx") else f"{name}.gguf")
        artifact = conversion.convert_checkpoint(source, output, quant)
        with backends.open_session(artifact, OPTIONS) as session:
            states = session.hidden(tokens)
            session.rewind(0)
            found[name] = (session.eval_all(tokens), states)
    reference = found.pop("ort")
    for logits, states in found.values():
        assert nmse(logits, reference[0]) < 1e-4 and nmse(states, reference[1]) < 1e-4


@pytest.mark.parametrize("field", ["n_threads", "n_threads_batch"])
@pytest.mark.parametrize("opener", OPENERS.values(), ids=OPENERS)
def test_more_threads_than_processors_are_fewer_and_said(opener, field, artifact):
    """llama.cpp aborts the process at 513; ONNX Runtime would start them all."""
    most = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    options = EngineOptions(n_ctx=128, **{"n_threads": 1, field: 100_000})
    with opener(artifact, options) as session:
        assert session.info.options.n_threads <= most and session.info.options.n_threads_batch <= most
        assert np.isfinite(session.eval([1, 2, 3])).all()
        said = [note for note in session.info.notes if "100,000 threads reduced to" in note]
        if field == "n_threads" or artifact.format == "gguf":  # ONNX Runtime has one number for both
            assert said == [f"100,000 threads reduced to {most}: there are no more processors"]


def test_a_context_above_the_trained_window_is_said(artifact):
    train = artifact.n_ctx_train
    for n_ctx, expected in ((train, 0), (train + 256, 1)):
        with backends.open_session(artifact, EngineOptions(n_ctx=n_ctx, n_threads=1)) as session:
            notes = [note for note in session.info.notes if "context" in note]
            assert len(notes) == expected
            assert all(f"{train}" in note and f"{n_ctx}" in note for note in notes)
