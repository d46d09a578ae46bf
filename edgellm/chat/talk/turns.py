"""Commands about what was said: /save, /load, /clear, /regen, /edit, /branches, /undo, /read, /system."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from edgellm.chat import words
from edgellm.chat.store import Store
from edgellm.chat.talk import attachments, picker
from edgellm.errors import UsageError
from edgellm.prompt.messages import n_common
from edgellm.prompt.messages import turns as turns_of
from edgellm.terminal import columns, fit

if TYPE_CHECKING:
    from edgellm.chat.talk.talk import Talk

_TURN = re.compile(r"#(\d{1,9})\s*(.*)", re.DOTALL)


def system(talk: Talk, arg: str) -> None:
    """/system, /system TEXT, /system -."""
    if arg:
        talk.conversation.system = None if arg == "-" else arg
        talk.keep()
    talk.screen.note(words.say("system_is", text=talk.conversation.system or words.say("none")))


def save(talk: Talk, arg: str) -> None:
    """/save, /save NAME, /save -f NAME."""
    force, name = arg.startswith("-f "), arg.removeprefix("-f ").strip()
    if name and talk.store is None:
        talk.store = Store()
    if talk.store is None:
        raise UsageError(words.say("not_saving"))
    if name:
        saved = talk.saved or talk.store.new(talk.model, "")
        talk.saved = talk.store.rename(saved, name, force=force)
    talk.keep()
    if talk.saved is None:
        talk.screen.note(words.say("named_later"))
    else:
        talk.screen.note(words.say("saved_as", name=talk.saved.name, path=talk.store.path(talk.saved.name)))


def load(talk: Talk, arg: str) -> None:
    """/load lists, /load NAME and /load NUMBER go on."""
    store = talk.store or Store()
    if arg:
        talk.load(store.load(arg))
        return
    if found := store.all():
        talk.screen.table(picker.rows(found), cut=True)
    else:
        talk.screen.note(words.say("none_saved", folder=store.folder))


def clear(talk: Talk, arg: str) -> None:
    """/clear: what was said stays saved."""
    kept = talk.saved.name if talk.saved and talk.conversation.messages else ""
    talk.start_over()
    talk.screen.note(words.say("new_kept", name=kept) if kept else words.say("new"))


def regen(talk: Talk, arg: str) -> None:
    """/regen."""
    if talk.conversation.options.sampling.temperature == 0 and not talk.conversation.unanswered:
        talk.screen.note(words.say("temp_zero"))
    talk.answer(talk.conversation.regenerate)


def edit(talk: Talk, arg: str) -> None:
    """/edit, /edit TEXT, /edit #2, /edit #2 TEXT."""
    said = [m.content for m in talk.conversation.messages if m.role == "user"]
    if not said:
        raise UsageError(words.say("nothing_to_edit"))
    found = _TURN.fullmatch(arg)
    turn, arg = (int(found[1]), found[2]) if found else (len(said), arg)
    if not 1 <= turn <= len(said):
        raise UsageError(words.say("no_message", turn=turn))
    if not arg and not talk.reader.interactive:
        raise UsageError(words.say("edit_needs_text"))
    text = arg or talk.reader.read(f"/edit #{turn} ", default=said[turn - 1]).strip()
    if text:
        talk.answer(lambda: talk.conversation.edit(text, turn))
        if turn < len(said):
            talk.screen.note(words.say("followed_is_kept"))


def branches(talk: Talk, arg: str) -> None:
    """/branches, /branches N."""
    conversation = talk.conversation
    if arg:
        number = arg.removeprefix("#")
        if not number.isdecimal() or not 1 <= int(number) <= len(conversation.branches):
            raise UsageError(words.say("no_branch", branch=arg))
        conversation.switch(int(number))
        talk.keep()
        talk.show_end()
        return
    if not conversation.branches:
        talk.screen.note(words.say("one_way"))
    rows = []
    for i, branch in enumerate(conversation.branches, 1):
        n = n_common(branch, conversation.messages)
        turn = len(turns_of(branch[: n + 1]))
        n_turns = words.say("turns", n=len(turns_of(branch)))
        text = branch[n].content if n < len(branch) else ""
        rows.append((f"#{i}", words.say("parts_at", turn=turn), n_turns, text))
    talk.screen.table(rows, cut=True)


def undo(talk: Talk, arg: str) -> None:
    """/undo."""
    if not talk.conversation.messages:
        raise UsageError(words.say("nothing_to_undo"))
    taken = talk.conversation.undo()
    talk.keep()
    talk.screen.note(words.say("taken_back", text=fit(taken.content, max(columns() - 14, 20))))


def read(talk: Talk, arg: str) -> None:
    """/read FILE."""
    if not arg:
        raise UsageError(words.say("read_needs_file"))
    talk.attach(attachments.read(Path(arg.strip("'\"")).expanduser()))
