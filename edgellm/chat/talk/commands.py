"""The slash commands, as a table: names, arguments, help, function, completion.

A command works on the Talk it is given. Adding one is adding a row.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgellm.chat import words
from edgellm.chat.store import Store
from edgellm.chat.talk import setting, showing, turns
from edgellm.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from edgellm.chat.talk.talk import Talk


def _none(talk: Talk, begun: str) -> Iterable[str]:
    return ()


@dataclass(frozen=True)
class Command:
    """One slash command."""

    names: tuple[str, ...]
    args: str
    help: Callable[[], str]
    run: Callable[[Talk, str], None]
    complete: Callable[[Talk, str], Iterable[str]] = _none


def find(name: str) -> Command:
    """The command called `name`. Raises UsageError with the nearest one."""
    for command in COMMANDS:
        if name in command.names:
            return command
    known = [n for command in COMMANDS for n in command.names]
    hint = did_you_mean(name, known, words.say("help_lists"))
    raise UsageError(words.say("no_command", name=name, hint=hint))


def _help(talk: Talk, arg: str) -> None:
    talk.screen.table((f"{', '.join(c.names)} {c.args}".rstrip(), c.help()) for c in COMMANDS)
    talk.screen.print("")
    talk.screen.table(
        (
            ("Ctrl-C", words.say("key_stop")),
            ("Ctrl-D", words.say("key_leave")),
            ('"""', words.say("key_quotes")),
            ("Alt-Enter", words.say("key_newline")),
            ("Ctrl-X Ctrl-E", words.say("key_editor")),
            ("Tab, Up, Ctrl-R", words.say("key_complete")),
            ("@FILE", words.say("key_at")),
            ("//", words.say("key_slash")),
        )
    )


def _bye(talk: Talk, arg: str) -> None:
    talk.done = True


def _starting(known: Iterable[str], begun: str) -> list[str]:
    return [word for word in known if word.startswith(begun)]


def _complete_set(talk: Talk, begun: str) -> Iterable[str]:
    name, blank, rest = begun.partition(" ")
    return _starting(setting.values(name), rest) if blank else _starting(setting.names(), name)


def _complete_load(talk: Talk, begun: str) -> Iterable[str]:
    return _starting((saved.name for saved in (talk.store or Store()).all()), begun)


def complete_path(talk: Talk, begun: str) -> Iterable[str]:
    """Paths that begin so; folders end with a slash."""
    folder, _, stem = begun.rpartition("/")
    where = Path(f"{folder}/" if folder or begun.startswith("/") else ".").expanduser()
    with contextlib.suppress(OSError):
        found = [path for path in where.iterdir() if path.name.startswith(stem)]
        return [begun.removesuffix(stem) + path.name + ("/" if path.is_dir() else "") for path in found]
    return ()


COMMANDS = (
    Command(("/?", "/help"), "", lambda: words.say("help_help"), _help),
    Command(("/set",), "[NAME [VALUE]]", lambda: words.say("help_set"), setting.change, _complete_set),
    Command(("/model",), "[MODEL]", lambda: words.say("help_model"), setting.model, complete_path),
    Command(
        ("/show",),
        "[TOPIC]",
        lambda: words.say("help_show"),
        showing.show,
        lambda talk, begun: _starting(showing.TOPICS, begun),
    ),
    Command(("/system",), "[TEXT]", lambda: words.say("help_system"), turns.system),
    Command(("/save",), "[-f] [NAME]", lambda: words.say("help_save"), turns.save),
    Command(("/load",), "[NAME|N]", lambda: words.say("help_load"), turns.load, _complete_load),
    Command(("/clear",), "", lambda: words.say("help_clear"), turns.clear),
    Command(("/regen",), "", lambda: words.say("help_regen"), turns.regen),
    Command(("/edit",), "[#N] [TEXT]", lambda: words.say("help_edit"), turns.edit),
    Command(("/branches",), "[N]", lambda: words.say("help_branches"), turns.branches),
    Command(("/undo",), "", lambda: words.say("help_undo"), turns.undo),
    Command(("/read",), "FILE", lambda: words.say("help_read"), turns.read, complete_path),
    Command(("/stats",), "", lambda: words.say("help_stats"), showing.stats),
    Command(("/bye", "/exit", "/quit"), "", lambda: words.say("help_bye"), _bye),
)
