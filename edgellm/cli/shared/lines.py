"""Texts given as arguments, as the lines of a file or of standard input, or as a whole file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edgellm.errors import UsageError


def given(texts: tuple[str, ...], what: str, to_do: str, file: Path | None = None) -> tuple[str, ...]:
    """`texts`, else the lines of `file`, else those of standard input: as many texts as lines.

    `what` a text is called as an argument, `to_do` what is done with it, are said where there is none or an empty one.
    Raises UsageError.
    """
    if texts:
        return texts
    if file is None and (sys.stdin is None or sys.stdin.isatty()):
        raise UsageError(f"there is nothing to {to_do}: give a {what}, or lines on standard input")
    data = sys.stdin.buffer.read() if file is None else file.read_bytes()
    lines = tuple(data.decode("utf-8", "replace").splitlines())
    for number, line in enumerate(lines, 1):
        if not line.strip():
            place = "standard input" if file is None else str(file)
            raise UsageError(f"line {number} of {place} is empty, so nothing to {to_do}; leave it out")
    return lines


def text_file_option(purpose: str, own: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`-f FILE`, given to the command as `text_file`; `own` is what stands in for it."""
    return click.option(
        "-f",
        "--file",
        "text_file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help=f"Text to {purpose}.  [default: edgellm's own {own}]",
    )
