"""LoRA adapters put on a context through llama.cpp's C API. The files are checked before (formats/gguf/adapter.py)."""

from __future__ import annotations

import ctypes
from typing import Any

from edgellm.backends.llama import lib as llama_lib
from edgellm.errors import EngineError
from edgellm.formats.gguf import adapter as adapter_file
from edgellm.formats.gguf.adapter import Lora
from edgellm.formats.gguf.reader import read_header


def apply(lib: Any, model: Any, context: Any, adapters: tuple[Lora, ...]) -> None:
    """Load `adapters` and set them with their scales. The library frees them with the model.

    Raises EngineError where one does not fit the model, ArtifactError for a file that is no adapter any more.
    """
    if not adapters:
        return
    handles = (lib.llama_adapter_lora_p_ctypes * len(adapters))(*(_load(lib, model, one) for one in adapters))
    scales = (ctypes.c_float * len(adapters))(*(one.scale for one in adapters))
    if lib.llama_set_adapters_lora(context, handles, len(adapters), scales):
        raise EngineError(
            f"llama.cpp cannot apply {_names(adapters)}: {llama_lib.last_error() or 'no reason'}"
        )


def _load(lib: Any, model: Any, adapter: Lora) -> Any:
    adapter_file.check(read_header(adapter.path))
    llama_lib.log_clear()
    handle = lib.llama_adapter_lora_init(model, adapter.path.encode())
    if not handle:
        raise EngineError(
            f"llama.cpp cannot load the adapter {adapter.path}: {llama_lib.last_error() or 'no reason given'}; "
            "it must be made for this very model"
        )
    return handle


def _names(adapters: tuple[Lora, ...]) -> str:
    return ", ".join(one.path for one in adapters)
