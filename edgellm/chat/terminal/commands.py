"""The slash commands, as a table: names, arguments, help, function, completion.

A command works on the Repl it is given. Adding one is adding a row.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgellm.chat import settings
from edgellm.chat.store import Store
from edgellm.chat.terminal import render
from edgellm.errors import UsageError
from edgellm.prompt.messages import n_common, turns
from edgellm.terminal import bar, columns, fit

if TYPE_CHECKING:
    from edgellm.chat.terminal.repl import Repl

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


def _none(repl: Repl, begun: str) -> Iterable[str]:
    return ()


@dataclass(frozen=True)
class Command:
    """One slash command."""

    names: tuple[str, ...]
    args: str
    help: str
    run: Callable[[Repl, str], None]
    complete: Callable[[Repl, str], Iterable[str]] = _none


def find(name: str) -> Command:
    """The command called `name`. Raises UsageError with the nearest one."""
    for command in COMMANDS:
        if name in command.names:
            return command
    near = difflib.get_close_matches(name, [n for command in COMMANDS for n in command.names], 1)
    hint = f"did you mean {near[0]}?" if near else "/? lists them"
    raise UsageError(f"there is no command {name}; {hint} (a message that begins with a slash: /{name})")


def _help(repl: Repl, arg: str) -> None:
    repl.screen.table((f"{', '.join(c.names)} {c.args}".rstrip(), c.help) for c in COMMANDS)
    repl.screen.print("")
    repl.screen.table(_KEYS)


def _set(repl: Repl, arg: str) -> None:
    name, _, value = arg.removeprefix("parameter ").partition(" ")
    if not name:
        repl.screen.table(_settings(repl))
    elif name in _SWITCHES:
        _switch(repl, name, value.strip())
    else:
        parameter = settings.find(name)
        if value:
            options = repl.conversation.options
            repl.conversation.options = settings.put(options, parameter, parameter.parse(value))
        shown = settings.show(settings.get(repl.conversation.options, parameter))
        repl.screen.note(f"({parameter.name} is {shown})")


#: What /set knows beside generation: name -> (attribute owner, attribute, values as words, help).
_ON_OFF: dict[str, object] = {"on": True, "off": False}
_SWITCHES: dict[str, tuple[Callable[[Repl], object], str, dict[str, object], str]] = {
    "on-full": (
        lambda repl: repl.conversation,
        "on_full",
        {"drop": "drop", "stop": "stop", "summarise": "summarise"},
        "When the window is full: drop the oldest turns, stop, or sum them up.",
    ),
    "think": (
        lambda repl: repl.conversation,
        "think",
        {"on": True, "off": False, "auto": None},
        "Whether a reasoning model thinks first; auto: as its template has it.",
    ),
    "show-thinking": (
        lambda repl: repl.screen.view,
        "thinking",
        _ON_OFF,
        "What the model thinks is shown, dim.",
    ),
    "markdown": (lambda repl: repl.screen.view, "markdown", _ON_OFF, "Bold, code and headings are styled."),
    "wrap": (lambda repl: repl.screen.view, "wrap", _ON_OFF, "Words are not torn at the terminal's edge."),
    "save-state": (
        lambda repl: repl,
        "save_state",
        _ON_OFF,
        "The engine's state is kept beside the conversation.",
    ),
    "energy": (lambda repl: repl.energy, "on", _ON_OFF, "Joules of each answer, where they can be measured."),
    "stats": (lambda repl: repl, "show_stats", _ON_OFF, "A line after each answer: tokens, speed, memory."),
}


def _switch(repl: Repl, name: str, word: str) -> None:
    owner, attribute, words, _ = _SWITCHES[name]
    if word and word not in words:
        raise UsageError(f"{name} cannot be {word!r}: give {' or '.join(words)}")
    if word:
        setattr(owner(repl), attribute, words[word])
    repl.screen.note(f"({name} is {_word(repl, name)})")


def _word(repl: Repl, name: str) -> str:
    owner, attribute, words, _ = _SWITCHES[name]
    return next(word for word, value in words.items() if value == getattr(owner(repl), attribute))


def _settings(repl: Repl) -> list[tuple[str, str, str]]:
    options = repl.conversation.options
    rows = [(p.name, settings.show(settings.get(options, p)), p.help) for p in settings.PARAMETERS]
    return rows + [(name, _word(repl, name), row[3]) for name, row in _SWITCHES.items()]


def _show(repl: Repl, arg: str) -> None:
    topic = arg.lower() or "model"
    if topic not in _TOPICS:
        raise UsageError(f"there is nothing to show about {arg!r}; there are: {', '.join(_TOPICS)}")
    _TOPICS[topic](repl)


def _show_model(repl: Repl) -> None:
    session = repl.conversation.session
    artifact, info = session.artifact, session.info
    repl.screen.table(
        (
            ("model", artifact.name),
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


def _show_messages(repl: Repl) -> None:
    conversation = repl.conversation
    if not conversation.messages:
        repl.screen.note("(nothing was said yet)")
    if conversation.summary:
        repl.screen.note(f"summary of the {conversation.summary.n_messages} oldest messages")
        repl.screen.message(conversation.summary.text)
    turn = 0
    for i, message in enumerate(conversation.messages):
        turn += message.role == "user"
        number = f"#{turn} " if message.role == "user" else ""
        unseen = " (no longer seen by the model)" if i < conversation.n_hidden else ""
        repl.screen.note(f"{number}{message.role}{unseen}")
        repl.screen.message(message.content)


_TOPICS: dict[str, Callable[[Repl], None]] = {
    "model": _show_model,
    "settings": lambda repl: repl.screen.table(_settings(repl)),
    "system": lambda repl: repl.screen.print(repl.conversation.system or "(no system prompt)"),
    "template": lambda repl: repl.screen.print(repl.conversation.session.artifact.chat_template or "(none)"),
    "messages": _show_messages,
}


def _system(repl: Repl, arg: str) -> None:
    if arg:
        repl.conversation.system = None if arg == "-" else arg
        repl.keep()
    repl.screen.note(f"(system prompt: {repl.conversation.system or 'none'})")


def _save(repl: Repl, arg: str) -> None:
    force, name = arg.startswith("-f "), arg.removeprefix("-f ").strip()
    if name and repl.store is None:
        repl.store = Store()
    if repl.store is None:
        raise UsageError("nothing is being saved (--no-save); /save NAME begins to")
    saved = repl.saved or repl.store.new(repl.model, repl.conversation.session.artifact.name)
    repl.saved = repl.store.rename(saved, name, force=force) if name else saved
    repl.keep()
    repl.screen.note(f"(saved after every turn as {repl.saved.name}: {repl.store.path(repl.saved.name)})")


def _load(repl: Repl, arg: str) -> None:
    store = repl.store or Store()
    if arg:
        repl.load(store.load(arg))
        return
    found = store.all()
    if not found:
        repl.screen.note(f"(no saved conversations in {store.folder})")
    else:
        repl.screen.table(((s.name, f"{s.n_turns} turns", s.title) for s in found), cut=True)


def _clear(repl: Repl, arg: str) -> None:
    kept = (
        f"; the old conversation is kept as {repl.saved.name}"
        if repl.saved and repl.conversation.messages
        else ""
    )
    repl.start_over()
    repl.screen.note(f"(a new conversation{kept})")


def _regen(repl: Repl, arg: str) -> None:
    if repl.conversation.options.sampling.temperature == 0 and not repl.conversation.unanswered:
        repl.screen.note("(temp is 0: the answer will be the same; /set temp 0.8 varies it)")
    repl.answer(repl.conversation.regenerate)


def _edit(repl: Repl, arg: str) -> None:
    """/edit, /edit TEXT, /edit #2, /edit #2 TEXT."""
    said = [m.content for m in repl.conversation.messages if m.role == "user"]
    if not said:
        raise UsageError("there is no message to edit yet")
    found = _TURN.fullmatch(arg)
    turn, arg = (int(found[1]), found[2]) if found else (len(said), arg)
    if not 1 <= turn <= len(said):
        raise UsageError(f"there is no message #{turn}; /show messages lists them")
    if not arg and not repl.reader.interactive:
        raise UsageError("/edit needs the new text here: /edit TEXT")
    text = arg or repl.reader.read(f"/edit #{turn} ", default=said[turn - 1]).strip()
    if text:
        repl.answer(lambda: repl.conversation.edit(text, turn))
        if turn < len(said):
            repl.screen.note("(what followed before is kept: /branches)")


def _branches(repl: Repl, arg: str) -> None:
    conversation = repl.conversation
    if arg:
        if not arg.removeprefix("#").isdecimal():
            raise UsageError(f"a branch is a number, not {arg!r}; /branches lists them")
        conversation.switch(int(arg.removeprefix("#")))
        repl.keep()
        repl.show_end()
        return
    if not conversation.branches:
        repl.screen.note("(there is one way only; /edit and /regen make others)")
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
    repl.screen.table(rows, cut=True)


def _undo(repl: Repl, arg: str) -> None:
    taken = repl.conversation.undo()
    repl.keep()
    repl.screen.note(f"(taken back: {fit(taken.content, max(columns() - 14, 20))})")


def _read(repl: Repl, arg: str) -> None:
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
    n_tokens = len(repl.conversation.session.tokenize(text, special=False))
    if n_tokens > repl.conversation.n_ctx:
        raise UsageError(
            f"{path} is {n_tokens:,} tokens; the window holds {repl.conversation.n_ctx:,}: "
            f"read a part of it{repl.conversation.larger_window}"
        )
    repl.attach(path.name, text)
    repl.screen.note(f"({path.name}: {n_tokens:,} tokens, sent with your next message)")


def _stats(repl: Repl, arg: str) -> None:
    conversation, memory = repl.conversation, render.resident_bytes()
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
    repl.screen.table(rows)


def _bye(repl: Repl, arg: str) -> None:
    repl.done = True


def _starting(words: Iterable[str], begun: str) -> list[str]:
    return [word for word in words if word.startswith(begun)]


def _complete_set(repl: Repl, begun: str) -> Iterable[str]:
    name, blank, rest = begun.partition(" ")
    if blank:
        return _starting(_SWITCHES[name][2] if name in _SWITCHES else (), rest)
    return _starting([*(p.name for p in settings.PARAMETERS), *_SWITCHES], name)


def _complete_load(repl: Repl, begun: str) -> Iterable[str]:
    return _starting((saved.name for saved in (repl.store or Store()).all()), begun)


def _complete_path(repl: Repl, begun: str) -> Iterable[str]:
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
        lambda repl, begun: _starting(_TOPICS, begun),
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
