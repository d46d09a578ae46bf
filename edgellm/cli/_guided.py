"""Options that shape an answer or make it faster: `--json-schema`, `--grammar`, `--lookup`, `--draft`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edgellm.errors import UsageError
from edgellm.generate import GenerateOptions

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

OPTIONS: tuple[Callable[..., Any], ...] = (
    click.option(
        "--json-schema",
        metavar="FILE|JSON",
        help="The answer is JSON of this schema.",
    ),
    click.option(
        "--grammar", type=_FILE, metavar="FILE", help="The answer follows this GBNF or Lark grammar."
    ),
)


def put(options: GenerateOptions, values: dict[str, Any]) -> GenerateOptions:
    """Take these options out of click's values. Raises UsageError."""
    schema, grammar = values.pop("json_schema"), values.pop("grammar")
    if schema is not None and grammar is not None:
        raise UsageError("--json-schema and --grammar exclude each other: give one")
    if schema is None and grammar is None:
        return options
    from edgellm.constraints import Grammar

    chosen = Grammar.grammar(_read(grammar)) if schema is None else Grammar.json_schema(_schema_text(schema))
    return dataclasses.replace(options, grammar=chosen)


def _schema_text(given: str) -> str:
    """JSON as it is; anything else names a file."""
    if given.lstrip()[:1] == "{":
        return given
    path = Path(given)
    if not path.is_file():
        raise UsageError(f"--json-schema: {given!r} is neither a file nor a JSON object")
    return _read(path)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as text: {error}") from None
