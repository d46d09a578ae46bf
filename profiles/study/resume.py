"""Taking up an unfinished report: the same models on the same machine, or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgellm.errors import CheckFailedError
from edgellm.formats.artifact import Artifact
from edgellm.profiles.measure import machine
from edgellm.profiles.result.result import Machine, Report
from edgellm.profiles.result.settings import Plan
from edgellm.profiles.study.run import ProfileRequest, RunSpec

#: What makes a machine another one, as far as figures go.
_IDENTITY = (
    "cpu_model",
    "physical_cores",
    "logical_cores",
    "usable_cores",
    "memory_bytes",
    "memory_limit_bytes",
    "hypervisor",
    "kernel",
    "python",
    "libraries",
)


def request(report: Report, plan: Plan, command: str, *, ceilings: bool = True) -> ProfileRequest:
    """What is left to do of `report`, after `plan`. Raises CheckFailedError when machine or models are not the same."""
    check_machine(report.machine, machine.describe())
    artifacts: dict[str, Artifact] = {}
    for run in report.runs:
        if run.model.name not in artifacts:
            artifacts[run.model.name] = _same(run.model.path, run.model.sha256)
    return ProfileRequest(
        specs=tuple(RunSpec(artifacts[run.model.name], run.settings, run.workload) for run in report.runs),
        plan=replace(plan, seed=report.plan.seed, spent_seconds=report.plan.spent_seconds),
        command=command,
        ceilings=ceilings,
        begun=report,
    )


def check_machine(before: Machine, now: Machine) -> None:
    """Raises CheckFailedError naming what differs."""
    for name in _IDENTITY:
        then, here = getattr(before, name), getattr(now, name)
        if then != here:
            raise CheckFailedError(
                f"the report was begun on another machine or with other software ({name} was {then}, is {here}); "
                "figures of both do not belong in one run: start a new one"
            )


def _same(path: str, sha256: str) -> Artifact:
    artifact = Artifact.open(Path(path).expanduser())
    if artifact.sha256 != sha256:
        raise CheckFailedError(
            f"{path} is not the model the report was begun with (SHA-256); start a new one"
        )
    return artifact
