"""The default text of quality figures: held-out dialogues, as a model's own chat template writes them.

They are the task suite with its answers, of which the bundled models have seen none in training; every task and
both languages take turns, so any beginning is a fair sample. Knows sessions; a template is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

from edgellm.errors import UsageError
from edgellm.generation.scoring import Chunk
from edgellm.profiles.quality import tasks
from edgellm.profiles.quality.tasks import TaskItem
from edgellm.session import Session

NAME = "edgellm held-out dialogues"
#: Chat messages to the text a model sees; None for a model that has no template.
Render = Callable[[Sequence[dict[str, str]]], str]
#: Dialogues evaluated by default.
DEFAULT_COUNT = 224


def chunks(session: Session, render: Render | None, count: int = DEFAULT_COUNT) -> list[Chunk]:
    """The first `count` dialogues, one a chunk, every token but the first scored.

    Dialogues longer than the session's context are left out. Raises UsageError when none is left.
    """
    return [chunk for chunk, _ in with_languages(session, render, count)]


def with_languages(
    session: Session, render: Render | None, count: int = DEFAULT_COUNT
) -> list[tuple[Chunk, str]]:
    """The same chunks, each with its dialogue's language."""
    found: list[tuple[Chunk, str]] = []
    for item in _by_turns()[:count]:
        messages = [*item.messages, {"role": "assistant", "content": item.answer}]
        if render:
            ids = session.tokenize(render(messages), special=True)
        else:
            ids = session.tokenize(script(messages), special=False, add_bos=session.info.add_bos)
        if 2 <= len(ids) <= session.info.n_ctx:
            found.append((Chunk(tuple(ids), 1), item.lang))
    if not found:
        raise UsageError(f"no dialogue fits a context of {session.info.n_ctx} tokens; raise -c")
    return found


def script(messages: Sequence[dict[str, Any]]) -> str:
    """Messages as plain text, for models without a chat template."""
    return "\n".join(f"{message['role'].capitalize()}: {message['content']}" for message in messages)


def _by_turns() -> list[TaskItem]:
    """All items, one of each task after the other."""
    rounds = zip_longest(*(tasks.load(name) for name in tasks.names()))
    return [item for each in rounds for item in each if item is not None]
