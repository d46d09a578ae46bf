"""What the commands that answer through the server's application share: its libraries, drafts, names of models."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgellm.cli.shared import model_argument
from edgellm.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from edgellm.formats.artifact import Artifact

_DRAFTING = (
    click.option(
        "--draft", metavar="MODEL", help="Speculative decoding with this smaller model of the same family."
    ),
    click.option(
        "--lookup", is_flag=True, help="Speculative decoding with draft tokens looked up in the text."
    ),
)


def drafting_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--draft` and `--lookup`; the command gets them as `draft` and `lookup`."""
    for option in reversed(_DRAFTING):
        function = option(function)
    return function


def need_libraries(what: str) -> None:
    """Raise MissingExtraError, which says `what` needs them, where the server's libraries are not installed."""
    for library in ("pydantic", "starlette", "uvicorn"):
        try:
            importlib.import_module(library)
        except ModuleNotFoundError:
            raise MissingExtraError(what, "server") from None


def draft_model(model: str | None, lookup: bool, offline: bool) -> Artifact | None:
    """The model of `--draft`. Raises EdgellmError."""
    if model is None:
        return None
    if lookup:
        raise UsageError("--lookup and --draft exclude each other: give one")
    return model_argument.resolve(model, offline=offline)


def name_of(model: str) -> str:
    """What a request calls a model: as it is spelled, a file without its folder and suffix."""
    path = Path(model)
    if not path.exists():
        return model
    return path.resolve().name if path.is_dir() else path.stem
