"""The slash commands, as a table: names, arguments, help, function, completion.

A command works on the Talk it is given. Adding one is adding a row.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgellm.chat import settings
from edgellm.chat.store import Store
from edgellm.chat.terminal import render
from edgellm.errors import UsageError, did_you_mean
from edgellm.prompt.messages import n_common, turns
from edgellm.terminal import bar, columns, fit

if TYPE_CHECKING:
    from edgellm.chat.terminal.talk import Talk

_MAX_FILE_BYTES = 8 << 20  # some two million tokens: no window is larger, and a mistaken path ends here
_TURN = re.compile(r"#(\d{1,9})\s*(.*)", re.DOTALL)
_KEYS = (
    ("Ctrl-C", "stop the answer"),
    ("Ctrl-D", "leave"),
    ('"""', "begin and end a message of several lines"),
    ("Alt-Enter", "a new line in the message"),
    ("Ctrl-X Ctrl-E", "write the message in $EDITOR"),
    ("Tab, Up, Ctrl-R", "complete, earlier messages, search them"),
    ("//", "a message that begins with a slash"),
)


def _none(talk: Talk, begun: str) -> Iterable[str]:
    return ()


@dataclass(frozen=True)
class Command:
    """One slash command."""

    names: tuple[str, ...]
    args: str
    help: str
    run: Callable[[Talk, str], None]
    complete: Callable[[Talk, str], Iterable[str]] = _none


def find(name: str) -> Command:
    """The command called `name`. Raises UsageError with the nearest one."""
    for command in COMMANDS:
        if name in command.names:
            return command
    hint = did_you_mean(name, [n for command in COMMANDS for n in command.names], "/? lists them")
    raise UsageError(f"there is no command {name}; {hint} (a message that begins with a slash: /{name})")


def _help(talk: Talk, arg: str) -> None:
    talk.screen.table((f"{', '.join(c.names)} {c.args}".rstrip(), c.help) for c in COMMANDS)
    talk.screen.print("")
    talk.screen.table(_KEYS)


def _set(talk: Talk, arg: str) -> None:
    name, _, value = arg.removeprefix("parameter ").partition(" ")
    if not name:
        talk.screen.table(_settings(talk))
    elif name in _SWITCHES:
        _switch(talk, name, value.strip())
    else:
        parameter = settings.find(name)
        if value:
            options = talk.conversation.options
            talk.conversation.options = settings.put(options, parameter, parameter.parse(value))
        shown = settings.show(settings.get(talk.conversation.options, parameter))
        talk.screen.note(f"({parameter.name} is {shown})")


#: What /set knows beside generation: name -> (attribute owner, attribute, values as words, help).
_ON_OFF: dict[str, object] = {"on": True, "off": False}
_SWITCHES: dict[str, tuple[Callable[[Talk], object], str, dict[str, object], str]] = {
    "on-full": (
        lambda talk: talk.conversation,
        "on_full",
        {"drop": "drop", "stop": "stop", "summarise": "summarise"},
        "When the window is full: drop the oldest turns, stop, or sum them up.",
    ),
    "think": (
        lambda talk: talk.conversation,
        "think",
        {"on": True, "off": False, "auto": None},
        "Whether a reasoning model thinks first; auto: as its template has it.",
    ),
    "show-thinking": (
        lambda talk: talk.screen.view,
        "thinking",
        _ON_OFF,
        "What the model thinks is shown, dim.",
    ),
    "markdown": (lambda talk: talk.screen.view, "markdown", _ON_OFF, "Bold, code and headings are styled."),
    "wrap": (lambda talk: talk.screen.view, "wrap", _ON_OFF, "Words are not torn at the terminal's edge."),
    "save-state": (
        lambda talk: talk,
        "save_state",
        _ON_OFF,
        "The engine's state is kept beside the conversation.",
    ),
    "energy": (lambda talk: talk.energy, "on", _ON_OFF, "Joules of each answer, where they can be measured."),
    "stats": (lambda talk: talk, "show_stats", _ON_OFF, "A line after each answer: tokens, speed, memory."),
}


def _switch(talk: Talk, name: str, word: str) -> None:
    owner, attribute, words, _ = _SWITCHES[name]
    if word and word not in words:
        raise UsageError(f"{name} cannot be {word!r}: give {' or '.join(words)}")
    if word:
        setattr(owner(talk), attribute, words[word])
    talk.screen.note(f"({name} is {_word(talk, name)})")


def _word(talk: Talk, name: str) -> str:
    owner, attribute, words, _ = _SWITCHES[name]
    return next(word for word, value in words.items() if value == getattr(owner(talk), attribute))


def _settings(talk: Talk) -> list[tuple[str, str, str]]:
    options = talk.conversation.options
    rows = [(p.name, settings.show(settings.get(options, p)), p.help) for p in settings.PARAMETERS]
    return rows + [(name, _word(talk, name), row[3]) for name, row in _SWITCHES.items()]


def _show(talk: Talk, arg: str) -> None:
    topic = arg.lower() or "model"
    if topic not in _TOPICS:
        raise UsageError(f"there is nothing to show about {arg!r}; there are: {', '.join(_TOPICS)}")
    _TOPICS[topic](talk)


def _show_model(talk: Talk) -> None:
    session = talk.conversation.session
    artifact, info = session.artifact, session.info
    unknown = "outside the verified families: tools, thinking and memory are unknown"
    talk.screen.table(
        (
            ("model", artifact.name),
            *((("family", unknown),) if artifact.foreign else ()),
            ("file", f"{artifact.path} ({artifact.size_bytes / 1e6:,.1f} MB)"),
            ("architecture", f"{artifact.architecture}, {artifact.quantization}"),
            ("context", f"{info.n_ctx:,} tokens; the model was trained on {artifact.n_ctx_train:,}"),
            ("engine", f"{info.backend} {info.version}"),
            ("threads", f"{info.options.n_threads}"),
            (
                "KV cache",
                f"{info.options.type_k}/{info.options.type_v}, flash attention {info.options.flash_attn}",
            ),
        )
    )


def _show_messages(talk: Talk) -> None:
    conversation = talk.conversation
    if not conversation.messages:
        talk.screen.note("(nothing was said yet)")
    if conversation.summary:
        talk.screen.note(f"summary of the {conversation.summary.n_messages} oldest messages")
        talk.screen.message(conversation.summary.text)
    turn = 0
    for i, message in enumerate(conversation.messages):
        turn += message.role == "user"
        number = f"#{turn} " if message.role == "user" else ""
        unseen = " (no longer seen by the model)" if i < conversation.n_hidden else ""
        talk.screen.note(f"{number}{message.role}{unseen}")
        talk.screen.message(message.content)


_TOPICS: dict[str, Callable[[Talk], None]] = {
    "model": _show_model,
    "settings": lambda talk: talk.screen.table(_settings(talk)),
    "system": lambda talk: talk.screen.print(talk.conversation.system or "(no system prompt)"),
    "template": lambda talk: talk.screen.print(talk.conversation.session.artifact.chat_template or "(none)"),
    "messages": _show_messages,
}


def _system(talk: Talk, arg: str) -> None:
    if arg:
        talk.conversation.system = None if arg == "-" else arg
        talk.keep()
    talk.screen.note(f"(system prompt: {talk.conversation.system or 'none'})")


def _save(talk: Talk, arg: str) -> None:
    force, name = arg.startswith("-f "), arg.removeprefix("-f ").strip()
    if name and talk.store is None:
        talk.store = Store()
    if talk.store is None:
        raise UsageError("nothing is being saved (--no-save); /save NAME begins to")
    saved = talk.saved or talk.store.new(talk.model, talk.conversation.session.artifact.name)
    talk.saved = talk.store.rename(saved, name, force=force) if name else saved
    talk.keep()
    talk.screen.note(f"(saved after every turn as {talk.saved.name}: {talk.store.path(talk.saved.name)})")


def _load(talk: Talk, arg: str) -> None:
    store = talk.store or Store()
    if arg:
        talk.load(store.load(arg))
        return
    found = store.all()
    if not found:
        talk.screen.note(f"(no saved conversations in {store.folder})")
    else:
        talk.screen.table(((s.name, f"{s.n_turns} turns", s.title) for s in found), cut=True)


def _clear(talk: Talk, arg: str) -> None:
    kept = (
        f"; the old conversation is kept as {talk.saved.name}"
        if talk.saved and talk.conversation.messages
        else ""
    )
    talk.start_over()
    talk.screen.note(f"(a new conversation{kept})")


def _regen(talk: Talk, arg: str) -> None:
    if talk.conversation.options.sampling.temperature == 0 and not talk.conversation.unanswered:
        talk.screen.note("(temp is 0: the answer will be the same; /set temp 0.8 varies it)")
    talk.answer(talk.conversation.regenerate)


def _edit(talk: Talk, arg: str) -> None:
    """/edit, /edit TEXT, /edit #2, /edit #2 TEXT."""
    said = [m.content for m in talk.conversation.messages if m.role == "user"]
    if not said:
        raise UsageError("there is no message to edit yet")
    found = _TURN.fullmatch(arg)
    turn, arg = (int(found[1]), found[2]) if found else (len(said), arg)
    if not 1 <= turn <= len(said):
        raise UsageError(f"there is no message #{turn}; /show messages lists them")
    if not arg and not talk.reader.interactive:
        raise UsageError("/edit needs the new text here: /edit TEXT")
    text = arg or talk.reader.read(f"/edit #{turn} ", default=said[turn - 1]).strip()
    if text:
        talk.answer(lambda: talk.conversation.edit(text, turn))
        if turn < len(said):
            talk.screen.note("(what followed before is kept: /branches)")


def _branches(talk: Talk, arg: str) -> None:
    conversation = talk.conversation
    if arg:
        if not arg.removeprefix("#").isdecimal():
            raise UsageError(f"a branch is a number, not {arg!r}; /branches lists them")
        conversation.switch(int(arg.removeprefix("#")))
        talk.keep()
        talk.show_end()
        return
    if not conversation.branches:
        talk.screen.note("(there is one way only; /edit and /regen make others)")
    rows = []
    for i, branch in enumerate(conversation.branches, 1):
        n = n_common(branch, conversation.messages)
        turn = len(turns(branch[: n + 1]))
        rows.append(
            (
                f"#{i}",
                f"parts at #{turn}",
                f"{len(turns(branch))} turns",
                branch[n].content if n < len(branch) else "",
            )
        )
    talk.screen.table(rows, cut=True)


def _undo(talk: Talk, arg: str) -> None:
    taken = talk.conversation.undo()
    talk.keep()
    talk.screen.note(f"(taken back: {fit(taken.content, max(columns() - 14, 20))})")


def _read(talk: Talk, arg: str) -> None:
    if not arg:
        raise UsageError("/read needs a file: /read notes.txt")
    path = Path(arg.strip("'\"")).expanduser()
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise UsageError(
                f"{path} has {path.stat().st_size:,} bytes; at most {_MAX_FILE_BYTES:,} are read"
            )
        text = path.read_bytes().decode()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text (byte {error.start:,}); convert it first") from None
    n_tokens = len(talk.conversation.session.tokenize(text, special=False))
    if n_tokens > talk.conversation.n_ctx:
        raise UsageError(
            f"{path} is {n_tokens:,} tokens; the window holds {talk.conversation.n_ctx:,}: "
            f"read a part of it{talk.conversation.larger_window}"
        )
    talk.attach(path.name, text)
    talk.screen.note(f"({path.name}: {n_tokens:,} tokens, sent with your next message)")


def _stats(talk: Talk, arg: str) -> None:
    conversation, memory = talk.conversation, render.resident_bytes()
    share = conversation.n_used / conversation.n_ctx
    used = f"{conversation.n_used:,} of {conversation.n_ctx:,} tokens ({share:.0%})"
    rows = [("context", f"{bar(share, 20)} {used}")]
    if conversation.n_hidden:
        rows.append(("left out", f"the {conversation.n_hidden} oldest messages, to make room"))
    if last := conversation.last:
        rows.append(("last answer", f"{render.stats_line(last.usage)} · ended by {last.finish_reason}"))
        rows.append(("prefill", f"{last.usage.prefill_rate or 0:,.0f} tok/s"))
    if conversation.messages and (seed := conversation.messages[-1].seed) is not None:
        rows.append(("seed", str(seed)))
    rows.append(("memory", f"{memory / 1e6:,.0f} MB"))
    talk.screen.table(rows)


def _bye(talk: Talk, arg: str) -> None:
    talk.done = True


def _starting(words: Iterable[str], begun: str) -> list[str]:
    return [word for word in words if word.startswith(begun)]


def _complete_set(talk: Talk, begun: str) -> Iterable[str]:
    name, blank, rest = begun.partition(" ")
    if blank:
        return _starting(_SWITCHES[name][2] if name in _SWITCHES else (), rest)
    return _starting([*(p.name for p in settings.PARAMETERS), *_SWITCHES], name)


def _complete_load(talk: Talk, begun: str) -> Iterable[str]:
    return _starting((saved.name for saved in (talk.store or Store()).all()), begun)


def _complete_path(talk: Talk, begun: str) -> Iterable[str]:
    folder, _, stem = begun.rpartition("/")
    where = Path(f"{folder}/" if folder or begun.startswith("/") else ".").expanduser()
    with contextlib.suppress(OSError):
        found = [path for path in where.iterdir() if path.name.startswith(stem)]
        return [begun.removesuffix(stem) + path.name + ("/" if path.is_dir() else "") for path in found]
    return ()


COMMANDS = (
    Command(("/?", "/help"), "", "Show this.", _help),
    Command(("/set",), "[NAME [VALUE]]", "Show or change a setting, e.g. /set temp 0.2", _set, _complete_set),
    Command(
        ("/show",),
        "[TOPIC]",
        "Show the model, settings, system, template or messages.",
        _show,
        lambda talk, begun: _starting(_TOPICS, begun),
    ),
    Command(("/system",), "[TEXT]", "Show or change the system prompt; - removes it.", _system),
    Command(("/save",), "[-f] [NAME]", "Name this conversation; it is saved after every turn.", _save),
    Command(
        ("/load",),
        "[NAME]",
        "Go on with a saved conversation; without a name, list them.",
        _load,
        _complete_load,
    ),
    Command(("/clear",), "", "Start a new conversation.", _clear),
    Command(("/regen",), "", "Answer the last message anew.", _regen),
    Command(("/edit",), "[#N] [TEXT]", "Change the last message, or message N, and have it answered.", _edit),
    Command(
        ("/branches",), "[N]", "Ways this conversation went before /edit or /regen; go over to N.", _branches
    ),
    Command(("/undo",), "", "Take back the last message and its answer.", _undo),
    Command(("/read",), "FILE", "Send a text file with the next message.", _read, _complete_path),
    Command(("/stats",), "", "Show how full the window is, speeds, memory.", _stats),
    Command(("/bye", "/exit", "/quit"), "", "Leave.", _bye),
)
