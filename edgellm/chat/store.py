"""Conversations on disk: one plain JSON file each, replaced atomically after every turn.

    {"format": "edgellm-chat/1", "name", "model", "created", "updated", "system",
     "messages": [{"role", "content", "finish_reason"?, "truncated"?, "seed"?, "thinking"?, "calls"?, "call_id"?}],
     "n_hidden"?, "summary"?: {"text", "n_messages"},
     "branches"?: [{"n_common": messages as above it begins with, "messages": the others}]}

Knows files and messages; knows no model and no terminal.
"""

from __future__ import annotations

import datetime
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from edgellm import files
from edgellm.chat import state
from edgellm.errors import StorageError, UsageError, did_you_mean
from edgellm.prompt import messages as chat_messages
from edgellm.prompt.messages import History, Message, Summary

FORMAT = "edgellm-chat/1"
_NAME = re.compile(r"[^\W_][\w .-]{0,99}")  # letters of any script; no path, no hidden file
_LONGEST = 40  # characters of a name made from a message


@dataclass(frozen=True)
class Saved:
    """A conversation as it is on disk."""

    name: str
    model: str  # as it was given to edgellm, so that it can be opened again
    created: str  # ISO 8601, UTC
    updated: str
    history: History = field(default_factory=History)

    @property
    def messages(self) -> tuple[Message, ...]:
        """What was said."""
        return self.history.messages

    @property
    def system(self) -> str | None:
        """The system prompt."""
        return self.history.system

    @property
    def title(self) -> str:
        """The first thing the user said."""
        return self.messages[0].content if self.messages else ""

    @property
    def n_turns(self) -> int:
        """How often the user spoke."""
        return len(chat_messages.turns(self.messages))


class Store:
    """The folder of saved conversations."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or data_dir() / "chats"
        self._written: dict[str, str] = {}  # the time stamp we gave each file, to notice another writer

    def path(self, name: str) -> Path:
        """Where `name` is kept. Raises UsageError for what cannot be a name."""
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name!r} cannot be a name: use letters, digits, spaces, '.', '-' and '_'")
        return self.folder / f"{name}.json"

    def state_path(self, name: str) -> Path:
        """Where the engine's state of `name` is kept, if it is."""
        return self.path(name).with_name(f"{name}{state.SUFFIX}")

    def delete(self, name: str) -> None:
        """Remove a conversation and its state. Raises UsageError when there is none."""
        if not self.path(name).exists():
            raise self._missing(name)
        with files.storage_errors(self.path(name)):
            self.path(name).unlink()
            self.state_path(name).unlink(missing_ok=True)

    def new(self, model: str, about: str) -> Saved:
        """A conversation of now with `model`, not on disk yet, under a name nobody has: its first message's words.

        Where `about` has none, the time.
        """
        now = _now()
        return Saved(self._free(_slug(about) or f"{now[:10]}-{now[11:19].replace(':', '')}"), model, now, now)

    def write(self, saved: Saved, history: History) -> Saved:
        """Put the conversation on disk as it is now; returns what was written.

        When another program has written to it since, ours goes under a new name: nothing is lost.
        """
        path = self.path(saved.name)
        self._make_folder()
        known = self._written.get(saved.name, saved.updated)
        if path.exists() and self._updated(path) != known:
            saved = replace(saved, name=self._free(saved.name))
        saved = write(self.path(saved.name), replace(saved, history=history))
        self._written[saved.name] = saved.updated
        return saved

    def rename(self, saved: Saved, name: str, *, force: bool = False) -> Saved:
        """Keep the conversation under `name` from now on. Raises UsageError when that is another one's."""
        target = self.path(name)
        if name == saved.name:
            return saved
        if target.exists() and not force:
            raise UsageError(
                f"there is a conversation {name!r} already; choose another name or /save -f {name}"
            )
        source = self.path(saved.name)
        self._make_folder()
        with files.storage_errors(target):
            for old, new in ((source, target), (self.state_path(saved.name), self.state_path(name))):
                if old.exists():
                    old.replace(new)
                else:
                    new.unlink(missing_ok=True)
        self._written[name] = self._written.get(saved.name, saved.updated)
        return replace(saved, name=name)

    def has(self, saved: Saved) -> bool:
        """Whether the conversation is on disk."""
        return self.path(saved.name).exists()

    def named(self, text: str) -> str:
        """The conversation that `text` means: its name, or its number in `all`, 1 for the newest. Raises UsageError."""
        if self.path(text).exists() or not text.isdecimal():
            return text
        found = self.all()
        if not 1 <= int(text) <= len(found):
            raise UsageError(
                f"there is no conversation {text}; there are {len(found)}: edgellm chats lists them"
            )
        return found[int(text) - 1].name

    def load(self, name: str) -> Saved:
        """Read a conversation by name or number. Raises UsageError for none, StorageError for a damaged one."""
        name = self.named(name)
        path = self.path(name)
        if not path.exists():
            raise self._missing(name)
        saved = _read(path)
        self._written[name] = saved.updated
        return saved

    def all(self) -> list[Saved]:
        """All readable conversations, newest first."""
        found = []
        for path in self.folder.glob("*.json"):
            try:
                found.append(_read(path))
            except StorageError:
                continue  # one damaged file must not hide the others; loading it by name says why
        return sorted(found, key=lambda saved: saved.updated, reverse=True)

    def newest(self) -> Saved:
        """The conversation last written to."""
        for saved in self.all():
            return self.load(saved.name)
        raise UsageError(f"there is no conversation to continue in {self.folder}")

    def _missing(self, name: str) -> UsageError:
        names = [saved.name for saved in self.all()]
        hint = did_you_mean(name, names, f"newest: {', '.join(names[:5])}" if names else "")
        return UsageError(f"there is no conversation {name!r} in {self.folder}{hint and '; '}{hint}")

    def _make_folder(self) -> None:
        """Conversations are for their owner's eyes: so is the folder above, which holds the input history."""
        with files.storage_errors(self.folder):
            for folder in (self.folder.parent, self.folder):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _updated(self, path: Path) -> str | None:
        try:
            return _read(path).updated
        except StorageError:
            return None

    def _free(self, stem: str) -> str:
        """`stem`, or the first of stem-2, stem-3, ... that is not taken."""
        name, n = stem, 1
        while self.path(name).exists():
            n += 1
            name = f"{stem}-{n}"
        return name


def read(path: Path) -> Saved:
    """The conversation in any file of this format. Raises UsageError for none, StorageError for a damaged one."""
    if not path.exists():
        raise UsageError(f"there is no file {path}")
    return _read(path)


def write(path: Path, saved: Saved) -> Saved:
    """Put `saved` into any file, in the place of what is there; returns what was written. Raises StorageError."""
    saved = replace(saved, updated=_now())
    text = json.dumps(_as_json(saved), ensure_ascii=False, indent=1) + "\n"
    files.write_text(path, text, mode=0o600)
    return saved


def _read(path: Path) -> Saved:
    try:
        return _from_json(path.stem, json.loads(path.read_text(encoding="utf-8")))
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise StorageError(
            f"{path} is not a saved conversation: {_why(error)}; delete it or repair it by hand"
        ) from error


def data_dir() -> Path:
    """Folder for what cannot be made again: `$EDGELLM_DATA`, else the XDG data folder."""
    base = os.environ.get("EDGELLM_DATA")
    home = os.environ.get("XDG_DATA_HOME")
    return Path(base) if base else (Path(home) if home else Path.home() / ".local" / "share") / "edgellm"


def _slug(text: str) -> str:
    """The words that a text begins with, as a name: `What's the weather?` -> `whats-the-weather`."""
    words = re.findall(r"\w+", re.sub("['’]", "", text[:1000].lower()))
    name = "-".join(words).replace("_", "-").strip("-")
    if len(name) > _LONGEST:
        end = name.rfind("-", _LONGEST // 2, _LONGEST + 1)
        name = name[: end if end > 0 else _LONGEST].strip("-")
    try:
        os.fsencode(name)
    except UnicodeEncodeError:  # a locale whose files have ASCII names alone
        return ""
    return f"chat-{name}" if name.isdecimal() else name  # a number alone names by the list


def _why(error: Exception) -> str:
    return f"it has no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds")


def _as_json(saved: Saved) -> dict[str, Any]:
    history = saved.history
    data: dict[str, Any] = {"format": FORMAT, "name": saved.name, "model": saved.model}
    data |= {"created": saved.created, "updated": saved.updated, "system": history.system}
    data["messages"] = _messages(history.messages)
    if history.n_hidden:
        data["n_hidden"] = history.n_hidden
    if history.summary:
        data["summary"] = asdict(history.summary)
    if history.branches:
        data["branches"] = [_branch(branch, history.messages) for branch in history.branches]
    return data


def _messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [message.as_json() for message in messages]


def _branch(branch: Sequence[Message], messages: Sequence[Message]) -> dict[str, Any]:
    """Only what is its own: what it shares stands in the file already."""
    n = chat_messages.n_common(branch, messages)
    return {"n_common": n, "messages": _messages(branch[n:])}


def _from_json(name: str, data: dict[str, Any]) -> Saved:
    """Raises KeyError, TypeError or ValueError for what is no conversation."""
    if data["format"] != FORMAT:
        raise ValueError(f"format {data['format']!r}, not {FORMAT!r}")
    _check_types(data)
    messages = _checked(data["messages"])
    summary = data.get("summary")
    history = History(
        messages,
        data["system"],
        int(data.get("n_hidden", 0)),
        Summary(str(summary["text"]), int(summary["n_messages"])) if summary else None,
        tuple(
            _checked(branch["messages"], messages[: branch["n_common"]])
            for branch in data.get("branches", ())
        ),
    )
    if not 0 <= history.n_hidden <= len(messages):
        raise ValueError(f"n_hidden is {history.n_hidden}, of {len(messages)} messages")
    if history.summary and not 0 <= history.summary.n_messages <= len(messages):
        raise ValueError(f"the summary is of {history.summary.n_messages} messages, of {len(messages)}")
    return Saved(name, data["model"], data["created"], data["updated"], history)


def _check_types(data: dict[str, Any]) -> None:
    """Of what a listing sorts by and shows; messages are checked one by one."""
    for name in ("model", "created", "updated"):
        if not isinstance(data[name], str):
            raise TypeError(f"{name} is no text")
        data[name].encode()  # a lone surrogate is no text
    if not isinstance(data["system"], str | None):
        raise TypeError("system is no text")
    for name in ("messages", "branches"):
        if not isinstance(data.get(name, []), list):
            raise TypeError(f"{name} is no list")


def _checked(data: Sequence[dict[str, Any]], before: tuple[Message, ...] = ()) -> tuple[Message, ...]:
    messages = (*before, *map(Message.from_json, data))
    chat_messages.check(messages)
    return messages
