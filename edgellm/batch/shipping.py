"""A model on its way to a node: piece by piece through Ray's object store, kept there by what it holds."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgellm.cluster import shelf

if TYPE_CHECKING:
    from edgellm.formats.artifact import Artifact


class Receiver:
    """The node's end: methods of its actor."""

    async def find(self, path: Path, digest: str) -> Path | None:
        """As shelf.find."""
        return await asyncio.to_thread(shelf.find, path, digest)

    async def take(self, digest: str, name: str, piece: bytes, *, first: bool) -> None:
        """As shelf.take."""
        await asyncio.to_thread(shelf.take, digest, name, piece, first=first)

    async def keep(self, digest: str, name: str) -> Path:
        """As shelf.keep."""
        return await asyncio.to_thread(shelf.keep, digest, name)


async def ship(actor: Any, artifact: Artifact) -> Path:
    """Have the model on the node of `actor`, a Receiver: its path there. Raises EdgellmError."""
    digest = await asyncio.to_thread(lambda: artifact.fingerprint)
    there: Path | None = await actor.find.remote(artifact.path, digest)
    if there is not None:
        return there
    first = True
    for name, piece in shelf.pieces(artifact):
        await actor.take.remote(digest, name, piece, first=first)
        first = False
    kept: Path = await actor.keep.remote(digest, artifact.path.name)
    return kept
