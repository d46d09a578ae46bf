"""Which hub is asked for an id: Hugging Face's, or ModelScope where the user prefers it."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import Protocol, cast

from edgellm.catalog import hub
from edgellm.catalog.hub import Download
from edgellm.catalog.spellings import HUGGINGFACE, MODELSCOPE
from edgellm.errors import UsageError

VARIABLE = "EDGELLM_HUB"
NAMES = (HUGGINGFACE, MODELSCOPE)


class Hub(Protocol):
    """What a hub's module has."""

    def download(self, repo_id: str, *, revision: str | None = None, offline: bool = False) -> Path:
        """The folder of a checkpoint."""
        ...

    def names(self, repo_id: str, *, offline: bool = False) -> list[str]:
        """The names of a repository's files."""
        ...

    def fetch(self, repo_id: str, wanted: list[str] | tuple[str, ...], *, offline: bool = False) -> Path:
        """The folder that holds the files `wanted`, each what the hub announced."""
        ...


def preferred() -> str:
    """The hub for ids that do not say of which they are. Raises UsageError for a variable that names none."""
    name = os.environ.get(VARIABLE) or HUGGINGFACE
    if name not in NAMES:
        raise UsageError(f"{VARIABLE} is {name!r}; it is one of {', '.join(NAMES)}")
    return name


def prefer(name: str) -> None:
    """Make `name` the preferred hub of this process and its children."""
    os.environ[VARIABLE] = name


def of(name: str | None) -> Hub:
    """The hub called `name`, or the preferred one."""
    return cast("Hub", _modelscope() if (name or preferred()) == MODELSCOPE else hub)


def downloads() -> list[Download]:
    """What was fetched from any hub."""
    return [*hub.downloads(), *_modelscope().downloads()]


def delete(name: str) -> None:
    """Delete a download by the name that `downloads` gives it. Raises CheckpointError."""
    (_modelscope() if name.startswith(f"{MODELSCOPE}:") else hub).delete(name)


def _modelscope() -> ModuleType:
    """Imported when needed: an HTTP client takes as long as opening a small model."""
    from edgellm.catalog import modelscope

    return modelscope
