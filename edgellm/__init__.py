"""edgellm: convert, run and measure Qwen and Llama 3 models on laptops and embedded boards.

    import edgellm

    with edgellm.load("tiny-qwen3") as model:
        for piece in model.chat().ask("What is the capital of France?"):
            print(piece, end="", flush=True)

Importing this costs nothing: what the names below stand for is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from edgellm.version import __version__

if TYPE_CHECKING:
    from edgellm.api.answer import Answer, Schema
    from edgellm.api.asynchronous import AsyncStream
    from edgellm.api.chat import Chat
    from edgellm.api.model import Model, load
    from edgellm.api.stream import Stream
    from edgellm.chat.window import ContextFullError
    from edgellm.errors import (
        ArtifactError,
        CancelledError,
        CheckFailedError,
        CheckpointError,
        EdgellmError,
        EngineCrashError,
        EngineError,
        MissingExtraError,
        OutputExistsError,
        StorageError,
        UsageError,
    )
    from edgellm.generation.generate import Usage
    from edgellm.generation.logprobs import TokenLogprob
    from edgellm.generation.scoring import Score
    from edgellm.prompt.tools import ToolCall
    from edgellm.session import EngineOptions

#: Public name -> the module that has it.
_HOMES = {
    "load": "edgellm.api.model",
    "Model": "edgellm.api.model",
    "Chat": "edgellm.api.chat",
    "Stream": "edgellm.api.stream",
    "AsyncStream": "edgellm.api.asynchronous",
    "Answer": "edgellm.api.answer",
    "Schema": "edgellm.api.answer",
    "TokenLogprob": "edgellm.generation.logprobs",
    "ToolCall": "edgellm.prompt.tools",
    "Usage": "edgellm.generation.generate",
    "Score": "edgellm.generation.scoring",
    "EngineOptions": "edgellm.session",
    "EdgellmError": "edgellm.errors",
    "CheckpointError": "edgellm.errors",
    "ArtifactError": "edgellm.errors",
    "OutputExistsError": "edgellm.errors",
    "StorageError": "edgellm.errors",
    "EngineError": "edgellm.errors",
    "EngineCrashError": "edgellm.errors",
    "CancelledError": "edgellm.errors",
    "MissingExtraError": "edgellm.errors",
    "UsageError": "edgellm.errors",
    "CheckFailedError": "edgellm.errors",
    "ContextFullError": "edgellm.chat.window",
}

__all__ = [
    "Answer",
    "ArtifactError",
    "AsyncStream",
    "CancelledError",
    "Chat",
    "CheckFailedError",
    "CheckpointError",
    "ContextFullError",
    "EdgellmError",
    "EngineCrashError",
    "EngineError",
    "EngineOptions",
    "MissingExtraError",
    "Model",
    "OutputExistsError",
    "Schema",
    "Score",
    "StorageError",
    "Stream",
    "TokenLogprob",
    "ToolCall",
    "Usage",
    "UsageError",
    "__version__",
    "load",
]


if not TYPE_CHECKING:  # for whom a name that is not above is a mistake

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'edgellm' has no attribute {name!r}")
        return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
