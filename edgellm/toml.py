"""TOML, as text or from a package's own files: the one place that knows which Python brings a parser."""

from __future__ import annotations

import sys
from importlib import resources
from typing import Any


def loads(text: str) -> dict[str, Any]:
    """What a document says. Raises ValueError naming line and column."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    found: dict[str, Any] = tomllib.loads(text)
    return found


def packaged(package: str, name: str) -> dict[str, Any]:
    """A file that lies beside the modules of `package`."""
    return loads((resources.files(package) / name).read_text(encoding="utf-8"))
