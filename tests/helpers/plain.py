"""What may reach a terminal, held against Unicode's own tables; text that tries to do more."""

import os
import pty
import subprocess
import sys
import unicodedata
from collections.abc import Mapping, Sequence

#: Clears the screen, sets the title, rings, steps back, colours (7 and 8 bit), turns letters around, fakes a line.
EVIL = "a\x1b[2J\x1b]0;owned\x07\x08\x9b31m\u202eb\u2066\r\nedgellm: verified\x7f|<img src=x>中"
#: The same as a file's name, with a byte that is not UTF-8 where file systems take one.
NAME = EVIL.replace("/", "").replace(":", "") + ("" if sys.platform == "darwin" else "\udce9")

_BIDI = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}


def harmful(text: str) -> set[str]:
    """Characters of `text` that command a terminal or reorder what stands there."""
    return {
        char
        for char in text
        if char != "\n"
        and (unicodedata.category(char) in ("Cc", "Cs") or unicodedata.bidirectional(char) in _BIDI)
    }


def check(shown: bytes, *, document: bool = False) -> str:
    """What was shown as text, when it is harmless, no traceback, and - but in a document - fakes no line."""
    text = shown.decode().replace("\r\n", "\n")  # a terminal driver's
    assert not harmful(text), (harmful(text), text)
    assert document or not any(line.startswith("edgellm: verified") for line in text.splitlines()), text
    assert "Traceback" not in text, text
    return text


def edgellm(
    *arguments: object, env: Mapping[str, str] | None = None, **options
) -> subprocess.CompletedProcess:
    """The real command, its output as bytes."""
    command = [sys.executable, "-m", "edgellm", *map(str, arguments)]
    return subprocess.run(
        command,
        env={**os.environ, "EDGELLM_NO_TUNE": "1", **(env or {})},
        **{"stdin": subprocess.DEVNULL, "capture_output": True, **options},
    )


def in_terminal(arguments: Sequence[object], env: Mapping[str, str]) -> tuple[int, bytes]:
    """Exit code of the command in a terminal of its own, and all that reached the terminal."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "wb", buffering=0) as end:
        child = subprocess.Popen(
            [sys.executable, "-m", "edgellm", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=end,
            stderr=end,
            env={**os.environ, "EDGELLM_NO_TUNE": "1", "NO_COLOR": "1", "TERM": "dumb", **env},
        )
    shown = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        try:
            while piece := terminal.read(1 << 16):
                shown += piece
        except OSError:  # EIO: the last writer is gone
            pass
        return child.wait(), shown
