"""A model's answer made fit for a terminal: escape sequences and control characters taken out while it streams.

What is no answer shows them instead (edgellm/terminal.py): there they are somebody's doing.
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
