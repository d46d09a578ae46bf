"""Reading small sysfs files: a value, or None where there is none. Knows no meter."""

from __future__ import annotations

from pathlib import Path


def read_text(path: Path) -> str | None:
    """The file's stripped text; None when it is not there or cannot be read."""
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None


def read_int(path: Path) -> int | None:
    """The file's integer; None when it is not there, cannot be read or is not a number."""
    text = read_text(path)
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None
