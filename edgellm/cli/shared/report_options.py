"""Where a report goes and in which form: the options of the commands that render results, and what they mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgellm.errors import UsageError

if TYPE_CHECKING:
    from edgellm.profiles.result.result import Report


def report_options(kept: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add `format_`, `files`, `force` and `lang`; `kept` ends the help of --out."""
    options = (
        click.option(
            "-o",
            "--output",
            "format_",
            metavar="FORMAT",
            help="table, json, jsonl, csv, md or html.  [default: table]",
        ),
        click.option(
            "--out",
            "files",
            multiple=True,
            type=click.Path(dir_okay=False, path_type=Path),
            help=f"Write to FILE, format by its suffix or -o; may be repeated.{kept}",
        ),
        click.option("-f", "--force", is_flag=True, help="Replace files that exist."),
        click.option(
            "--lang",
            type=click.Choice(("en", "zh")),
            default="en",
            help="Language of the report.  [default: en]",
        ),
    )

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return add


def outputs(files: tuple[Path, ...], format_: str | None, *, force: bool) -> dict[Path, str]:
    """Each output with its format, refused now rather than after minutes of measuring."""
    from edgellm import files as writing
    from edgellm.profiles import report as reports

    if format_ is not None:
        reports.check_format(format_)
    wanted = {path: reports.format_for(path, format_) for path in files}
    for path in wanted:
        writing.check_output(path, force=force)
    return wanted


def read_results(paths: Sequence[Path]) -> dict[str, Report]:
    """Results by their files' names, or by their paths where names are the same. Raises EdgellmError."""
    from edgellm.profiles.result.result import read

    names = [path.name for path in paths]
    keys = names if len(set(names)) == len(names) else [str(path) for path in paths]
    if len(set(keys)) < len(keys):
        raise UsageError(f"{max(keys, key=keys.count)} is named twice; name each result once")
    return {key: read(path) for key, path in zip(keys, paths, strict=True)}
