"""How the checks of a GGUF header refuse: file, fact and value in one line."""

from __future__ import annotations

from typing import Any, NoReturn

from edgellm.errors import ArtifactError
from edgellm.formats.gguf.header import GgufFile


def fail(file: GgufFile, fact: str) -> NoReturn:
    """Raise ArtifactError: `fact` of `file`."""
    raise ArtifactError(f"{file.path}: {fact}")


def shown(value: Any) -> str:
    """A value short enough for one line."""
    text = repr(value)
    return "missing" if value is None else text if len(text) <= 60 else text[:57] + "..."
