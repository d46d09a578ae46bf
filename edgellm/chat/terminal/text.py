"""Text for terminals: control characters taken out, widths, lines cut and broken.

Knows no terminal: the caller says how many columns there are.
"""

from __future__ import annotations

import re
import unicodedata

#: Escape sequences of ECMA-48: CSI, strings (OSC, DCS, SOS, PM, APC; ended by BEL, ST or the line), two-byte.
_ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c|(?=[\n\x1b]))"
    r"|\x1b[ -/]*[0-OQ-WYZ\\`-~]"
)
#: The beginning of a sequence at the end of a piece: what follows decides.
_UNFINISHED = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*\Z|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*\x1b?\Z|\x1b[ -/]*\Z"
)
_LONGEST = 4096  # held back at most; an unfinished string longer than this is not one


class Cleaner:
    """Takes escape sequences and control characters out of streamed text; newline and tab stay."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        """The printable part of what has come so far."""
        text = _ESCAPE.sub("", self._held + piece)
        found = _UNFINISHED.search(text)
        cut = found.start() if found and len(text) - found.start() <= _LONGEST else len(text)
        text, self._held = text[:cut], text[cut:]
        return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs"))


def clean(text: str) -> str:
    """`text` without escape sequences and control characters."""
    return Cleaner().feed(text)


def width(text: str) -> int:
    """Columns `text` takes in a terminal: two for CJK and emoji, none for marks that combine."""
    from wcwidth import wcswidth

    return max(wcswidth(text), 0)


def fit(text: str, columns: int) -> str:
    """One line of at most `columns`, cut with an ellipsis, never inside a character."""
    line = " ".join(clean(text).split())
    if width(line) <= columns:
        return line
    while line and width(line) > columns - 1:
        line = line[:-1]
    return f"{line}…"


def wrap(text: str, columns: int) -> list[str]:
    """Lines of at most `columns`, broken at spaces; a longer word is left whole for the terminal to break."""
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and width(lines[-1]) + 1 + width(word) > columns:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
    return lines
