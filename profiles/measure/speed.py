"""Timing a session: the clock is read around its calls and nowhere else, and nothing is computed in between.

Definitions. prefill: prompt ids handed over until the first token is in hand (evaluation and one sampling).
TTFT: tokenization of the prompt text, then prefill. decode: from the first token to the last, n - 1 gaps.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

from edgellm.errors import EngineError
from edgellm.profiles.measure.prompt import Prompt
from edgellm.profiles.result.result import Repetition
from edgellm.session import Sampling, Session

#: Called at the start, at the first token and at the end of a repetition, outside every timed span.
Boundary = Callable[[], None]


def _no_boundary() -> None:
    pass


@contextmanager
def quiet_collector() -> Iterator[None]:
    """No garbage collection inside; what has piled up is collected before."""
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def repetition(
    session: Session, prompt: Prompt, n_gen: int, sampling: Sampling, boundary: Boundary = _no_boundary
) -> Repetition:
    """One pass from the prompt's depth: tokenize, prefill, decode `n_gen` tokens whatever they are.

    `boundary` may read a meter; its own time is in no figure. Raises EngineError when the context is too
    small for prompt and answer.
    """
    clock, n_gaps = time.perf_counter_ns, max(n_gen - 1, 0)
    stamps = [0] * n_gaps
    to_depth(session, prompt)
    with quiet_collector():
        begin = clock()
        session.tokenize(prompt.text, special=False)
        tokenized = clock()
        boundary()
        start = clock()
        stream = session.stream(prompt.tokens, sampling)
        _draw(stream)
        first = clock()
        boundary()
        resumed = clock()
        for index in range(n_gaps):
            _draw(stream)
            stamps[index] = clock()
        boundary()
    close_stream(stream)
    return Repetition(
        tokenize_ns=tokenized - begin,
        prefill_ns=first - start,
        gaps_ns=tuple(b - a for a, b in pairwise((resumed, *stamps))),
    )


def to_depth(session: Session, prompt: Prompt) -> None:
    """Leave in the cache what comes before the prompt, and nothing else; read it if it is not there."""
    n_depth = len(prompt.before)
    if len(session.tokens) < n_depth:
        session.rewind(0)
        session.eval(prompt.before)
    session.rewind(n_depth)


def prefill_only(session: Session, prompt: Prompt) -> int:
    """Read the prompt once, for meters that need a longer window. Returns tokens read."""
    to_depth(session, prompt)
    session.eval(prompt.tokens)
    return len(prompt.tokens)


def decode_only(session: Session, prompt: Prompt, n_gen: int, sampling: Sampling) -> int:
    """Decode `n_gen` tokens after the prompt, which is read first if it is not in the cache. Returns tokens decoded."""
    n_before = len(prompt.before) + len(prompt.tokens)
    if len(session.tokens) < n_before:
        prefill_only(session, prompt)
    session.rewind(n_before - 1)
    stream = session.stream(prompt.tokens[-1:], sampling)
    for _ in range(n_gen):
        _draw(stream)
    close_stream(stream)
    return n_gen


def _draw(stream: Iterator[int]) -> None:
    if next(stream, None) is None:
        raise EngineError("the context filled up before the answer was complete; lower -p or -n, or raise -c")


def close_stream(stream: Iterator[int]) -> None:
    """End a generator early, so that the engine's sampler is freed now and not at some collection."""
    close = getattr(stream, "close", None)
    if close is not None:
        close()
