"""Random sequences of what a session can do, each step held against a fresh session fed the same ids.

    run(artifact, options, seed, n_steps)      # raises Wrong at the first difference

Truth is the list of ids alone. What a step leaves behind - KV cache, recurrent states, draft tokens, restored bytes -
shows in the logits of the next id, or not at all.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from unittest import mock

import numpy as np

from edgellm import backends
from edgellm.backends import checkpoints
from edgellm.errors import CancelledError
from edgellm.formats.artifact import Artifact
from edgellm.session import GREEDY, Cancel, EngineOptions, Session, reuse_prefix

#: Relative squared error between kernels for one token and for many: float16 caches, float32 ones.
BOUNDS = {"gguf": 1e-5, "onnx": 1e-8}
MOST = (
    1e-3  # where a model of random weights blows rounding up; a state that is another's is off by 0.01 to 2
)
STATED = 2e-3  # of the largest logit: how near two ids must be for rounding to choose between them


class Wrong(AssertionError):
    """A session that is not what its tokens say."""


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Relative squared error."""
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    return float(np.square(found - expected).sum() / np.square(expected).sum())


def near_tie(artifact: Artifact, prompt: Sequence[int], plain: Sequence[int], other: Sequence[int]) -> bool:
    """Whether the first ids that differ are the likeliest ones, and equally so to within rounding."""
    n = next(i for i, (a, b) in enumerate(zip(plain, other, strict=True)) if a != b)
    with backends.open_session(artifact, EngineOptions(n_ctx=1024, n_threads=1, device="cpu")) as fresh:
        logits = fresh.eval([*prompt, *plain[:n]])
        return bool(logits.max() - min(logits[plain[n]], logits[other[n]]) < STATED * np.abs(logits).max())


@dataclass
class MixedDrafter:
    """Drafts what a fresh session would draw, up to some place, and nonsense from there on."""

    truth: Sequence[int]
    rng: random.Random
    n_vocab: int
    at: int = 0
    n_drafted: int = 0

    def begin(self, session: Session) -> None:
        self.at = 0

    def take(self, token: int) -> None:
        self.at += 1

    def draft(self, room: int) -> Sequence[int]:
        n = min(room, self.rng.choice((0, 1, 2, 3, 5, 8, 15)))
        good = self.rng.randint(0, n)
        found = list(self.truth[self.at : self.at + good])
        found += [self.rng.randrange(self.n_vocab) for _ in range(n - len(found))]
        self.n_drafted += n
        return found

    def skip(self) -> None:
        pass

    def recipe(self) -> Callable[[], MixedDrafter]:
        return lambda: self


class After(Cancel):
    """Is set at the n-th look."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n_left = n

    def check(self, n_tokens: int = 0) -> None:
        self.n_left -= 1
        if self.n_left <= 0:
            self.set()
        super().check(n_tokens)


@dataclass
class Machine:
    """A session, the ids it should hold, and states saved on the way."""

    session: Session
    fresh: Session
    artifact: Artifact
    rng: random.Random
    ids: list[int] = field(default_factory=list)
    saved: list[tuple[bytes, list[int]]] = field(default_factory=list)
    bound: float = 0.0
    worst: float = 0.0
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.n_vocab, self.n_ctx = self.session.info.n_vocab, self.session.info.n_ctx
        self.bound = self.bound or BOUNDS[self.artifact.format]

    def some(self, n: int) -> list[int]:
        """`n` random ids, or fewer where the context ends; some of them a repetition."""
        n = min(n, self.n_ctx - len(self.ids) - 40)
        if self.ids and self.rng.random() < 0.3:
            start = self.rng.randrange(len(self.ids))
            return (self.ids[start:] * n)[:n]
        return [self.rng.randrange(self.n_vocab) for _ in range(n)]

    def step(self) -> None:
        """One random operation, and whether the session is right after it."""
        name = self.rng.choice(STEPS)
        self.log.append(f"{name} at {len(self.ids)}")
        getattr(self, name)()
        self.check()

    def check(self) -> None:
        if list(self.session.tokens) != self.ids:
            raise Wrong(f"it holds {len(self.session.tokens)} ids, not these {len(self.ids)}: {self.log}")
        if len(self.ids) > self.n_ctx - 60:
            self.rewind(self.rng.randint(0, self.n_ctx // 2))
        probe = self.rng.randrange(self.n_vocab)
        found = self.session.eval([probe]).copy()
        self.ids.append(probe)
        self.fresh.rewind(0)
        self.hold(found, self.fresh.eval(self.ids).copy())

    def hold(self, found: np.ndarray, expected: np.ndarray) -> None:
        """`found` is `expected`, the logits after the last of the ids or of some, to within rounding."""
        error = difference(found, expected)
        self.worst = max(self.worst, error)
        if not error < self.bound and not error < min(4 * self.noise(expected), MOST):
            raise Wrong(f"off by {error:.1e} after {self.log}")

    def noise(self, expected: np.ndarray) -> float:
        """By how much a fresh session's own logits differ when it gets the same ids in other batches."""
        n_rows = len(np.atleast_2d(expected))
        errors = []
        for n_batch in (1, 7, 48):
            self.fresh.rewind(0)
            parts = [self.ids[start : start + n_batch] for start in range(0, len(self.ids), n_batch)]
            rows = np.concatenate([self.fresh.eval_all(part) for part in parts])
            errors.append(difference(rows[-n_rows:], np.atleast_2d(expected)))
        return max(errors)

    # what a session can do

    def append(self) -> None:
        tokens = self.some(self.rng.choice((1, 1, 2, 7, 33, 90)))
        if tokens:
            self.session.eval(tokens)
            self.ids += tokens

    def append_all(self) -> None:
        tokens = self.some(self.rng.choice((1, 3, 40)))
        if tokens:
            rows = self.session.eval_all(tokens)
            self.fresh.rewind(0)
            self.ids += tokens
            self.hold(rows, self.fresh.eval_all(self.ids)[-len(tokens) :])

    def hidden(self) -> None:
        tokens = self.some(self.rng.choice((1, 5)))
        if tokens:
            self.session.hidden(tokens)
            self.ids += tokens

    def rewind(self, n: int | None = None) -> None:
        near = max(0, len(self.ids) - self.rng.choice((0, 1, 1, 2, 3, 9, 40)))
        n = self.rng.choice((near, near, self.rng.randint(0, len(self.ids)))) if n is None else n
        self.session.rewind(n)
        del self.ids[n:]

    def part(self) -> None:
        """A branch that leaves the sequence where going back is free, and is gone back in itself."""
        n = self.session.reusable(self.rng.randint(0, len(self.ids)))
        self.rewind(n)
        tokens = self.some(self.rng.choice((30, 60, 90)))
        if tokens:
            self.session.eval(tokens)
            self.ids += tokens
            self.rewind(len(self.ids) - self.rng.randrange(len(tokens)))

    def reuse(self) -> None:
        """A prompt that begins as the cache does, as every turn of a chat."""
        shared = self.rng.randint(0, len(self.ids))
        prompt = [*self.ids[:shared], *self.some(self.rng.choice((1, 20, 70)))]
        if prompt:
            n = reuse_prefix(self.session, prompt)
            if list(self.session.tokens) != prompt[:n]:
                raise Wrong(f"kept {len(self.session.tokens)} ids of which {n} were said: {self.log}")
            self.ids = prompt[:n]
            self.stream(prompt[n:])

    def stream(self, tokens: list[int] | None = None) -> None:
        self.draw(tokens or self.some(self.rng.choice((1, 12, 80))), None)

    def drafted(self) -> None:
        self.draw(self.some(self.rng.choice((1, 12, 80))), self.rng)

    def draw(self, tokens: list[int], rng: random.Random | None) -> None:
        n = min(self.rng.choice((1, 2, 6, 20, 40)), self.n_ctx - len(self.ids) - len(tokens) - 20)
        if not tokens or n < 1:
            return
        self.fresh.rewind(0)
        truth = list(itertools.islice(self.fresh.stream([*self.ids, *tokens], GREEDY), 60)) if rng else []
        drafter = MixedDrafter(truth, rng, self.n_vocab) if rng else None
        stream = self.session.stream(tokens, GREEDY, drafter=drafter)
        drawn = list(itertools.islice(stream, n))
        stream.close()
        self.ids += [*tokens, *drawn[:-1]]
        self.greedy(drawn)

    def greedy(self, drawn: Sequence[int]) -> None:
        """Every id drawn is the likeliest one, within rounding."""
        self.fresh.rewind(0)
        rows = self.fresh.eval_all(self.ids)[-len(drawn) :]
        for row, token in zip(rows, drawn, strict=True):
            if row[token] < row.max() - STATED * np.abs(row).max():
                raise Wrong(f"drew id {token}, which is not the likeliest: {self.log}")

    def cancel(self) -> None:
        """Ended while it reads or answers: between batches, or while one is computed, by another thread."""
        tokens = self.some(self.rng.choice((5, 40, 90)))
        if not tokens:
            return
        wish: Cancel = After(self.rng.randint(1, 12)) if self.rng.random() < 0.5 else Cancel()
        timer = threading.Timer(self.rng.choice((0.0, 0.0005, 0.002, 0.005)), wish.set)
        before, drawn = [*self.ids, *tokens], list[int]()
        stream = self.session.stream(tokens, GREEDY, cancel=wish)
        timer.start()
        try:
            for token in itertools.islice(stream, 30):
                drawn.append(token)
        except CancelledError:
            pass
        timer.join()
        stream.close()
        self.ids = list(self.session.tokens)
        if self.ids != [*before, *drawn][: len(self.ids)]:
            raise Wrong(f"holds ids that it was not given: {self.log}")

    def save(self) -> None:
        self.saved.append((self.session.save_state(), list(self.ids)))

    def restore(self) -> None:
        """A branch that was left, in this session or in a new one."""
        if not self.saved:
            return self.save()
        state, ids = self.rng.choice(self.saved)
        if self.rng.random() < 0.3:
            options = self.session.info.options
            self.session.close()
            self.session = backends.open_session(self.artifact, options)
        self.session.restore_state(state, ids)
        self.ids = list(ids)
        return None

    def leave_ahead(self) -> None:
        """A stream with draft tokens is left as it is, neither closed nor read to its end."""
        tokens = self.some(9)
        if tokens:
            self.fresh.rewind(0)
            truth = list(itertools.islice(self.fresh.stream([*self.ids, *tokens], GREEDY), 60))
            drafter = MixedDrafter(truth, self.rng, self.n_vocab)
            self.left = self.session.stream(tokens, GREEDY, drafter=drafter)
            drawn = list(itertools.islice(self.left, self.rng.choice((1, 2, 5, 9))))
            self.ids += [*tokens, *drawn[:-1]]


STEPS = (
    *("append",) * 3,
    *("rewind",) * 4,
    *("drafted",) * 3,
    *("reuse", "part") * 2,
    *("stream", "append_all", "hidden", "cancel", "save", "restore", "restore", "leave_ahead"),
)


def run(artifact: Artifact, options: EngineOptions, seed: int, n_steps: int = 12) -> float:
    """One sequence of `n_steps` operations; returns the largest error. Raises Wrong."""
    rng = random.Random(seed)
    every, gap = (24, 4) if seed % 2 else (checkpoints.EVERY, checkpoints.GAP)  # 24: as in a long sequence
    with (
        mock.patch.multiple(checkpoints, EVERY=every, GAP=gap),
        backends.open_session(artifact, options) as fresh,
    ):
        machine = Machine(backends.open_session(artifact, options), fresh, artifact, rng)
        try:
            for _ in range(n_steps):
                machine.step()
        except Wrong as error:
            raise Wrong(f"seed {seed}: {error}") from None
        finally:
            machine.session.close()
        with backends.open_session(artifact, options) as new:
            fresh.rewind(0)
            machine.hold(new.eval(machine.ids), fresh.eval(machine.ids).copy())
    return machine.worst


def options_of(seed: int) -> EngineOptions:
    """Batches smaller and larger than what is appended, few and many kept states."""
    rng = random.Random(seed)
    n_batch = rng.choice((16, 64, 512))
    return EngineOptions(
        n_ctx=512,
        n_threads=1,
        n_batch=n_batch,
        n_ubatch=n_batch,
        n_checkpoints=rng.choice((None, 2, 3)),
        device="cpu",
    )


def seeds(n: int, start: int = 0) -> Iterator[int]:
    yield from range(start, start + n)
