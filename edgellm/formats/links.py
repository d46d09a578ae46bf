"""Whether a file of a folder is what it seems: no link that leads out of it.

A folder that was unpacked or downloaded may hold links to anything its reader may read. Knows paths only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def leads_out(path: Path) -> Path | None:
    """Where `path` leads, links followed, if that is outside its folder; None when it stays within.

    The one exception is a snapshot in a Hugging Face cache, whose files are links to `blobs/` of the same
    repository.
    """
    target, home = Path(os.path.realpath(path)), Path(os.path.realpath(path.parent))
    within = any(target.is_relative_to(allowed) for allowed in (home, *_cache_blobs(home)))
    return None if within else target


def _cache_blobs(home: Path) -> Iterator[Path]:
    """`models--org--name/blobs` when `home` is `models--org--name/snapshots/<revision>`, or a folder in it."""
    for folder in (home, home.parent):
        repository = folder.parent.parent
        if folder.parent.name == "snapshots" and repository.name.startswith("models--"):
            yield repository / "blobs"
