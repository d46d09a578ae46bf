"""The backends there are, found by scanning the folders beside this file, and opening a model in this very process."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

from edgellm.errors import ArtifactError
from edgellm.formats.artifact import Artifact
from edgellm.session import EngineOptions, Session

_FOLDER = Path(__file__).parent
_DEFAULTS = EngineOptions()


def names() -> list[str]:
    """All backends, by the names of their folders."""
    return sorted(
        m.name for m in pkgutil.iter_modules([str(_FOLDER)]) if (_FOLDER / m.name / "session.py").exists()
    )


def backend_of(format_: str) -> ModuleType:
    """The module `session.py` of the backend that runs `format_`. Raises ArtifactError."""
    for name in names():
        if format_ == importlib.import_module(f"{__package__}.{name}").FORMAT:  # without the others' engines
            return importlib.import_module(f"{__package__}.{name}.session")
    raise ArtifactError(f"no backend runs {format_!r} models; there are: {', '.join(names())}")


def open_here(artifact: Artifact, options: EngineOptions = _DEFAULTS) -> Session:
    """Open `artifact` with the backend that runs its format, and end with it where it crashes: for a process that
    was started for this session alone. Raises EngineError, ArtifactError.
    """
    session: Session = backend_of(artifact.format).open_session(artifact, options)
    return session
