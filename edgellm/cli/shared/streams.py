"""Standard input, output and error as every command finds them: open, and unable to fail on a character.

Knows the three streams; knows nothing of what is written to them.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from typing import TextIO

from edgellm.terminal import escaped

_ESCAPE = "edgellm.escape"  # our error handler's name


def prepare() -> None:
    """Open what the shell closed (`>&-`), and have characters a stream cannot encode written as JSON escapes them.

    A closed descriptor would be given to the next file that is opened, and what libraries print would go into it.
    As in xz (tuklib_open_stdxxx.c), what stands in for standard output refuses to be written to; for standard error it
    takes everything, for there is nobody to tell.
    """
    for number, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, flags), True)  # gets the lowest free number: this one
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    codecs.register_error(_ESCAPE, _escape)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ESCAPE)


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return escaped(error.object[error.start : error.end]), error.end


def is_lost(stream: TextIO) -> bool:
    """Whether what was printed cannot be written. Then it is dropped, so that Python's flush at exit is silent."""
    try:
        stream.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):  # it may be a test's, without a descriptor
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return True
    return False
