"""From an artifact to something to talk with: what `chat` and `run` share beyond their options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgellm.errors import UsageError

if TYPE_CHECKING:
    from edgellm.artifact import Artifact
    from edgellm.session import EngineOptions, Session
    from edgellm.template import ChatTemplate


def session(artifact: Artifact, engine: EngineOptions) -> Session:
    """Open the model in this process; what the engine has to say goes to standard error."""
    from edgellm import backends

    opened = backends.open_session(artifact, engine)
    for note in opened.info.notes:
        click.echo(f"edgellm: {note}", err=True)
    return opened


def template(artifact: Artifact) -> ChatTemplate:
    """The model's chat template; made before the session, its process starts while the model loads.

    Raises UsageError for a model that was not made to chat.
    """
    from edgellm.template import ChatTemplate

    if not artifact.chat_template:
        raise UsageError(
            f"{artifact.name} has no chat template: it only continues text; use edgellm run --raw MODEL PROMPT"
        )
    return ChatTemplate(artifact.chat_template, *special_tokens(artifact))


def special_tokens(artifact: Artifact) -> tuple[str | None, str | None]:
    """The model's BOS and EOS as text; None where it has none."""
    from edgellm.gguf_reader import GgufFile

    header = GgufFile.open(artifact.path)
    tokens = header.get("tokenizer.ggml.tokens", ())
    ids = (header.get(f"tokenizer.ggml.{kind}_token_id", -1) for kind in ("bos", "eos"))
    bos, eos = (tokens[i] if 0 <= i < len(tokens) else None for i in ids)
    return bos, eos


def spelled(model: str) -> str:
    """`model` so that it can be opened from another folder too: a path becomes absolute."""
    return str(Path(model).resolve()) if Path(model).exists() else model
