"""Opens GGUF files for their headers. Tensor data is never touched.

The file is taken for hostile (parser.py reads within bounds); whether an engine may run it is decided by check.py.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from edgellm.errors import ArtifactError
from edgellm.formats.gguf import known
from edgellm.formats.gguf.header import GgufFile
from edgellm.formats.gguf.parser import parse


def read_header(path: Path | str) -> GgufFile:
    """Read the header of `path`. Raises ArtifactError: path, fact and remedy in one line.

    The last one read is remembered until `forget`: whoever opens a model asks several times.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise ArtifactError(f"{path}: no such file" if not path.exists() else f"{path}: not a file")
        stat = path.stat()
        return _read(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror or error}") from error


@lru_cache(maxsize=1)
def _read(path: Path, size: int, mtime_ns: int, ctime_ns: int, inode: int) -> GgufFile:
    with path.open("rb") as file:
        return parse(path, file.fileno(), size, known.find(path, file.fileno()))


def forget() -> None:
    """Free the header that was read last: megabytes, for a large vocabulary."""
    _read.cache_clear()
