"""Inference engines behind `Session`. A folder here with FORMAT, and `open_session` in its `session.py`, is one."""

from __future__ import annotations

from edgellm.backends import tuned
from edgellm.backends.registry import backend_of, names, open_here
from edgellm.formats.artifact import Artifact
from edgellm.machine import devices
from edgellm.session import EngineOptions, Session

__all__ = ["backend_of", "build", "names", "on_cpu", "open_here", "open_session", "prepare", "with_tuning"]

_DEFAULTS = EngineOptions()


def open_session(artifact: Artifact, options: EngineOptions = _DEFAULTS) -> Session:
    """Open `artifact` with the backend that runs its format: in this process, or in one of its own where other
    machines take part, for llama.cpp ends its process when one of them goes. Raises EngineError, ArtifactError.
    """
    if devices.servers(options.device):
        from edgellm.backends import worker  # which is a program, too

        return worker.open_isolated(artifact, options, quiet=True)
    return open_here(artifact, options)


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
