"""A stream that is to end stops the engine where it is: between ids, between chunks of a prompt, and within one."""

import threading
from typing import ClassVar

import numpy as np
import pytest

from edgellm import backends
from edgellm.backends import worker
from edgellm.backends.llama.observe import Observer
from edgellm.backends.llama.session import LlamaCppSession
from edgellm.catalog import first_use
from edgellm.errors import CancelledError
from edgellm.generation import generate
from edgellm.generation.generate import GenerateOptions
from edgellm.session import GREEDY, Cancel, EngineOptions

OPTIONS = EngineOptions(n_ctx=512, n_threads=1, n_batch=32, n_ubatch=32)
PROMPT = list(range(100, 400))


@pytest.fixture(scope="module", params=["tiny-qwen3", "tiny-qwen3:onnx-int4"])
def artifact(request):
    return first_use.resolve(request.param)


@pytest.fixture(scope="module", params=["here", "worker"])
def session(request, artifact):
    opener = {"here": backends.open_session, "worker": worker.open_isolated}[request.param]
    with opener(artifact, OPTIONS) as session:
        yield session


class After(Cancel):
    """Is set at the n-th look."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n_left = n

    def check(self, n_tokens: int = 0) -> None:
        self.n_left -= 1
        if not self.n_left:
            self.set()
        super().check(n_tokens)


def works(session) -> bool:
    """Whether the logits are those of a session that nothing happened to."""
    session.rewind(0)
    found = np.array(session.eval(PROMPT[:20]))
    session.rewind(0)
    return bool(np.array_equal(found, session.eval(PROMPT[:20])) and len(session.tokens) == 20)


def test_a_wish_before_the_start_evaluates_nothing(session):
    session.rewind(0)
    cancel = Cancel()
    cancel.set()
    with pytest.raises(CancelledError):
        next(session.stream(PROMPT, GREEDY, cancel=cancel))
    assert list(session.tokens) == []
    assert works(session)


def test_a_prompt_says_how_far_it_is_read(session):
    class Looks(Cancel):
        seen: ClassVar[list[int]] = []

        def check(self, n_tokens: int = 0) -> None:
            self.seen.append(n_tokens)
            super().check(n_tokens)

    session.rewind(0)
    next(session.stream(PROMPT, GREEDY, cancel=Looks()))
    child = isinstance(session, worker.WorkerSession)  # whose engine says it there
    assert Looks.seen == ([] if child else list(range(0, 300, 32)))
    session.rewind(0)
    generation = generate.stream(session, PROMPT, GenerateOptions(ignore_eos=True))
    next(generation)
    assert generation.read == (0 if child else 288, 300)
    generation.close()


def test_a_wish_between_two_ids_ends_the_next_evaluation(session):
    session.rewind(0)
    cancel = Cancel()
    ids = session.stream(PROMPT[:9], GREEDY, cancel=cancel)
    next(ids)
    cancel.set()
    with pytest.raises(CancelledError):
        next(ids)
    assert list(session.tokens) == PROMPT[:9]
    assert works(session)


def test_a_prompt_is_left_between_two_chunks(artifact):
    with backends.open_session(artifact, OPTIONS) as session:
        with pytest.raises(CancelledError):
            next(session.stream(PROMPT, GREEDY, cancel=After(4)))
        assert list(session.tokens) == PROMPT[: 3 * 32]
        assert works(session)


def test_a_wish_of_a_stream_that_has_ended_concerns_no_other(session):
    session.rewind(0)
    cancel = Cancel()
    ended = session.stream(PROMPT[:9], GREEDY, cancel=cancel)
    next(ended)
    ended.close()
    session.rewind(0)
    following = session.stream(PROMPT[:9], GREEDY, cancel=Cancel())
    next(following)
    cancel.set()
    assert len([next(following) for _ in range(5)]) == 5
    following.close()
    assert works(session)


def test_a_child_is_stopped_while_it_reads_the_prompt(artifact):
    """By another thread, at whatever moment: at one of them at least, within the prompt."""
    with worker.open_isolated(artifact, OPTIONS) as session:
        lengths = []
        for seconds in (0.0, 0.001, 0.003, 0.006) * 5:
            session.rewind(0)
            cancel = Cancel()
            timer = threading.Timer(seconds, cancel.set)
            timer.start()
            try:
                next(session.stream(PROMPT, GREEDY, cancel=cancel))
            except CancelledError:
                lengths.append(len(session.tokens))
                assert list(session.tokens) == PROMPT[: lengths[-1]]
            timer.join()
            assert works(session)
        assert lengths and min(lengths) < len(PROMPT)


def test_a_child_can_be_stopped_where_nothing_can_be_written(artifact, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/nonexistent")
    with worker.open_isolated(artifact, OPTIONS) as session:
        cancel = Cancel()
        for n, _ in enumerate(session.stream(PROMPT[:9], GREEDY, cancel=cancel), 1):
            cancel.set()
            if n == 3:  # the caller looks at it after every id (generate.py)
                break
        assert cancel.is_set and works(session)


def test_llama_stops_within_a_batch():
    """The wish comes at the first matrix product; the rest of the graph is not computed."""
    artifact, cancel, seen = first_use.resolve("tiny-qwen3"), Cancel(), []

    def wanted(product) -> bool:
        seen.append(product.weight)
        cancel.set()
        return False

    options = EngineOptions(n_ctx=512, n_threads=1, n_batch=512, n_ubatch=512)
    with backends.open_session(artifact, options) as plain:
        expected = np.array(plain.eval(PROMPT))
        settled = plain.info.options
    with LlamaCppSession(artifact, settled, Observer(wanted, lambda *_: None)) as session:
        with pytest.raises(CancelledError):
            next(session.stream(PROMPT, GREEDY, cancel=cancel))
        assert seen and list(session.tokens) == []
        assert np.array_equal(session.eval(PROMPT), expected)
