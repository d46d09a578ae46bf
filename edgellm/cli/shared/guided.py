"""Options that shape an answer or make it faster: `--json-schema`, `--grammar`, `--lookup`, `--draft`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edgellm.errors import UsageError
from edgellm.generation.generate import GenerateOptions
from edgellm.session import EngineOptions, Session

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

OWN_BLOCK = "mtp"  # in the place of a smaller model: the model's own block for multi-token prediction

OPTIONS: tuple[Callable[..., Any], ...] = (
    click.option("--json-schema", metavar="FILE|JSON", help="The answer is JSON of this schema."),
    click.option(
        "--grammar", type=_FILE, metavar="FILE", help="The answer follows this GBNF or Lark grammar."
    ),
    click.option(
        "--lookup/--no-lookup",
        default=False,
        help="Speculative decoding, draft tokens looked up in the text: faster where it repeats.  [default: off]",
    ),
    click.option(
        "--draft",
        metavar="MODEL",
        help="Speculative decoding with this smaller model of the same family; `mtp`: with the model's own block.",
    ),
)


def put(options: GenerateOptions, values: dict[str, Any], engine: EngineOptions) -> GenerateOptions:
    """Take these options out of click's values. Raises EdgellmError."""
    options = _with_grammar(options, values.pop("json_schema"), values.pop("grammar"))
    return _with_drafter(options, values.pop("lookup"), values.pop("draft"), engine, values.get("offline"))


def too_little_room(options: GenerateOptions, session: Session, n_prompt: int) -> str:
    """What to say before the answer, where no whole one fits; empty where one does, or no shape is asked for."""
    if options.grammar is None:
        return ""
    room = max(session.info.n_ctx - n_prompt + 1, 1)
    room = room if options.max_tokens is None else min(room, options.max_tokens)
    shortest = options.grammar.start(session, room).shortest
    if shortest is None:
        return "no end of this shape was found: the answer may be cut"
    if shortest <= room:
        return ""
    return f"no whole answer fits: the shortest found takes {shortest:,} tokens, {room:,} are left; raise -n or -c"


def _with_grammar(options: GenerateOptions, schema: str | None, grammar: Path | None) -> GenerateOptions:
    if schema is not None and grammar is not None:
        raise UsageError("--json-schema and --grammar exclude each other: give one")
    if schema is None and grammar is None:
        return options
    from edgellm.generation.constraints import Grammar

    if schema is not None:
        return dataclasses.replace(options, grammar=Grammar.json_schema(_schema_text(schema)))
    assert grammar is not None
    return dataclasses.replace(options, grammar=Grammar.grammar(_read(grammar)))


def _with_drafter(
    options: GenerateOptions, lookup: bool, draft: str | None, engine: EngineOptions, offline: bool | None
) -> GenerateOptions:
    if lookup and draft is not None:
        raise UsageError("--lookup and --draft exclude each other: give one")
    if not lookup and draft is None:
        return options
    from edgellm.generation import speculative

    if draft is None:
        return dataclasses.replace(options, drafter=speculative.Lookup())
    if draft == OWN_BLOCK:
        return dataclasses.replace(options, drafter=speculative.SelfDraft())
    from edgellm.cli.shared import model_argument

    artifact = model_argument.resolve(draft, offline=bool(offline))
    return dataclasses.replace(options, drafter=speculative.DraftModel(artifact, engine))


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
