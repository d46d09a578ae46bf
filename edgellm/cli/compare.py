"""`edgellm compare`: which of several models is ahead, axis by axis, as far as the samples carry it."""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgellm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgellm.profiles.comparison import Comparison
    from edgellm.profiles.result import Report

#: With eight launches a slowdown of 10% is found on a shared machine; with three hardly.
LAUNCHES = 8


class _Share(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.2
    """`5%` or `0.05`."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        if not re.fullmatch(r"\d+(\.\d*)?%?", value):
            self.fail(f"{value!r} is no share; write 5% or 0.05", param, ctx)
        return float(value.rstrip("%")) / (100 if value.endswith("%") else 1)


@click.command(short_help="Measure models in turns, or take results, and say which is ahead in what.")
@click.argument("what", nargs=-1, required=True, metavar="MODEL|RESULT...")
@click.option("-p", "--n-prompt", default="512", metavar="N", help="Prompt tokens.  [default: 512]")
@click.option("-n", "--n-gen", default="128", metavar="N", help="Tokens to decode after it.  [default: 128]")
@click.option(
    "-r", "--repetitions", default="3", metavar="N", help="Timed repetitions in a launch.  [default: 3]"
)
@click.option(
    "--launches",
    default=str(LAUNCHES),
    metavar="N",
    help=f"Fresh processes for each model, in turns.  [default: {LAUNCHES}]",
)
@click.option("-t", "--threads", metavar="N", help="Threads.  [default: the engine's choice]")
@click.option(
    "--energy", default="auto", metavar="SOURCE", help="Energy source: auto, none, or a name of doctor's."
)
@click.option(
    "--save",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Keep what was measured (JSON), to compare or render it again.",
)
@click.option(
    "--fail-if-slower",
    "limit",
    type=_Share(),
    metavar="SHARE",
    help="Exit with 3 if another is slower than the first by more than this, beyond chance; e.g. 5%.",
)
@click.option(
    "-o",
    "--output",
    "format_",
    type=click.Choice(("table", "json", "md", "html")),
    default="table",
    help="Form of the result.  [default: table]",
)
@click.option(
    "--out",
    "files",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to FILE, form by its suffix (.txt .json .md .html); may be repeated.",
)
@click.option("-f", "--force", is_flag=True, help="Replace files that exist.")
@click.option("--lang", type=click.Choice(("en", "zh")), default="en", help="Language.  [default: en]")
@click.option("-q", "--quiet", is_flag=True, help="No progress on standard error.")
def command(
    what: tuple[str, ...],
    n_prompt: str,
    n_gen: str,
    repetitions: str,
    launches: str,
    threads: str | None,
    energy: str,
    save: Path | None,
    limit: float | None,
    format_: str,
    files: tuple[Path, ...],
    force: bool,
    lang: str,
    quiet: bool,
) -> None:
    """Compare MODELs, measured in turns now, or RESULTs of `edgellm profile`, with the first.

    Load, time to first token, reading, writing, memory, energy and quality, per token and per byte. A winner is
    named only where the difference is more than chance, over all that is compared.

    \b
      edgellm compare tiny-qwen3 tiny-llama3
      edgellm compare old.gguf new.gguf -t 2 --fail-if-slower 5% --out compare.html
      edgellm compare monday.json friday.json
    """
    from edgellm.profiles import comparison

    outputs = _outputs((*files, *((save,) if save else ())), force=force)
    results: Mapping[str, Report]
    if all(_is_result(each) for each in what):
        results = _read(what)
    else:
        typed = ["-p", n_prompt, "-n", n_gen, "-r", repetitions, "--launches", launches, "--energy", energy]
        typed += (["-t", threads] if threads else []) + (["-q"] if quiet else [])
        results = _measure(what, typed, save)
    found = comparison.compare(results)
    report = next(iter(results.values())) if len(results) == 1 else None
    for path in files:
        _write(path, _render(outputs[path], found, report, lang))
    click.echo(_render("table" if files else format_, found, report, lang), nl=False)
    if limit is not None:
        comparison.check_not_slower(found, limit)


def _is_result(name: str) -> bool:
    return name.lower().endswith(".json") and Path(name).is_file()


def _read(names: Sequence[str]) -> dict[str, Report]:
    from edgellm.profiles.result import read

    stems = [Path(name).name for name in names]
    keys = stems if len(set(stems)) == len(stems) else list(names)
    if len(set(keys)) < len(keys):
        raise UsageError(f"{max(keys, key=keys.count)} is named twice; name each result once")
    return {key: read(Path(name)) for key, name in zip(keys, names, strict=True)}


def _measure(models: Sequence[str], typed: Sequence[str], save: Path | None) -> Mapping[str, Report]:
    """Run `edgellm profile` on the models, as if it had been typed: its flags mean the same here."""
    from edgellm.cli import profile
    from edgellm.profiles.result import read

    if any(_is_result(each) for each in models):
        raise UsageError(
            "models and results cannot be compared with one another: name models only, or results only"
        )
    if len(models) < 2:
        raise UsageError(
            "there is one model; name another to compare it with (the same one twice is an A/A run)"
        )
    with tempfile.TemporaryDirectory(prefix="edgellm-compare-") as folder:
        path = save or Path(folder) / "result.json"
        arguments = [*models, *typed, "--out", str(path), "--force"]
        with contextlib.redirect_stdout(io.StringIO()):  # its own table
            profile.command.main(arguments, standalone_mode=False)
        return {path.name: read(path)}


def _outputs(files: Sequence[Path], *, force: bool) -> dict[Path, str]:
    from edgellm import files as writing

    forms = {".txt": "table", ".json": "json", ".md": "md", ".html": "html"}
    for path in files:
        if path.suffix.lower() not in forms:
            raise UsageError(f"{path}: the suffix does not tell the form; use one of {', '.join(forms)}")
        writing.check_output(path, force=force)
    return {path: forms[path.suffix.lower()] for path in files}


def _render(form: str, found: Sequence[Comparison], report: Report | None, lang: str) -> str:
    from edgellm.profiles.report import _compared

    if form == "json":
        return _compared.to_json(found)
    if form == "html":
        return _compared.to_html(found, report, lang)
    return _compared.to_markdown(found, lang) if form == "md" else _compared.to_table(found, lang)


def _write(path: Path, text: str) -> None:
    from edgellm import files as writing

    writing.write_text(path, text)
    click.echo(f"edgellm: wrote {path}", err=True)
