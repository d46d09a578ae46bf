"""What a file holds, as a digest: the key of everything that is made of a file and kept.

Path, size and time of modification are no key: `cp -p`, `rsync -t`, `tar` and container layers put another file in
the same place with all three. So the bytes are hashed, once for each file: a digest is remembered with the file's
device, inode and time of change (ctime), which no program can set, and which writing, replacing and renaming all
move. Knows no model.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from edgellm import files
from edgellm.errors import EdgellmError

_SMALL_BYTES = 1 << 20  # hashed faster than remembered
#: A file changed since then may change again within one tick of the file system's clock (2 s on FAT).
_SETTLED_NS = 3_000_000_000


def of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes: about a second for a gigabyte, and next to nothing when it was asked before."""
    stat = path.stat()
    if stat.st_size < _SMALL_BYTES or os.name == "nt":  # where ctime is the time of creation
        return files.sha256(path)
    if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) <= _SETTLED_NS:
        return files.sha256(path)
    return _remembered(path, (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))


@lru_cache(maxsize=64)
def _remembered(path: Path, identity: tuple[int, ...]) -> str:
    """The digest of the file that is known by `identity`: in this process, or on disk."""
    record = _record(path)
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        found = json.loads(record.read_text(encoding="utf-8"))
        if found["file"] == list(identity):
            return str(found["digest"])
    digest = files.sha256(path)
    with contextlib.suppress(OSError, EdgellmError):  # another process hashes it again
        files.write_text(record, json.dumps({"path": str(path), "file": identity, "digest": digest}) + "\n")
    return digest


def of_all(paths: Iterable[Path], *more: str) -> str:
    """Hex digest of several files' names and bytes, in this order, and of `more` that a key depends on."""
    parts = [*more, *(f"{path.name}\0{of(path)}" for path in paths)]
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _record(path: Path) -> Path:
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:24]
    return files.cache_dir("digests") / f"{name}.json"
