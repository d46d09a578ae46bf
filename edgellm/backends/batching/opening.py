"""Opening a model for several sequences. A backend with a `batch.py` beside its `session.py` evaluates them at once."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from edgellm import backends
from edgellm.backends.batching.alone import OneAtATime
from edgellm.backends.batching.engine import Engine
from edgellm.formats import purpose
from edgellm.formats.artifact import Artifact
from edgellm.session import EngineOptions

_UNKNOWN = 1.3  # of a file's bytes, where nothing better is known: weights, caches, scratch memory


def open_engine(artifact: Artifact, options: EngineOptions, n_slots: int) -> Engine:
    """For up to `n_slots` sequences at once; for one after the other where its backend, or what the model was made
    for, takes one. Raises EngineError, ArtifactError.
    """
    backend = backends.backend_of(artifact.format)
    if made_for := purpose.other_than_text(artifact):
        return OneAtATime(backend.open_session(artifact, options), f"it was made for {made_for}")
    several = _several(backend)
    if several is None:
        why = f"{artifact.format.upper()} models take one sequence at a time"
        return OneAtATime(backend.open_session(artifact, options), why)
    engine: Engine = several.open_engine(artifact, options, n_slots)
    return engine


def needed_bytes(artifact: Artifact, options: EngineOptions, n_slots: int) -> float:
    """The memory that `open_engine` will take: as its backend predicts it, else by the size of the file."""
    several = _several(backends.backend_of(artifact.format))
    found: float | None = several.needed_bytes(artifact, options, n_slots) if several else None
    return artifact.size_bytes * _UNKNOWN if found is None else found


def _several(backend: ModuleType) -> ModuleType | None:
    """The module of a backend that evaluates several sequences at once."""
    name = backend.__name__.rpartition(".")[0] + ".batch"
    return importlib.import_module(name) if importlib.util.find_spec(name) else None
