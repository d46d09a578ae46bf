"""The task suite with its questions written otherwise (perturbations.py): how many answers stay right."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgellm.profiles.quality import perturbations, task_scores
from edgellm.profiles.quality.task_scores import Answer, Render
from edgellm.profiles.result.axes_record import RobustnessRecord
from edgellm.profiles.result.quality_stats import Share
from edgellm.session import Session


def measure(
    session: Session,
    render: Render,
    plain: Sequence[Answer],
    *,
    seed: int = 0,
    report: Callable[[str], None] | None = None,
) -> dict[str, RobustnessRecord]:
    """By kind of change, against the answers to the questions as they stand. Raises EngineError."""
    before = {each.item.id: each.exact for each in plain if each.closed}
    closed = [each.item for each in plain if each.closed]
    found = {}
    for kind in perturbations.KINDS:
        if report:
            report(kind)
        items = perturbations.changed(closed, kind, seed)
        answers = task_scores.answer(session, render, items)
        kept = [each.exact for each in answers if before[each.item.id]]
        found[kind] = RobustnessRecord(
            right=Share(sum(each.exact for each in answers), len(answers)),
            kept=Share(sum(kept), len(kept)),
            seed=seed,
        )
    return found
