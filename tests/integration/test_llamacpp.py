"""The llama.cpp session on a real, small random model: what it promises beyond one call."""

import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from edgellm import backends, worker
from edgellm.artifact import Artifact
from edgellm.backends import _canary, _canary_child
from edgellm.errors import ArtifactError, EngineCrashError, EngineError
from edgellm.session import GREEDY, EngineOptions, Sampling

N_VOCAB = 512
OPTIONS = EngineOptions(n_ctx=128, n_threads=1)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory) -> Artifact:
    path = tmp_path_factory.mktemp("model") / "random.gguf"
    _canary_child.write_model(path)
    return Artifact(path, "gguf", "llama", "random", "Q4_0", path.stat().st_size, 128, None)


@pytest.fixture
def session(artifact):
    with backends.open_session(artifact, OPTIONS) as session:
        yield session


def first(session, tokens, n, sampling=GREEDY) -> list[int]:
    ids = session.stream(tokens, sampling)
    return [next(ids) for _ in range(n)]


def test_logits_do_not_depend_on_how_tokens_are_batched(session):
    tokens = list(range(1, 40))
    whole = session.eval_all(tokens)
    session.rewind(0)
    session.eval(tokens[:7])
    parts = session.eval(tokens[7:])
    assert whole.shape == (39, N_VOCAB)
    assert (
        np.sum((whole[-1] - parts) ** 2) / np.sum(whole[-1] ** 2) < 1e-3
    )  # 8-bit activations, other kernels
    assert list(session.tokens) == tokens


def test_a_prompt_longer_than_an_odd_context_size_does_not_abort(artifact):
    """llama.cpp rounds the context up but cuts its batches to what was asked for."""
    with backends.open_session(artifact, EngineOptions(n_ctx=100, n_threads=1)) as session:
        session.eval([1] * min(session.info.n_ctx, 120))
        assert len(session.tokens) == min(session.info.n_ctx, 120)


def test_rewind_is_as_if_the_rest_never_was(session):
    before = session.eval([1, 2, 3, 4]).copy()
    session.eval([5, 6, 7])
    session.rewind(3)
    after = session.eval([4])
    np.testing.assert_allclose(before, after, rtol=0, atol=1e-2 * np.abs(before).max())
    with pytest.raises(EngineError, match="cannot rewind to 9"):
        session.rewind(9)


def test_greedy_takes_the_largest_logit(session):
    best = int(np.argmax(session.eval([1, 2, 3])))
    session.rewind(0)
    assert first(session, [1, 2, 3], 1) == [best]


def test_a_seed_repeats_and_another_differs(session):
    def draw(seed: int) -> list[int]:
        session.rewind(0)
        return first(
            session, [1, 2, 3], 20, Sampling(temperature=2.0, top_k=0, top_p=1.0, min_p=0.0, seed=seed)
        )

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_top_k_one_is_greedy_at_any_temperature(session):
    greedy = first(session, [1, 2, 3], 8)
    session.rewind(0)
    assert first(session, [1, 2, 3], 8, Sampling(temperature=5.0, top_k=1, seed=3)) == greedy


def test_repetition_penalty_forbids_repeats_when_absolute(session):
    sampling = Sampling(temperature=0.0, repeat_penalty=1e9, repeat_last_n=64)
    drawn = first(session, [1, 2, 3], 30, sampling)
    assert len(set(drawn)) == len(drawn)


def test_the_stream_ends_when_the_context_is_full(artifact):
    with backends.open_session(artifact, EngineOptions(n_ctx=32, n_threads=1)) as session:
        n_ctx = session.info.n_ctx
        drawn = list(session.stream([1, 2, 3], GREEDY))
        assert len(drawn) == n_ctx - 3 + 1
        with pytest.raises(EngineError, match="do not fit the context"):
            session.eval([1])


def test_state_round_trip(session):
    session.eval([1, 2, 3, 4, 5])
    state = session.save_state()
    expected = first(session, [6], 5)
    session.rewind(0)
    session.restore_state(state, [1, 2, 3, 4, 5])
    assert first(session, [6], 5) == expected


@pytest.mark.parametrize("token", [-1, N_VOCAB])
def test_an_id_outside_the_vocabulary_is_refused(session, token):
    with pytest.raises(EngineError, match=f"token id {token} is outside"):
        session.eval([1, token])


def test_an_empty_prompt_is_refused(session):
    with pytest.raises(EngineError, match="prompt is empty"):
        session.eval([])


def test_a_file_that_is_no_model_is_refused(tmp_path):
    path = tmp_path / "not.gguf"
    path.write_bytes(b"hello, I am not a model")
    with pytest.raises(ArtifactError, match=r"not\.gguf"):
        Artifact.open(path)


def test_the_worker_is_the_same_session(artifact, session):
    with worker.open_isolated(artifact, OPTIONS) as isolated:
        np.testing.assert_array_equal(isolated.eval_all([1, 2, 3]), session.eval_all([1, 2, 3]))
        assert first(isolated, [4], 10) == first(session, [4], 10)
        assert list(isolated.tokens) == list(session.tokens)
        isolated.rewind(2)
        assert list(isolated.tokens) == [1, 2]
        with pytest.raises(EngineError, match="outside the vocabulary"):
            isolated.eval([N_VOCAB])
        assert isolated.info == session.info


def test_a_dead_worker_is_an_error(artifact):
    isolated = worker.WorkerSession(artifact, OPTIONS, None, None)
    isolated._child.send_signal(signal.SIGSEGV)
    with pytest.raises(EngineCrashError, match=r"random\.gguf died of SIGSEGV"):
        isolated.eval([1])


def test_a_worker_that_hangs_is_stopped(artifact):
    isolated = worker.WorkerSession(artifact, OPTIONS, 5.0, None)
    isolated._child.send_signal(signal.SIGSTOP)
    isolated._timeout = 0.2
    with pytest.raises(EngineCrashError, match=r"did not answer in 0\.2 s"):
        isolated.eval([1])


def test_the_canary_finds_this_build_working():
    verdict = _canary.run()
    assert verdict.plain_works
    assert verdict.repack_works, verdict.detail


def child(tmp_path: Path, code: str) -> list[str]:
    script = tmp_path / "child.py"
    script.write_text(code)
    return [sys.executable, str(script)]


def test_a_crash_in_repacked_kernels_turns_them_off(tmp_path):
    code = (
        'import os, signal\nprint(\'{"stage": "plain"}\', flush=True)\nos.kill(os.getpid(), signal.SIGILL)\n'
    )
    verdict = _canary.run(child(tmp_path, code))
    assert verdict.plain_works and not verdict.repack_works
    assert verdict.detail == "SIGILL"
    assert "CMAKE_ARGS" in verdict.note


def test_wrong_results_turn_repacking_off(tmp_path):
    code = 'print(\'{"stage": "plain"}\\n{"stage": "repack", "nmse": 0.5}\')\n'
    verdict = _canary.run(child(tmp_path, code))
    assert not verdict.repack_works
    assert verdict.detail == "wrong results, error 0.5"


def test_nan_results_turn_repacking_off(tmp_path):
    code = 'print(\'{"stage": "plain"}\\n{"stage": "repack", "nmse": NaN}\')\n'
    assert not _canary.run(child(tmp_path, code)).repack_works


def test_a_build_that_always_crashes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path / "cache"))
    dead = _canary.run(child(tmp_path, "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"))
    assert not dead.plain_works
    monkeypatch.setattr(_canary, "run", lambda: dead)
    _canary.verdict.cache_clear()
    with pytest.raises(EngineCrashError, match="crashes on this machine"):
        _canary.verdict()
    _canary.verdict.cache_clear()


def test_the_verdict_is_remembered(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path / "cache"))
    _canary.verdict.cache_clear()
    fresh = _canary.verdict()
    _canary.verdict.cache_clear()
    monkeypatch.setattr(_canary, "run", lambda: pytest.fail("ran again"))
    assert _canary.verdict() == fresh
    _canary.verdict.cache_clear()
