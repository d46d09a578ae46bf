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
    from edgellm.api.chat import Chat
    from edgellm.api.model import Model, load
    from edgellm.api.stream import Answer, Stream
    from edgellm.errors import EdgellmError
    from edgellm.generation.generate import Usage
    from edgellm.generation.scoring import Score
    from edgellm.prompt.tools import ToolCall
    from edgellm.session import EngineOptions

#: Public name -> the module that has it.
_HOMES = {
    "load": "edgellm.api.model",
    "Model": "edgellm.api.model",
    "Chat": "edgellm.api.chat",
    "Stream": "edgellm.api.stream",
    "Answer": "edgellm.api.stream",
    "ToolCall": "edgellm.prompt.tools",
    "Usage": "edgellm.generation.generate",
    "Score": "edgellm.generation.scoring",
    "EngineOptions": "edgellm.session",
    "EdgellmError": "edgellm.errors",
}

__all__ = [
    "Answer",
    "Chat",
    "EdgellmError",
    "EngineOptions",
    "Model",
    "Score",
    "Stream",
    "ToolCall",
    "Usage",
    "__version__",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgellm' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
