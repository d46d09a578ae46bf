"""Opening a model to talk with, for the commands that do."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from edgellm.errors import EngineError
from edgellm.terminal import Spinner, note

if TYPE_CHECKING:
    from edgellm.formats.artifact import Artifact
    from edgellm.prompt.template import ChatTemplate
    from edgellm.session import EngineOptions, Session


def session(artifact: Artifact, engine: EngineOptions) -> Session:
    """Open the model in this process; what the engine has to say goes to standard error.

    At the first use of a model a few seconds may go into looking for faster settings.
    """
    from edgellm import backends, files
    from edgellm.chat import words
    from edgellm.tuning import first_look

    if first_look.due(artifact, engine):
        with files.turn("first look"):  # two at once would measure each other
            if first_look.due(artifact, engine):
                note("first use of this model: trying settings for a few seconds, once")
                with contextlib.suppress(EngineError):  # whatever it is, opening tells
                    first_look.look(artifact)
    with Spinner(lambda: words.say("loading", name=artifact.name)):
        opened = backends.open_session(artifact, engine)
    for text in opened.info.notes:
        note(text)
    return opened


def template(artifact: Artifact) -> ChatTemplate:
    """The model's chat template; a model made for something else is said to be. Raises UsageError without one."""
    from edgellm.formats import purpose
    from edgellm.prompt.model_template import template_of

    if made_for := purpose.other_than_text(artifact):
        note(f"{artifact.name} was made for {made_for}: what it writes means little")
    return template_of(artifact)


def spelled(model: str) -> str:
    """`model` so that it can be opened later, from another folder and with another hub preferred."""
    from edgellm.catalog import hubs, spellings

    if Path(model).exists():
        return str(Path(model).resolve())
    reference = spellings.read(model)
    preferred = hubs.preferred()
    if reference is None or reference.hub or preferred == spellings.HUGGINGFACE:
        return model
    return f"{preferred}:{model}"
