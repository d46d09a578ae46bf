"""`edgellm profile`: what models cost on this machine, in time, memory and energy."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgellm.cli._sampling import engine_options

if TYPE_CHECKING:
    from edgellm.profiles.result import Report
    from edgellm.session import EngineOptions

_COUNT = click.IntRange(min=1)


def _option(*names: str, default: float | str, type: Any, text: str, metavar: str = "N") -> Callable:  # type: ignore[type-arg]
    shown = f"{text}  [default: {default}]"
    return click.option(*names, default=default, type=type, metavar=metavar, help=shown)


@click.command(short_help="Measure speed, memory and energy of models, and write a report.")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@_option("-p", "--n-prompt", default=512, type=_COUNT, text="Prompt tokens.")
@_option("-n", "--n-gen", default=128, type=click.IntRange(min=0), text="Tokens to decode after it.")
@_option("-r", "--repetitions", default=5, type=_COUNT, text="Timed repetitions in each launch.")
@_option("--launches", default=2, type=_COUNT, text="Fresh processes for each model, interleaved.")
@_option(
    "--temp",
    "temperature",
    default=0.0,
    type=click.FloatRange(min=0),
    text="Sampling temperature; 0 is greedy.",
)
@_option("--seed", default=0, type=click.IntRange(min=0), text="Seed of the sampling.")
@_option(
    "--energy",
    default="auto",
    type=click.STRING,
    metavar="SOURCE",
    text="Energy sources: auto, none, names of doctor's, or csv for a meter's log imported later.",
)
@_option(
    "--energy-seconds",
    default=2.0,
    type=click.FloatRange(min=0),
    text="Longest extra loop for a phase too short for the meter; a battery's gauge needs 300.",
)
@click.option(
    "--energy-estimate",
    metavar="IDLE_W,MAX_W",
    help="Also guess energy from utilisation between two powers; kept apart from all that is measured.",
)
@click.option(
    "-o",
    "--output",
    "format_",
    metavar="FORMAT",
    help="table, json, jsonl, csv, md or html.  [default: table]",
)
@click.option(
    "--out",
    "files",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to FILE, format by its suffix or -o; may be repeated. Kept up to date after each launch.",
)
@click.option("-f", "--force", is_flag=True, help="Replace files that exist.")
@click.option(
    "--lang", type=click.Choice(("en", "zh")), default="en", help="Language of the report.  [default: en]"
)
@click.option("-q", "--quiet", is_flag=True, help="No progress on standard error.")
@engine_options
def command(
    models: tuple[str, ...],
    n_prompt: int,
    n_gen: int,
    repetitions: int,
    launches: int,
    temperature: float,
    seed: int,
    energy: str,
    energy_seconds: float,
    energy_estimate: str | None,
    format_: str | None,
    files: tuple[Path, ...],
    force: bool,
    lang: str,
    quiet: bool,
    offline: bool,
    engine: EngineOptions,
) -> None:
    """Measure MODELs side by side: load, time to first token, tokens a second, memory by phase, energy.

    Each launch is a fresh process, models taking turns. Every sample is kept; what cannot be measured here is
    left open with the reason, never estimated.

    \b
      edgellm profile tiny-qwen3 tiny-llama3
      edgellm profile a.gguf b.gguf -p 128 -n 64 --out report.html --out report.json
    """
    from edgellm.cli import _models
    from edgellm.profiles import report as reports
    from edgellm.profiles.result import Workload
    from edgellm.profiles.run import ProfileRequest, profile

    outputs = _outputs(files, format_, force=force)
    on_screen = _screen_format(files, format_)
    workload = Workload(
        n_prompt=n_prompt,
        n_gen=n_gen,
        repetitions=repetitions,
        launches=launches,
        seed=seed,
        temperature=temperature,
        energy=energy,
        energy_seconds=energy_seconds,
        energy_estimate=energy_estimate,
    )
    artifacts = tuple(_models.resolve(model, offline=offline) for model in models or (None,))
    request = ProfileRequest(artifacts, workload, engine, _typed())

    def save(report: Report) -> None:
        from edgellm import files as writing

        for path, name in outputs.items():
            writing.write_text(path, reports.render(report, name, lang))

    with _Progress(quiet=quiet) as progress:
        result = profile(request, progress, save)
    click.echo(reports.render(result, on_screen, lang), nl=False)
    for path in () if quiet else outputs:
        click.echo(f"edgellm: wrote {path}", err=True)


def _outputs(files: tuple[Path, ...], format_: str | None, *, force: bool) -> dict[Path, str]:
    """Each output with its format, refused now rather than after minutes of measuring."""
    from edgellm import files as writing
    from edgellm.profiles import report as reports

    if format_ is not None:
        reports.check_format(format_)
    outputs = {path: reports.format_for(path, format_) for path in files}
    for path in outputs:
        writing.check_output(path, force=force)
    return outputs


def _screen_format(files: tuple[Path, ...], format_: str | None) -> str:
    """With files the terminal gets the table, whatever -o says of them."""
    return "table" if files else format_ or "table"


def _typed() -> str:
    """The command line as it was typed, for the record."""
    import shlex

    return shlex.join(["edgellm", *sys.argv[1:]])


class _Progress:
    """One line on a terminal's standard error that changes in place; a line for each step elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._live = sys.stderr.isatty()

    def __enter__(self) -> _Progress:
        return self

    def __call__(self, text: str) -> None:
        if self._quiet:
            return
        if self._live:
            click.echo(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}", nl=False, err=True)
        elif "repetition" not in text:
            click.echo(f"edgellm: {text}", err=True)

    def __exit__(self, *exc: object) -> None:
        if self._live and not self._quiet:
            click.echo("\r\x1b[K", nl=False, err=True)
