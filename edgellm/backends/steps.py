"""The loop that draws ids under a constraint, or with draft tokens evaluated ahead; the same for every engine.

A draft token is kept when it is what the sampler draws from the engine's own logits at its place: sample and compare.
So the ids drawn, and their distribution under any sampler, are those of decoding one by one, whoever drafts;
only the rounding of logits differs, where an engine computes several positions with other kernels than one.
Knows no engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from edgellm.session import Constraint, Drafter, Logits, Session


class Stepper(Protocol):
    """An engine that evaluates ids ahead of its session's sequence."""

    @property
    def max_draft(self) -> int:
        """Draft tokens that the next evaluation takes beside the id drawn."""
        ...

    def logits(self, row: int) -> Logits:
        """Logits [n_vocab] after the row-th id of the last evaluation; writable, valid until the next one."""
        ...

    def check(self, row: int) -> None:
        """Raise EngineError unless the logits of `row`, as the engine made them, are finite."""
        ...

    def sample(self, row: int) -> int:
        """Draw from the logits of `row`."""
        ...

    def evaluate(self, token: int, draft: Sequence[int]) -> None:
        """Append `token`; evaluate `draft` after it without appending them. Drops older draft tokens."""
        ...

    def accept(self, token: int) -> None:
        """Append the next draft token, which is `token`: it is evaluated already."""
        ...


def draw(
    engine: Stepper, session: Session, room: int, constraint: Constraint | None, drafter: Drafter | None
) -> Iterator[int]:
    """Yield ids drawn after the prompt, which has been evaluated, until `room` ids were appended."""
    for token in drawing(engine, session, room, constraint, drafter):
        if token is not None:
            yield token


def drawing(
    engine: Stepper, session: Session, room: int, constraint: Constraint | None, drafter: Drafter | None
) -> Iterator[int | None]:
    """The same, with a None wherever it has asked `engine` for an evaluation and needs its outcome to go on.

    An engine of many sequences evaluates what several of these loops ask for at once.
    """
    draft: Sequence[int] = ()
    row = 0
    if drafter is not None:
        drafter.begin(session)
    while True:
        token = _sample(engine, row, constraint)
        if drafter is not None:
            drafter.take(token)
        yield token
        if not room:
            return
        room -= 1
        if row < len(draft) and draft[row] == token:
            engine.accept(token)
            row += 1
        else:
            draft = _draft(min(room, engine.max_draft), constraint, drafter)
            engine.evaluate(token, draft)
            row = 0
            yield None


def _sample(engine: Stepper, row: int, constraint: Constraint | None) -> int:
    engine.check(row)
    if constraint is None:
        return engine.sample(row)
    constraint.apply(engine.logits(row))
    return constraint.take(engine.sample(row))


def _draft(room: int, constraint: Constraint | None, drafter: Drafter | None) -> Sequence[int]:
    """What a grammar forces is surer than any draft token."""
    if constraint is not None and (forced := constraint.forced()):
        if drafter is not None:
            drafter.skip()
        return forced[:room]
    return drafter.draft(room) if drafter is not None and room else ()
