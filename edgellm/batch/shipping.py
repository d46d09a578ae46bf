"""A model's files on their way to a node: piece by piece through Ray's object store, kept there by what they hold.

A node that finds the very files at the same path - a shared folder - is sent nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgellm import files
from edgellm.errors import EdgellmError

if TYPE_CHECKING:
    from edgellm.formats.artifact import Artifact

_PIECE = 8 * 2**20  # bytes; one piece a node is under way, which fits the smallest object store


class Receiver:
    """The node's end: methods of its actor."""

    def find(self, path: Path, fingerprint: str) -> Path | None:
        """Where the model is on this node; None where it is not."""
        from edgellm.formats.artifact import Artifact

        for place in (path, _home(fingerprint) / path.name):
            with contextlib.suppress(EdgellmError, OSError):
                if Artifact.open(place).fingerprint == fingerprint:
                    return place
        return None

    def take(self, fingerprint: str, name: str, piece: bytes, *, first: bool) -> None:
        """The next piece of the file `name`, a path below the model's folder; `first` of all pieces begins anew."""
        folder = self._coming(fingerprint)
        if first:
            shutil.rmtree(folder, ignore_errors=True)
        with files.storage_errors(folder):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with (folder / name).open("ab") as file:
                file.write(piece)

    def keep(self, fingerprint: str, name: str) -> Path:
        """All pieces are there: the model's path from now on. Raises EdgellmError where it came otherwise."""
        from edgellm.formats.artifact import Artifact

        folder, home = self._coming(fingerprint), _home(fingerprint)
        files.fsync_tree(folder)
        if Artifact.open(folder / name).fingerprint != fingerprint:
            raise EdgellmError(f"{name} came otherwise than it was sent")
        with contextlib.suppress(OSError):  # another process was first
            folder.rename(home)
        shutil.rmtree(folder, ignore_errors=True)
        return home / name

    def _coming(self, fingerprint: str) -> Path:
        return _home(fingerprint).with_suffix(f".{os.getpid()}")


async def ship(actor: Any, artifact: Artifact) -> Path:
    """Have the model on the node of `actor`, a Receiver: its path there. Raises EdgellmError."""
    fingerprint = await asyncio.to_thread(lambda: artifact.fingerprint)
    there: Path | None = await actor.find.remote(artifact.path, fingerprint)
    if there is not None:
        return there
    first = True
    for name, piece in _pieces(artifact):
        await actor.take.remote(fingerprint, name, piece, first=first)
        first = False
    kept: Path = await actor.keep.remote(fingerprint, artifact.path.name)
    return kept


def _pieces(artifact: Artifact) -> Iterator[tuple[str, bytes]]:
    """All files of a model, by their paths from the folder that it is in."""
    path = artifact.path
    found = (
        sorted(one for one in path.rglob("*") if one.is_file())
        if path.is_dir()
        else artifact.parts or (path,)
    )
    for one in found:
        with one.open("rb") as file:
            piece = file.read(_PIECE)
            while True:
                yield str(one.relative_to(path.parent)), piece
                if not (piece := file.read(_PIECE)):
                    break


def _home(fingerprint: str) -> Path:
    return files.cache_dir("shipped") / fingerprint[:24]
