"""A model's own draft head in llama.cpp: what it is given, what it says, and that answers stay what they are."""

import numpy as np
import pytest
import sequences
import tiny_hybrid
from click.testing import CliRunner
from tiny_hybrid import Hybrid

import edgellm
from edgellm import backends
from edgellm.backends import worker
from edgellm.backends.llama import memory_estimate
from edgellm.cli import run
from edgellm.errors import EngineError, UsageError
from edgellm.formats.artifact import Artifact
from edgellm.generation import generate
from edgellm.generation.draft_length import DraftLength
from edgellm.generation.generate import GenerateOptions
from edgellm.generation.speculative import Lookup, SelfDraft
from edgellm.session import GREEDY, EngineOptions, Sampling

OPTIONS = EngineOptions(n_ctx=512, n_threads=1, device="cpu", mtp=True)
HYBRID = Hybrid(n_nextn=1)
N_VOCAB = len(HYBRID.tokens)


class Eager(DraftLength):
    """Draft whenever there is something to draft, as timing on a busy machine may not."""

    def step(self, available: int, match: int, *, growing: bool = True) -> int:
        return 1 if available else 0


def chain(reads: str):
    """Weights of a model whose layers do nothing: after id x comes NEXT[x], whatever was before.

    Its draft head takes either the id it is given (`e`), or the model's hidden state before that id (`h`), and is
    right only if it is given the very ones it was made for.
    """
    rng = np.random.default_rng(1)
    following = np.roll(rng.permutation(N_VOCAB), 1)
    ids = rng.standard_normal((N_VOCAB, HYBRID.n_embd))
    ids /= np.sqrt(np.square(ids).mean(-1, keepdims=True))

    def change(name: str, data: np.ndarray) -> np.ndarray:
        if name.endswith(("attn_output.weight", "ssm_out.weight", "ffn_down.weight")):
            return np.zeros_like(data)
        if name.endswith("norm.weight"):
            return np.ones_like(data)
        if name == "token_embd.weight":
            return ids
        if name == "output.weight" or (name.endswith("head.weight") and reads == "e"):
            return rows(following, ids)
        if name.endswith("head.weight"):
            return rows(following[following], ids)
        if name.endswith("eh_proj.weight"):
            none, same = np.zeros((HYBRID.n_embd,) * 2), np.eye(HYBRID.n_embd)
            return np.hstack([same, none] if reads == "e" else [none, same])
        return data

    return change


def rows(target: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """A head that says target[x] for the state of x."""
    head = np.empty_like(ids)
    head[target] = ids
    return head


@pytest.fixture(scope="module")
def artifact(tmp_path_factory) -> Artifact:
    return Artifact.open(tiny_hybrid.write(tmp_path_factory.mktemp("mtp") / "m.gguf", HYBRID))


def answer(session, n_prompt: int, drafter=None, **options):
    session.rewind(0)
    todo = {"sampling": GREEDY, "max_tokens": 60, "ignore_eos": True, **options}
    prompt = [(7 * i) % 250 for i in range(n_prompt)]
    return generate.stream(session, prompt, GenerateOptions(**todo, drafter=drafter)).completion.tokens


@pytest.mark.parametrize("reads", ["e", "h"])
@pytest.mark.parametrize("n_prompt", [1, 2, 31, 33, 200])
def test_a_head_that_is_right_is_always_accepted(reads, n_prompt, tmp_path, monkeypatch):
    path = tiny_hybrid.write(tmp_path / "chain.gguf", HYBRID, change=chain(reads))
    evaluated = []
    with backends.open_session(Artifact.open(path), OPTIONS) as session:
        plain = answer(session, n_prompt)
        assert len(set(plain)) > 40  # one after the other, not one for ever
        lib = session._lib

        class Counting:
            def __getattr__(self, name):
                return getattr(lib, name)

            def llama_decode(self, context, batch):
                evaluated.append(batch.n_tokens)
                return lib.llama_decode(context, batch)

        monkeypatch.setattr(session, "_lib", Counting())
        assert answer(session, n_prompt, SelfDraft(Eager())) == plain
    assert sum(n == 2 for n in evaluated) >= 29  # 59 ids in pairs: the one drawn and the one foretold
    assert sum(n == 1 for n in evaluated) <= 3


@pytest.mark.parametrize("isolated", [False, True], ids=["here", "worker"])
def test_a_head_that_is_mostly_wrong_changes_nothing(artifact, isolated):
    with (worker.open_isolated if isolated else backends.open_session)(artifact, OPTIONS) as session:
        for n_prompt in (1, 40, 300):
            for sampling in (GREEDY, Sampling(seed=3, temperature=0.7)):
                plain = answer(session, n_prompt, sampling=sampling)
                assert answer(session, n_prompt, SelfDraft(Eager()), sampling=sampling) == plain
            ids = list(session.tokens)
            session.rewind(len(ids) - 1)
            found = session.eval([9]).copy()
            with backends.open_session(artifact, OPTIONS) as fresh:
                assert sequences.difference(found, fresh.eval([*ids[:-1], 9])) < 1e-5


def test_the_same_head_serves_the_next_answer_after_a_rewind(tmp_path):
    path = tiny_hybrid.write(tmp_path / "chain.gguf", HYBRID, change=chain("h"))
    drafter = SelfDraft(Eager())
    with backends.open_session(Artifact.open(path), OPTIONS) as session:
        for n_prompt in (50, 20, 90):
            session.eval([1, 2, 3])
            assert answer(session, n_prompt, drafter) == answer(session, n_prompt)


def test_what_is_missing_is_said(artifact, tmp_path):
    plain = Artifact.open(tiny_hybrid.write(tmp_path / "plain.gguf"))
    with pytest.raises(EngineError, match=r"no block that drafts \(MTP\)"):
        backends.open_session(plain, OPTIONS)
    without = EngineOptions(n_ctx=64, n_threads=1, device="cpu")
    with (
        backends.open_session(artifact, without) as session,
        pytest.raises(UsageError, match="or it was not loaded"),
    ):
        answer(session, 5, SelfDraft())


@pytest.mark.parametrize("drafter", [SelfDraft, Lookup])
@pytest.mark.parametrize("between", [lambda _: None, lambda session: session.rewind(2)], ids=["", "rewound"])
def test_a_stream_left_open_and_a_session_closed_under_it(artifact, drafter, between):
    session = backends.open_session(artifact, OPTIONS)
    ids = session.stream([1, 2, 3, 1, 2, 3, 1, 2], GREEDY, drafter=drafter(Eager()))
    next(ids)
    next(ids)
    between(session)
    session.close()
    with pytest.raises((EngineError, StopIteration)):
        next(ids)
    session.close()


def test_from_python_and_from_the_command_line(tmp_path, capsys):
    path = tiny_hybrid.write(tmp_path / "chain.gguf", HYBRID, change=chain("h"))
    told = {"temperature": 0, "max_tokens": 30, "ignore_eos": True}
    with edgellm.load(path, n_ctx=256) as plain, edgellm.load(path, n_ctx=256, draft="mtp") as model:
        assert model.session.info.options.mtp and not plain.session.info.options.mtp
        assert model.complete("abc", **told).tokens == plain.complete("abc", **told).tokens
    arguments = [str(path), "-p", "abc", "--temp", "0", "-n", "30", "--ignore-eos", "-c", "256", "--no-tune"]
    shown = [
        CliRunner().invoke(run.command, [*arguments, *more], catch_exceptions=False)
        for more in ((), ("--draft", "mtp"))
    ]
    assert shown[0].exit_code == shown[1].exit_code == 0 and shown[0].stdout == shown[1].stdout


def test_what_the_block_takes_is_foretold(artifact):
    with backends.open_session(artifact, OPTIONS) as session:
        logged = session.info.buffers
        predicted = memory_estimate.predict(artifact, session.info.options)
    assert abs(predicted.weights - logged.weights) < 0.02 * logged.weights
    assert abs(predicted.kv - logged.kv) <= 0.011 * 2**20
