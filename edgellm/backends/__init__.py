"""Inference engines behind `Session`. A folder here, whose `session.py` has FORMAT and `open_session`, is a backend."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

from edgellm.backends import tuned
from edgellm.errors import ArtifactError
from edgellm.formats.artifact import Artifact
from edgellm.machine import devices
from edgellm.session import EngineOptions, Session

_DEFAULTS = EngineOptions()


def names() -> list[str]:
    """All backends, by the names of their folders."""
    return sorted(
        m.name for m in pkgutil.iter_modules(__path__) if (Path(__path__[0]) / m.name / "session.py").exists()
    )


def open_session(artifact: Artifact, options: EngineOptions = _DEFAULTS) -> Session:
    """Open `artifact` in this process with the backend that runs its format. Raises EngineError, ArtifactError."""
    session: Session = backend_of(artifact.format).open_session(artifact, options)
    return session


def prepare(format_: str) -> None:
    """Do what a backend does once per process or machine - load its library, try it - so that opening can be timed.

    Raises EngineError, ArtifactError.
    """
    getattr(backend_of(format_), "prepare", lambda: None)()


def build(format_: str) -> str:
    """Identifies the build of the library that runs `format_`: what was measured on another one may not hold."""
    found: str = backend_of(format_).build()
    return found


def on_cpu(format_: str, options: EngineOptions) -> bool:
    """Whether models of `format_` would run on the CPU with these options. Raises EngineError for no such device."""
    return devices.choose(options.device, backend_of(format_).offer(), []) is None


def with_tuning(artifact: Artifact, options: EngineOptions) -> EngineOptions:
    """`options` with what tuning found for `artifact` filled in where they ask for it, as opening would do."""
    if not options.tuned or tuned.read(artifact, build(artifact.format)) is None:
        return options  # without loading the engine's library
    return (
        tuned.apply(artifact, build(artifact.format), options, [])
        if on_cpu(artifact.format, options)
        else options
    )


def backend_of(format_: str) -> ModuleType:
    """The module `session.py` of the backend that runs `format_`. Raises ArtifactError."""
    for name in names():
        module = importlib.import_module(f"{__name__}.{name}.session")
        if format_ == module.FORMAT:
            return module
    raise ArtifactError(f"no backend runs {format_!r} models; there are: {', '.join(names())}")
