"""The text that `calibrate` and `eval` read, as one option."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def text_file_option(purpose: str, own: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`-f FILE`, given to the command as `text_file`; `own` is what stands in for it."""
    return click.option(
        "-f",
        "--file",
        "text_file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help=f"Text to {purpose}.  [default: edgellm's own {own}]",
    )
