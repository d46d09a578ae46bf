"""llama.cpp stopped while it computes: its abort callback, asked at every node of the graph, without Python in it."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

from edgellm.errors import CancelledError, EngineError
from edgellm.session import Cancel

_ABORTED = 2  # what llama_decode returns then (llama.h); the cache keeps what was whole


def heed(lib: Any, context: Any, cancel: Cancel | None) -> object:
    """Have `context` look at `cancel` from now on, at nothing for None. What is returned must be kept till then."""
    if cancel is None:
        lib.llama_set_abort_callback(context, lib.ggml_abort_callback(), None)
        return None
    flag = (ctypes.c_char * 2).from_buffer(cancel.memory)
    lib.llama_set_abort_callback(context, _is_not_empty(lib), ctypes.addressof(flag))
    return flag


def failure(code: int, why: str) -> EngineError:
    """The error that stands for what llama_decode returned."""
    return CancelledError() if code == _ABORTED else EngineError(f"llama.cpp failed to decode {why}")


@cache
def _is_not_empty(lib: Any) -> Any:
    """`strlen` as a `bool (*)(void *)`: 1, true, for the flag's one character. A Python function would take the
    interpreter's lock hundreds of times an id."""
    libc = ctypes.CDLL("msvcrt" if sys.platform == "win32" else None)
    return ctypes.cast(libc.strlen, lib.ggml_abort_callback)
