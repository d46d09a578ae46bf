"""Opening an ONNX folder: the graph through its prepared copy, what was left open filled in, facts for the user.

Knows options and folders; knows no tokens.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgellm.backends import checkpoints
from edgellm.backends.ort import devices as ort_devices
from edgellm.backends.ort import graph as ort_graph
from edgellm.backends.ort import prepacked, recurrent
from edgellm.errors import EngineError, option
from edgellm.formats import onnx_folder
from edgellm.machine import devices, hardware
from edgellm.machine.devices import Device
from edgellm.session import EngineInfo, EngineOptions

_DEFAULT_CTX = 4096  # what a chat needs
_KV_SHARE = 0.5  # of available memory, at most, for the KV cache of the context chosen by default
_CHUNK = 256  # tokens evaluated at once: more are no faster and take more memory
#: What the command line calls a cache's type; int8 has a scale for each channel, not for each 32 values.
_KV_NAMES = {"float32": "f32", "float16": "f16", "int8": "q8_0"}


def load(
    folder: onnx_folder.OnnxFolder,
    model: Path,
    options: EngineOptions,
    device: Device | None,
    notes: list[str],
) -> ort_graph.Graph:
    """Open a graph, on the CPU through its prepared copy where that is worth it. Raises EngineError."""
    graph = _open(folder, model, options, device, notes)
    if all(slot.head_dim for slot in graph.slots):
        return graph
    if not folder.head_dim:
        raise EngineError(f"{model} does not say how wide a head of its KV cache is; export it with a number")
    return replace(graph, slots=tuple(replace(slot, head_dim=folder.head_dim) for slot in graph.slots))


def _open(
    folder: onnx_folder.OnnxFolder,
    model: Path,
    options: EngineOptions,
    device: Device | None,
    notes: list[str],
) -> ort_graph.Graph:

    def fresh() -> Any:
        return ort_graph.session_options(options.n_threads or 1, options.spin_us)

    data = tuple(folder.path / name for name in sorted(onnx_folder.external_files(model)))
    worth = sum(file.stat().st_size for file in data) >= prepacked.MIN_BYTES
    if device or options.repack is False or not worth:
        return ort_graph.load(model, fresh(), ort_devices.providers(device))
    return prepacked.load(model, fresh, data, notes)


def resolve(
    folder: onnx_folder.OnnxFolder,
    graph: ort_graph.Graph,
    options: EngineOptions,
    notes: list[str],
) -> EngineOptions:
    """Fill in what the caller left to us, noting each fallback."""
    kind = _KV_NAMES.get(np.dtype(graph.slots[0].dtype).name, "f32")
    for asked in (options.type_k, options.type_v):
        if asked not in (None, "f16", kind):  # f16 is llama.cpp's default, often written out
            raise EngineError(
                f"this ONNX model's KV cache is {kind}, {asked} cannot be chosen; "
                "convert again with --onnx kv=int8 for q8_0, kv=fp32 for f32"
            )
    n_checkpoints = options.n_checkpoints
    if n_checkpoints is None:
        n_checkpoints = checkpoints.capacity(recurrent.nbytes(graph.states))
    n_ctx = options.n_ctx or _fitting_ctx(folder, graph, n_checkpoints, notes)
    if n_ctx > folder.n_ctx:
        notes.append(
            f"context reduced from {n_ctx} to {folder.n_ctx} tokens, what this model was converted for"
        )
        n_ctx = folder.n_ctx
    return replace(
        options,
        n_ctx=n_ctx,
        n_checkpoints=n_checkpoints,
        n_batch=min(options.n_batch or _CHUNK, _CHUNK),
        n_ubatch=min(options.n_ubatch or _CHUNK, _CHUNK),
        n_gpu_layers=0,
        type_k=kind,
        type_v=kind,
        use_mmap=True,
        spin_us=ort_graph.SPIN_MICROSECONDS if options.spin_us is None else options.spin_us,
        repack=options.repack is not False,
    )


def trim_heap() -> None:
    """Give back what loading freed: parsing a large tokenizer leaves over 50 MB in glibc's heap."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim:
        trim(0)


def kv_bytes_per_token(graph: ort_graph.Graph) -> int:
    """Bytes of KV cache one token takes."""
    return sum(slot.n_head_kv * slot.head_dim * np.dtype(slot.dtype).itemsize for slot in graph.slots)


def _fitting_ctx(
    folder: onnx_folder.OnnxFolder, graph: ort_graph.Graph, n_checkpoints: int, notes: list[str]
) -> int:
    """The model's window, at most the default, halved until its KV cache fits in available memory.

    Recurrent states come first: the one that runs, one from before a draft, and those kept to go back to.
    """
    n_ctx = wanted = min(folder.n_ctx, _DEFAULT_CTX)
    budget = _KV_SHARE * hardware.available_bytes() - (n_checkpoints + 2) * recurrent.nbytes(graph.states)
    while n_ctx > 512 and n_ctx * kv_bytes_per_token(graph) > budget:
        n_ctx //= 2
    if n_ctx < wanted:
        notes.append(
            f"context reduced from {wanted} to {n_ctx} tokens to fit in memory; set it with {option('n_ctx')}"
        )
    return n_ctx


def describe(
    folder: onnx_folder.OnnxFolder,
    graph: ort_graph.Graph,
    options: EngineOptions,
    device: Device | None,
    notes: list[str],
) -> EngineInfo:
    """Facts for the user."""
    ort = ort_graph.library()
    return EngineInfo(
        backend="onnxruntime",
        version=ort.__version__,
        system=" ".join(graph.session.get_providers()),
        options=options,
        n_ctx=options.n_ctx or 0,
        n_vocab=folder.n_vocab,
        eos_ids=folder.eos_ids,
        add_bos=folder.add_bos,
        closing_id=folder.closing_id,
        notes=tuple(notes),
        device=str(device or devices.CPU),
        kv_bytes_per_token=kv_bytes_per_token(graph),
    )
