"""Saved conversations to choose from: a numbered list, and the question which."""

from __future__ import annotations

from collections.abc import Sequence

from edgellm.chat import words
from edgellm.chat.store import Saved, Store
from edgellm.chat.terminal.reader import Reader
from edgellm.chat.terminal.render import Screen
from edgellm.errors import UsageError
from edgellm.terminal import columns, fit

_SHOWN = 20


def rows(found: Sequence[Saved]) -> list[tuple[str, ...]]:
    """A row for each conversation: its number, name, age and length, and what it began with."""
    room = max(columns() // 2 - 4, 16)
    return [
        (
            f"{number}",
            fit(saved.name, room),
            saved.updated[:10],
            words.say("turns", n=saved.n_turns),
            saved.title,
        )
        for number, saved in enumerate(found, 1)
    ]


def pick(store: Store, reader: Reader, screen: Screen) -> Saved:
    """The conversation a person chooses. Raises UsageError where there is nobody or nothing, EOFError at Ctrl-D."""
    found = store.all()
    if not found:
        raise UsageError(words.say("none_saved", folder=store.folder))
    if not reader.interactive:
        raise UsageError(words.say("resume_needs_name", names=", ".join(saved.name for saved in found[:5])))
    screen.table(rows(found[:_SHOWN]), cut=True)
    if len(found) > _SHOWN:
        screen.note(words.say("more_saved", n=len(found) - _SHOWN))
    while True:
        answer = reader.ask(words.say("which")).strip()
        try:
            return store.load(answer or "1")
        except UsageError as error:
            screen.error(str(error))
