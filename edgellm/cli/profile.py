"""`edgellm profile`: what models cost on this machine, in time, memory and energy, and what they are worth."""

from __future__ import annotations

import functools
import itertools
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgellm.cli.nodes.options import node_options, openers
from edgellm.cli.shared.model_argument import hub_option
from edgellm.cli.shared.profile_options import grid_options
from edgellm.cli.shared.report_options import outputs, report_options
from edgellm.errors import UsageError
from edgellm.terminal import Progress, emit, note

if TYPE_CHECKING:
    from edgellm.formats.artifact import Artifact
    from edgellm.profiles.result.result import Report
    from edgellm.profiles.result.settings import QualityPlan
    from edgellm.profiles.study.plan import Grid
    from edgellm.profiles.study.run import ProfileRequest

#: Writing pages may take this share of the time, no more; JSON is written after every launch.
_WRITING_SHARE = 0.05


@click.command(short_help="Measure speed, memory, energy and quality of models, and write a report.")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--plan",
    "plan_name",
    metavar="FILE|NAME",
    help="A TOML file that says all this, or one that comes with edgellm: bundled, real, shapes.",
)
@click.option(
    "--resume",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Go on with an unfinished report (JSON) on the same machine, and keep it up to date.",
)
@grid_options
@click.option("--no-roofline", is_flag=True, help="Do not measure the machine's own limits.")
@click.option("--no-mmap", is_flag=True, help="Read the model into memory instead of mapping it.")
@click.option("--no-repack", is_flag=True, help="Leave the weights as the file has them.")
@click.option("--no-tune", is_flag=True, help="Without the settings that edgellm tune found.")
@click.option("--offline", is_flag=True, help="Download nothing.")
@hub_option
@node_options
@click.option(
    "--into",
    type=click.Path(path_type=Path),
    default="fleet",
    metavar="FOLDER",
    help="With --ssh or --ray: each machine's result, as MACHINE.json.  [default: fleet]",
)
@click.option("--finish", is_flag=True, help="Measure only what is missing in --into.")
@report_options(" JSON is up to date after each launch.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on standard error.")
def command(
    models: tuple[str, ...],
    plan_name: str | None,
    resume: Path | None,
    no_roofline: bool,
    no_mmap: bool,
    no_repack: bool,
    no_tune: bool,
    offline: bool,
    ssh: str | None,
    ssh_command: str,
    ray_address: str | None,
    into: Path,
    finish: bool,
    format_: str | None,
    files: tuple[Path, ...],
    force: bool,
    lang: str,
    quiet: bool,
    **grid: Any,
) -> None:
    """Measure MODELs side by side: load, time to first token, tokens a second, memory by phase, energy.

    Each launch is a fresh process, runs taking turns. Every sample is kept; what cannot be measured here is left
    open with the reason, never estimated. Options with commas make a run for each combination.

    \b
      edgellm profile tiny-qwen3 tiny-llama3
      edgellm profile tiny-qwen3 --types Q8_0,Q4_0,onnx-int4 -t 1,2 -p 128,512 -n 64 --until 2%
      edgellm profile --plan bundled --out study.html --out study.json
      edgellm profile --resume study.json
      edgellm profile --plan bundled --ssh pi@rpi5,jetson --out boards.html
    """
    from edgellm.cli.nodes import profiling
    from edgellm.fit import record
    from edgellm.profiles import report as reports
    from edgellm.profiles.study.run import profile

    grid |= {"use_mmap": False if no_mmap else None, "repack": False if no_repack else None}
    grid |= {"tuned": False if no_tune else None}
    given = {name: value for name, value in grid.items() if value is not None}
    wanted = outputs(files, format_, force=force)
    on_screen = _screen_format(files, format_)
    if ssh is not None or ray_address is not None:
        if resume is not None:
            raise UsageError(
                "--resume is for this machine; with --ssh or --ray, --finish goes on with --into"
            )
        plan = _grid(models, plan_name, given)
        request = _new(plan, offline=offline, roofline=not no_roofline)
        with openers(ssh, ssh_command, ray_address) as others:
            fleet = profiling.measure(others, plan, request, into, finish=finish, force=force, quiet=quiet)
        return profiling.finish(fleet, request, wanted, on_screen, lang=lang, quiet=quiet)
    if resume is not None:
        wanted[resume] = "json"
        request = _resumed(resume, models, plan_name, given, roofline=not no_roofline)
        wanted = _beside(resume, request.command) | wanted
    else:
        request = _new(_grid(models, plan_name, given), offline=offline, roofline=not no_roofline)
    save = _Writer(wanted, lang)
    try:
        with Progress(quiet=quiet) as progress:
            result = profile(request, functools.partial(_tell, progress, quiet), save)
    except KeyboardInterrupt:
        save.finish()
        for line in _going_on(save.last, wanted):
            note(line)
        raise
    record.hold(result)
    emit(reports.render(result, on_screen, lang))
    for path in () if quiet else wanted:
        note(f"wrote {path}")
    return None


def _grid(models: tuple[str, ...], plan_name: str | None, given: dict[str, Any]) -> Grid:
    """The plan's values, and over them those given on the command line."""
    from dataclasses import replace

    from edgellm.catalog import models as catalog
    from edgellm.profiles.study import plan

    grid = plan.read(plan_name) if plan_name else plan.Grid()
    named = models or grid.models or (catalog.DEFAULT_MODEL,)
    return replace(grid, models=named, **given)


def _new(grid: Grid, *, offline: bool, roofline: bool) -> ProfileRequest:
    """A request for a fresh report; models are converted first where they must be."""
    from dataclasses import replace

    from edgellm.cli.shared import model_argument
    from edgellm.profiles.study.run import ProfileRequest, names_of

    plan = grid.plan()
    models = grid.names()
    artifacts = [model_argument.resolve(model, offline=offline) for model in models]
    names = names_of(artifacts)
    if grid.axes and not grid.quality:
        raise UsageError("--axes are measured with --quality; give it too")
    if grid.quality:
        plan = replace(plan, quality=_quality(grid, dict(zip(names, models, strict=True)), offline=offline))
    request = ProfileRequest(grid.specs(artifacts), plan, _typed(), ceilings=roofline)
    return _judging(request, dict(zip(names, artifacts, strict=True)))


def _quality(grid: Grid, models: dict[str, str], *, offline: bool) -> QualityPlan:
    """How quality is measured; the reference of each model (its name -> as it was asked for) is converted."""
    from edgellm import files
    from edgellm.cli.shared import model_argument
    from edgellm.profiles.quality import axes
    from edgellm.profiles.result.settings import QualityPlan
    from edgellm.profiles.study import plan

    references = {}
    for name, model in models.items():
        if (reference := plan.reference_of(model, grid.reference)) is not None:
            references[name] = files.unnamed(model_argument.resolve(reference, offline=offline).path)
    return QualityPlan(grid.dialogues, grid.items, references, axes.check(grid.axes), grid.text)


def _resumed(
    path: Path, models: tuple[str, ...], plan_name: str | None, given: dict[str, Any], *, roofline: bool
) -> ProfileRequest:
    """What is left of a report; only how long to go on may be said anew."""
    from dataclasses import replace

    from edgellm.profiles.result.result import read
    from edgellm.profiles.study import plan, resume

    changes = {name: given.pop(name) for name in ("until", "budget", "max_launches") if name in given}
    if models or plan_name or given:
        raise UsageError(
            "--resume goes on with the report's own plan; beside it, only --until and --budget count"
        )
    report = read(path)
    wanted = report.plan
    if "until" in changes:
        wanted = replace(wanted, until=plan.parse_share(changes["until"]))
        wanted = replace(wanted, max_launches=max(wanted.max_launches, plan.MAX_LAUNCHES))
    if "max_launches" in changes:
        wanted = replace(wanted, max_launches=changes["max_launches"])
    if "budget" in changes:
        wanted = replace(wanted, budget_seconds=plan.parse_seconds(changes["budget"]))
    request = resume.request(report, wanted, report.command, ceilings=roofline)
    names = [run.model.name for run in report.runs]
    return _judging(request, {n: spec.artifact for n, spec in zip(names, request.specs, strict=True)})


def _judging(request: ProfileRequest, artifacts: dict[str, Artifact]) -> ProfileRequest:
    """The request with a quality meter for each model, where quality is asked for."""
    from dataclasses import replace

    from edgellm.profiles.quality import child

    if request.plan.quality is None:
        return request
    paths = {name: str(artifact.path) for name, artifact in artifacts.items()}
    return replace(request, quality_meters=child.meters(paths, request.plan.quality))


def _screen_format(files: tuple[Path, ...], format_: str | None) -> str:
    """With files the terminal gets the table, whatever -o says of them."""
    return "table" if files else format_ or "table"


def _typed() -> str:
    """The command line as it was typed, for the record."""
    import shlex

    return shlex.join(["edgellm", *sys.argv[1:]])


def _beside(result: Path, command: str) -> dict[Path, str]:
    """The other outputs of the command that began `result`, as far as they are there: they are kept up to date too."""
    import shlex

    from edgellm.profiles import report as reports

    words = shlex.split(command)
    files = [Path(value) for word, value in itertools.pairwise(words) if word == "--out"]
    files += [Path(word.removeprefix("--out=")) for word in words if word.startswith("--out=")]
    if result.resolve() not in [path.resolve() for path in files]:
        return {}  # typed elsewhere, or the result was moved
    others = (path for path in files if path.exists() and path.resolve() != result.resolve())
    found = {path: reports.format_for(path, "") for path in others}
    return {path: name for path, name in found.items() if name}


def _going_on(report: Report | None, outputs: dict[Path, str]) -> list[str]:
    """How to go on after a Ctrl-C, as a command."""
    import shlex

    if report is None or report.complete:
        return []
    kept = next((path for path, name in outputs.items() if name == "json"), None)
    if kept is None:
        return ["nothing was kept to go on with; --out FILE.json keeps every launch"]
    return [f"every finished launch is kept; go on with: edgellm profile --resume {shlex.quote(str(kept))}"]


class _Writer:
    """Keeps the outputs up to date: JSON after every launch, pages as often as they cost little, all at the end."""

    def __init__(self, outputs: dict[Path, str], lang: str) -> None:
        self._outputs, self._lang = outputs, lang
        self._next = 0.0  # when pages may be written again
        self.last: Report | None = None

    def finish(self) -> None:
        """Bring every output to the last report."""
        if self.last is not None:
            self._next = 0.0
            self(self.last)

    def __call__(self, report: Report) -> None:
        self.last = report
        from edgellm import files
        from edgellm.profiles import report as reports

        begin = time.monotonic()
        everything = report.complete or begin >= self._next
        for path, name in self._outputs.items():
            if everything or name == "json":
                files.write_text(path, reports.render(report, name, self._lang))
        if everything:
            end = time.monotonic()
            self._next = end + (end - begin) / _WRITING_SHARE


def _tell(progress: Progress, quiet: bool, text: str) -> None:
    """What is being measured: in place on a terminal, elsewhere a line for each step but not each repetition."""
    if progress.live:
        progress.show(text)
    elif not quiet and "repetition" not in text:
        note(text)
