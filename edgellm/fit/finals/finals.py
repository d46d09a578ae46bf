"""`recommend --measure`: the best types by prediction are converted, and their loss and speed measured in turns."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from edgellm import backends
from edgellm.catalog import first_use
from edgellm.fit.quality import Loss
from edgellm.fit.recommend import Choice
from edgellm.fit.speed import Speed
from edgellm.fit.table import ANSWER, PROMPT, Row, Table
from edgellm.formats.artifact import Artifact
from edgellm.profiles.quality import child
from edgellm.profiles.report.figures.numbers import shown_interval
from edgellm.profiles.result.result import Report, Run
from edgellm.profiles.result.settings import Plan, QualityPlan, Workload, settings_of
from edgellm.profiles.study.run import ProfileRequest, RunSpec, names_of, profile
from edgellm.session import EngineOptions

_LAUNCHES, _REPETITIONS = 3, 2
_DIALOGUES = 32  # that the loss is measured on
_REFERENCE = "F16"

Tell = Callable[[str], None]


def measured(model: str, table: Table, choice: Choice, seconds: float, tell: Tell, *, offline: bool) -> Table:
    """The finalists' rows, with what was measured in place of what was said. Raises EdgellmError.

    `seconds`: no launch is begun that would end later; what could not be measured keeps its prediction.
    """
    begin = time.monotonic()
    artifacts = {}
    for type_ in (_REFERENCE, *choice.finalists):
        tell(f"converting {model} to {type_}")
        artifacts[type_] = first_use.resolve(f"{model}:{type_}", offline=offline)
    names = dict(zip(artifacts, names_of(list(artifacts.values())), strict=True))
    report = _launches(artifacts, choice, seconds - (time.monotonic() - begin), tell)
    references = {names[type_]: str(artifacts[_REFERENCE].path) for type_ in choice.finalists}
    paths = {names[type_]: str(artifacts[type_].path) for type_ in choice.finalists}
    meters = child.meters(paths, QualityPlan(_DIALOGUES, 0, references))
    rows = {row.type: row for row in table.rows}
    for type_ in choice.finalists:
        run = next((run for run in report.runs if run.model.name == names[type_]), None)
        rows[type_] = _with_speed(rows[type_], run)
        if time.monotonic() - begin < seconds:
            tell(f"{type_}: mean KLD against {_REFERENCE}")
            found = meters[names[type_]](names[type_])
            if found.kld_mean is not None:
                rows[type_] = replace(rows[type_], loss=Loss(found.kld_mean.value, "measured"))
    return replace(table, rows=tuple(rows[type_] for type_ in choice.finalists))


def _launches(artifacts: dict[str, Artifact], choice: Choice, seconds: float, tell: Tell) -> Report:
    workload = Workload(PROMPT, ANSWER, repetitions=_REPETITIONS, launches=_LAUNCHES, energy="none")
    specs = tuple(
        RunSpec(
            artifacts[type_],
            settings_of(backends.with_tuning(artifacts[type_], EngineOptions()), artifacts[type_].format),
            workload,
        )
        for type_ in choice.finalists
    )
    plan = Plan(max_launches=_LAUNCHES, budget_seconds=max(seconds * 0.6, 1.0))
    return profile(
        ProfileRequest(specs, plan, "edgellm recommend --measure", ceilings=False), tell, lambda _: None
    )


def _with_speed(row: Row, run: Run | None) -> Row:
    prefill, decode = (
        run.summary(f"{phase}_tokens_per_second") if run else None for phase in ("prefill", "decode")
    )
    if prefill is None or decode is None:
        return row
    ends = [shown_interval(summary) for summary in (prefill, decode)]
    widths = [
        end[1] / summary.median - 1 for end, summary in zip(ends, (prefill, decode), strict=True) if end
    ]
    return replace(
        row, speed=Speed(decode.median, prefill.median, max(widths, default=0.0)), speed_reason=None
    )
