"""`edgellm compare`: which of several models is ahead, axis by axis, as far as the samples carry it."""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgellm.cli.shared.report_options import read_results
from edgellm.errors import UsageError
from edgellm.terminal import emit, note

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from edgellm.profiles.result.result import Report

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


#: Options of `edgellm profile` that are handed on: its names -> (metavar, what it says here, ours if it differs).
FORWARDED: dict[tuple[str, ...], tuple[str, str, str | None]] = {
    ("-p", "--n-prompt"): ("N,...", "Prompt tokens.  [default: 512]", None),
    ("-n", "--n-gen"): ("N,...", "Tokens to decode after it.  [default: 128]", None),
    ("-d", "--n-depth"): ("N,...", "Tokens in the cache before the prompt.  [default: 0]", None),
    ("-r", "--repetitions"): ("N", "Timed repetitions in a launch.  [default: 3]", "3"),
    ("--launches",): (
        "N",
        f"Fresh processes for each model, in turns.  [default: {LAUNCHES}]",
        str(LAUNCHES),
    ),
    ("--until",): (
        "WIDTH",
        "Go on until each 95% interval is within ±WIDTH of the figure, such as 2%.",
        None,
    ),
    ("--budget",): ("TIME", "Start no launch that would end later than this, such as 10m.", None),
    ("-t", "--threads"): ("N,...", "Threads.  [default: physical cores]", None),
    ("--device",): ("NAME,...", "auto, cpu, cuda, metal, ...  [default: auto]", None),
    ("--energy",): ("SOURCE", "Energy source: auto, none, or a name of doctor's.  [default: auto]", None),
}


def _forwarded(function: Callable[..., None]) -> Callable[..., None]:
    for names, (metavar, words, default) in reversed(FORWARDED.items()):
        function = click.option(*names, metavar=metavar, help=words, default=default)(function)
    return function


def _typed(given: Mapping[str, str | None]) -> list[str]:
    """The options as `edgellm profile` takes them."""
    flags = {names[-1].lstrip("-").replace("-", "_"): names[-1] for names in FORWARDED}
    return [word for name, value in given.items() if value is not None for word in (flags[name], value)]


@click.command(short_help="Measure models in turns, or take results, and say which is ahead in what.")
@click.argument("what", nargs=-1, required=True, metavar="MODEL|RESULT...")
@_forwarded
@click.option("--quality", is_flag=True, help="Measure how good each model is as well.")
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
    save: Path | None,
    quality: bool,
    limit: float | None,
    format_: str,
    files: tuple[Path, ...],
    force: bool,
    lang: str,
    quiet: bool,
    **measuring: str | None,
) -> None:
    """Compare MODELs, measured in turns now, or RESULTs of `edgellm profile`, with the first.

    Load, time to first token, prefill, decode, memory, energy and quality, per token and per byte. A winner is
    named only where the difference is more than chance, over all that is compared.

    \b
      edgellm compare tiny-qwen3 tiny-llama3
      edgellm compare old.gguf new.gguf -t 2 --fail-if-slower 5% --out compare.html
      edgellm compare monday.json friday.json
    """
    from edgellm.profiles.compare import comparison
    from edgellm.profiles.report.comparison.render import render

    outputs = _outputs((*files, *((save,) if save else ())), force=force)
    results: Mapping[str, Report]
    if all(_is_result(each) for each in what):
        results = read_results([Path(each) for each in what])
    else:
        typed = _typed(measuring) + ["--quality"] * quality + ["-q"] * quiet
        results = _measure(what, typed, save)
    found = comparison.compare(results)
    report = next(iter(results.values())) if len(results) == 1 else None
    for path in files:
        _write(path, render(outputs[path], found, report, lang))
    emit(render("table" if files else format_, found, report, lang))
    if limit is not None:
        comparison.check_not_slower(found, limit)


def _is_result(name: str) -> bool:
    return name.lower().endswith(".json") and Path(name).is_file()


def _measure(models: Sequence[str], typed: Sequence[str], save: Path | None) -> Mapping[str, Report]:
    """Run `edgellm profile` on the models, as if it had been typed: its flags mean the same here."""
    from edgellm.cli import profile
    from edgellm.profiles.result.result import read

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


def _write(path: Path, text: str) -> None:
    from edgellm import files as writing

    writing.write_text(path, text)
    note(f"wrote {path}")
