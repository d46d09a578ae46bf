"""A machine's models from elsewhere: found by what they hold, or taken in piece by piece and kept.

`digest` is Artifact.fingerprint, the content of all files.

A path that is the same there and here - a shared folder - is used as it is, if its content is the same.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from edgellm import files
from edgellm.errors import CheckFailedError, EdgellmError
from edgellm.formats.artifact import Artifact

#: Bytes of a piece: one is under way at a time, which fits a small board's memory.
PIECE = 4 << 20


def find(path: Path, digest: str) -> Path | None:
    """Where the model is on this machine; None where it is not, or is another one."""
    for place in (path, _home(digest) / path.name):
        with contextlib.suppress(EdgellmError, OSError):
            if Artifact.open(place).fingerprint == digest:
                return place
    return None


def take(digest: str, name: str, piece: bytes, *, first: bool) -> None:
    """The next piece of the file `name`, a path from the model's folder; `first` of all begins anew."""
    if not is_inside(name):
        raise EdgellmError(f"{name!r} is no path inside a model's folder")
    folder = _coming(digest)
    with files.storage_errors(folder):
        if first:
            _sweep(digest)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("ab") as file:
            file.write(piece)


def keep(digest: str, name: str) -> Path:
    """All pieces are there: the model's path from now on. Raises CheckFailedError where it came otherwise."""
    folder, home = _coming(digest), _home(digest)
    with files.storage_errors(home):
        files.fsync_tree(folder)
    if not is_inside(name) or Artifact.open(folder / name).fingerprint != digest:
        shutil.rmtree(folder, ignore_errors=True)
        raise CheckFailedError(f"{name} came otherwise than it was sent")
    with files.storage_errors(home):
        try:
            folder.rename(home)
        except OSError:  # there is one: another process was first, or it was found damaged
            if find(home / name, digest) is None:
                shutil.rmtree(home)
                folder.rename(home)
    shutil.rmtree(folder, ignore_errors=True)
    return home / name


def pieces(artifact: Artifact) -> Iterator[tuple[str, bytes]]:
    """All files of a model from the first byte to the last, by their paths from the folder that it is in."""
    path = artifact.path
    whole = (
        sorted(one for one in path.rglob("*") if one.is_file())
        if path.is_dir()
        else artifact.parts or (path,)
    )
    for one in whole:
        name = one.relative_to(path.parent).as_posix()
        with one.open("rb") as file:
            yield name, file.read(PIECE)
            while piece := file.read(PIECE):
                yield name, piece


def is_inside(name: str) -> bool:
    """Whether a name from elsewhere stays in the folder it is put in."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\\" not in name


def _sweep(digest: str) -> None:
    """Take away what came before and did not arrive: this process's, and that of processes that are gone."""
    import psutil

    for folder in files.cache_dir("shipped").glob(f"{_hexadecimal(digest)}.*"):
        if folder == _coming(digest) or not psutil.pid_exists(int(folder.suffix[1:])):
            shutil.rmtree(folder, ignore_errors=True)


def _home(digest: str) -> Path:
    return files.cache_dir("shipped") / _hexadecimal(digest)


def _coming(digest: str) -> Path:
    return files.cache_dir("shipped") / f"{_hexadecimal(digest)}.{os.getpid()}"


def _hexadecimal(digest: str) -> str:
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise EdgellmError(f"{digest[:80]!r} is no digest")
    return digest[:32]
