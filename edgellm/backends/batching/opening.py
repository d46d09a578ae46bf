"""Opening a model for several sequences. A backend with a `batch.py` beside its `session.py` evaluates them at once."""

from __future__ import annotations

import importlib
import importlib.util

from edgellm import backends
from edgellm.backends.batching.alone import OneAtATime
from edgellm.backends.batching.engine import Engine
from edgellm.formats import purpose
from edgellm.formats.artifact import Artifact
from edgellm.session import EngineOptions


def open_engine(artifact: Artifact, options: EngineOptions, n_slots: int) -> Engine:
    """For up to `n_slots` sequences at once; for one after the other where its backend, or what the model was made
    for, takes one. Raises EngineError, ArtifactError.
    """
    backend = backends.backend_of(artifact.format)
    if made_for := purpose.other_than_text(artifact):
        return OneAtATime(backend.open_session(artifact, options), f"it was made for {made_for}")
    name = backend.__name__.rpartition(".")[0] + ".batch"
    if importlib.util.find_spec(name) is None:
        why = f"{artifact.format.upper()} models take one sequence at a time"
        return OneAtATime(backend.open_session(artifact, options), why)
    engine: Engine = importlib.import_module(name).open_engine(artifact, options, n_slots)
    return engine
