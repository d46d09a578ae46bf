"""Two bytes that this process and its child both see: how a child is told to stop while it computes.

A pipe would not do: the child reads it between two calls only.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from pathlib import Path

_SIZE = 2


def create() -> tuple[mmap.mmap, Path | None]:
    """The bytes, both zero, and the file through which the child finds them.

    Where nothing can be written there is no file, and the child is stopped between two calls only.
    """
    try:
        number, name = tempfile.mkstemp(prefix="edgellm-")
        try:
            os.write(number, bytes(_SIZE))
            return mmap.mmap(number, _SIZE), Path(name)
        finally:
            os.close(number)
    except OSError:
        return mmap.mmap(-1, _SIZE), None


def attach(path: Path) -> mmap.mmap:
    """The bytes behind a file."""
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), _SIZE)
