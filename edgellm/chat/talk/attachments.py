"""Files put into a message: named by /read, by `@notes.txt`, or by a path that was dropped into the line.

Text is taken; of everything else the kind is said. Knows files and words; knows no model.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgellm.chat import words
from edgellm.errors import UsageError
from edgellm.units import format_size

_MAX_FILE_BYTES = 8 << 20  # some two million tokens: no window is larger, and a mistaken path ends here
#: A word of a line as terminals paste a path into it: quoted, or with its blanks escaped. `@` asks for the file.
_WORD = re.compile(r"""(?<!\S)(@?)(?:'([^']+)'|"([^"]+)"|((?:\\.|[^\s'"\\])(?:\\.|[^\s\\])*))""")
_PATHLIKE = ("/", "~/", "./", "../")
#: What a file begins with -> what it is.
_KINDS: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF8", "GIF"),
    (b"%PDF", "PDF"),
    (b"PK\x03\x04", "ZIP"),
    (b"\xd0\xcf\x11\xe0", "Microsoft Office"),
    (b"\x1f\x8b", "gzip"),
    (b"ID3", "MP3"),
    (b"fLaC", "FLAC"),
    (b"OggS", "Ogg"),
    (b"GGUF", "GGUF"),
)


@dataclass(frozen=True)
class Attachment:
    """A file's text, waiting for the next message."""

    name: str
    text: str

    @property
    def framed(self) -> str:
        """As it stands in the message."""
        fence = "```"
        while fence in self.text:
            fence += "`"
        return f"{self.name}:\n{fence}\n{self.text.rstrip()}\n{fence}"


class OtherKindError(UsageError):
    """A file that is no text."""


def read(path: Path) -> Attachment:
    """The text of a file. Raises UsageError for what cannot be read, OtherKindError for what is no text."""
    try:
        size = path.stat().st_size
        if size > _MAX_FILE_BYTES:
            raise UsageError(
                words.say(
                    "file_too_large", path=path, size=format_size(size), most=format_size(_MAX_FILE_BYTES)
                )
            )
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(words.say("cannot_read", path=path, why=error.strerror)) from None
    if kind := _kind(data):
        raise OtherKindError(words.say("other_kind", path=path, kind=kind))
    try:
        return Attachment(path.name, data.decode())
    except UnicodeDecodeError as error:
        raise OtherKindError(words.say("no_text", path=path, byte=error.start)) from None


def _kind(data: bytes) -> str:
    """What a file is that is known to be no text; empty for all others."""
    if data[:4] == b"RIFF":
        return data[8:12].decode("ascii", "replace").strip()  # WEBP, WAVE, AVI
    if data[4:8] == b"ftyp":
        return "MP4"
    return next((kind for magic, kind in _KINDS if data.startswith(magic)), "")


def taken_from(line: str) -> tuple[str, list[Attachment]]:
    """A typed line without its `@`, and the files it names: by `@PATH`, or bare by a path with a folder in it.

    A bare path to something that is neither text nor a known kind of document (a program, a folder) is talked about,
    not sent. Raises UsageError for other kinds, and for `@PATH` of what cannot be read.
    """
    if "\n" in line:  # a pasted text may name any file
        return line, []
    found: list[Attachment] = []
    text, end = "", 0
    for at, start, stop, path in _paths(line):
        try:
            attachment = read(path)
        except OtherKindError:
            if at or _kind(path.read_bytes()[:16]):
                raise
            continue
        if attachment not in found:
            found.append(attachment)
        text, end = text + line[end:start] + path.name, stop
    return text + line[end:], found


def _paths(line: str) -> Iterator[tuple[bool, int, int, Path]]:
    """(asked for by @, where it begins, where it ends, the file) for each file that `line` names."""
    for word in _WORD.finditer(line):
        at = bool(word[1])
        bare = word[2] or word[3] or re.sub(r"\\(.)", r"\1", word[4])
        for name in dict.fromkeys((bare, bare.rstrip(".,;:!?)，。；：！？）"))):
            if not name or not (at or name.startswith(_PATHLIKE)):
                continue
            path = Path(name).expanduser()
            with contextlib.suppress(OSError, ValueError):
                if path.is_file():
                    yield at, word.start(), word.end() - (len(bare) - len(name)), path
                    break
