"""The small trained models that ship with edgellm, as Hugging Face checkpoints beside this module."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent


def names() -> tuple[str, ...]:
    """The bundled models, sorted."""
    return tuple(sorted(config.parent.name for config in _HERE.glob("*/config.json")))


def path(name: str) -> Path | None:
    """The checkpoint folder of a bundled model; None when there is none of that name."""
    return _HERE / name if name in names() else None
