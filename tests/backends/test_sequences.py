"""After any sequence of appends, rewinds, drafts, branches, saves, restores and cancels, logits are a fresh session's.

`EDGELLM_SEQUENCES=1000` runs so many sequences a model; `python bench/sequences.py` counts them.
"""

import os

import numpy as np
import pytest
import sequence_models
import sequences
from sequence_models import SMALL

from edgellm import backends
from edgellm.backends.llama import opening
from edgellm.backends.llama.sequence.recurrent import Recurrent
from edgellm.session import EngineOptions

N = int(os.environ.get("EDGELLM_SEQUENCES", "2"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    kept = {}

    def get(name: str):
        if name not in kept:
            kept[name] = SMALL[name](tmp_path_factory.mktemp("model"))
        return kept[name]

    return get


@pytest.mark.parametrize("name", SMALL)
def test_a_session_is_what_its_tokens_say(made, name):
    for seed in range(N):
        sequences.run(made(name), sequences.options_of(seed), seed)


def trusting(recurrent: Recurrent, n: int) -> int:
    """A way back that takes llama_memory_seq_rm at its word."""
    recurrent.kept.forget_beyond(n)
    cut = recurrent._lib.llama_memory_seq_rm
    return n if cut(recurrent._memory, 0, n, -1) else 0 * cut(recurrent._memory, 0, -1, -1)


@pytest.fixture
def with_snapshots(monkeypatch):
    """Contexts that hold four states back, so that seq_rm says yes."""
    plain = opening.new_context

    def snapshots(lib, *args):
        class Library:
            def __getattr__(self, name):
                return getattr(lib, name)

            def llama_context_default_params(self):
                params = lib.llama_context_default_params()
                params.n_rs_seq = 4
                return params

        return plain(Library(), *args)

    monkeypatch.setattr(opening, "new_context", snapshots)


def test_snapshots_in_the_context_change_nothing(made, with_snapshots):
    for seed in range(N):
        sequences.run(made("qwen35-alternating:gguf"), sequences.options_of(seed), seed)


def test_a_session_that_trusts_seq_rm_is_caught(made, with_snapshots, monkeypatch):
    monkeypatch.setattr(Recurrent, "back", trusting)
    caught = sum(wrong(made("qwen35-alternating:gguf"), seed) for seed in range(20))
    assert caught >= 4


def wrong(artifact, seed: int) -> bool:
    try:
        sequences.run(artifact, sequences.options_of(seed), seed)
    except sequences.Wrong:
        return True
    return False


def test_a_yes_of_seq_rm_can_be_wrong(made, with_snapshots):
    """What all this is for: a token decoded alone, taken back by the library's own call."""
    options = EngineOptions(n_ctx=64, n_threads=1, device="cpu")
    with backends.open_session(made("qwen35-alternating:gguf"), options) as session:
        session.eval([1, 2, 3, 4, 5])
        expected = session.eval([7]).copy()
        session.rewind(5)
        session.eval([6])
        assert session._lib.llama_memory_seq_rm(session._memory, 0, 5, -1)
        del session._tokens[5:]
        assert sequences.difference(session.eval([7]), expected) > 1e-3


def test_a_window_that_a_saved_state_has_not_whole_is_evaluated_again(made):
    """Gemma's layers with a window of 32: the state has their last tokens, seq_rm to before these says yes."""
    artifact, ids = made("gemma3:gguf"), [(7 * i) % 250 for i in range(200)]
    options = EngineOptions(n_ctx=256, n_threads=1, device="cpu")
    with backends.open_session(artifact, options) as session:
        session.eval(ids)
        state = session.save_state()
        for n in (199, 190, 175, 150, 20):
            session.rewind(0)
            expected = session.eval([*ids[:n], 9]).copy()
            session.restore_state(state, ids)
            kept = session.reusable(n)
            session.rewind(n)
            assert list(session.tokens) == ids[:n] and kept == (n if n == 199 else 0)
            assert sequences.difference(session.eval([9]), expected) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", sequence_models.BUNDLED)
def test_a_bundled_model_is_what_its_tokens_say(name, tmp_path):
    artifact = sequence_models.BUNDLED[name](tmp_path)
    for seed in range(N):
        assert np.isfinite(sequences.run(artifact, sequences.options_of(seed), seed))
