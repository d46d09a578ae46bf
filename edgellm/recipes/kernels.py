"""How long llama.cpp's matrix products take in each type on this machine, in seconds a weight.

A graph of products of one type, in the buffers that the engine itself would choose (repacked where it repacks), large
enough that weights come from memory; once for a single token, once for a batch. Knows no model.
Source of the calls: ggml/include/ggml.h, ggml-backend.h, ggml-cpu.h of llama.cpp.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from typing import Any

from edgellm.backends.llama import lib as llama_lib
from edgellm.convert.gguf.ggml import ABORT_WITHOUT_IMATRIX
from edgellm.errors import EngineError
from edgellm.formats.gguf.types import GGML_TYPES_BY_NAME, GgmlType
from edgellm.recipes.noise import through_ggml

_COLUMNS, _ROWS = 2048, 2048
_BYTES = 96 << 20  # of weights in a graph: more than a last-level cache's share
_BATCH = 128  # tokens of a prompt evaluated at once
_VISITS = 5
_F32, _CPU = 0, 0
_CONTEXT_BYTES = 4 << 20


@dataclass(frozen=True)
class Speed:
    """Seconds a weight of one type: for a token decoded, and for a token of a prompt."""

    decode: float
    prefill: float


class _InitParams(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]


def measure(name: str, n_threads: int) -> Speed:
    """One type's speed, the best of a few visits. Raises EngineError."""
    type_ = GGML_TYPES_BY_NAME[name]
    n = max(1, _BYTES // type_.nbytes(_ROWS * _COLUMNS))
    decode = _time(type_, n, 1, n_threads)
    prefill = _time(type_, 2, _BATCH, n_threads)
    per_matrix = _ROWS * _COLUMNS
    return Speed(decode / (n * per_matrix), prefill / (2 * per_matrix * _BATCH))


def _time(type_: GgmlType, n_matrices: int, n_tokens: int, n_threads: int) -> float:
    """Seconds of `n_matrices` products with `n_tokens` inputs."""
    lib = _library()
    with ExitStack() as stack:
        device = lib.ggml_backend_dev_by_type(_CPU)
        backend = lib.ggml_backend_dev_init(device, None)
        stack.callback(lib.ggml_backend_free, backend)
        _set_threads(device, backend, n_threads)
        weights, graphs = (_context(stack) for _ in range(2))
        own = [lib.ggml_new_tensor_2d(weights, type_.id, _COLUMNS, _ROWS) for _ in range(n_matrices)]
        x = lib.ggml_new_tensor_2d(graphs, _F32, _COLUMNS, n_tokens)
        for buffer_type in _buffer_types(device):
            buffer = lib.ggml_backend_alloc_ctx_tensors_from_buft(weights, buffer_type)
            if not buffer:
                continue
            products = [lib.ggml_mul_mat(graphs, weight, x) for weight in own]
            if lib.ggml_backend_dev_supports_op(device, products[0]):
                stack.callback(lib.ggml_backend_buffer_free, buffer)
                break
            lib.ggml_backend_buffer_free(buffer)
            weights, graphs = (_context(stack) for _ in range(2))  # tensors get a buffer once
            own = [lib.ggml_new_tensor_2d(weights, type_.id, _COLUMNS, _ROWS) for _ in range(n_matrices)]
            x = lib.ggml_new_tensor_2d(graphs, _F32, _COLUMNS, n_tokens)
        else:
            raise EngineError(f"llama.cpp has no product for {type_.name} on this processor")
        graph = lib.ggml_new_graph(graphs)
        for product in products:
            lib.ggml_build_forward_expand(graph, product)
        rest = lib.ggml_backend_alloc_ctx_tensors_from_buft(graphs, lib.ggml_backend_dev_buffer_type(device))
        stack.callback(lib.ggml_backend_buffer_free, rest)
        _fill(own, x, type_, n_tokens)
        lib.ggml_backend_graph_compute(backend, graph)
        return min(_seconds(lambda: lib.ggml_backend_graph_compute(backend, graph)) for _ in range(_VISITS))


def _seconds(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _fill(weights: list[int], x: int, type_: GgmlType, n_tokens: int) -> None:
    """The same random rows for all: what they are makes no difference to the time."""
    import numpy as np

    rng = np.random.default_rng(0)
    rows = rng.standard_normal((16, _COLUMNS), np.float32)
    needs = np.ones(_COLUMNS, np.float32) if type_.name in ABORT_WITHOUT_IMATRIX else None
    encoded = np.tile(through_ggml(rows, type_.name, needs)[0], _ROWS // 16)
    for weight in weights:
        _library().ggml_backend_tensor_set(weight, encoded.ctypes.data, 0, encoded.nbytes)
    inputs = rng.standard_normal((n_tokens, _COLUMNS), np.float32)
    _library().ggml_backend_tensor_set(x, inputs.ctypes.data, 0, inputs.nbytes)


def _context(stack: ExitStack) -> int:
    lib = _library()
    context: int = lib.ggml_init(_InitParams(_CONTEXT_BYTES, None, True))
    stack.callback(lib.ggml_free, context)
    return context


def _buffer_types(device: int) -> Iterator[int]:
    """Where weights may lie, in the engine's order: its repacking buffers, then plain memory."""
    lib = _library()
    function = lib.ggml_backend_reg_get_proc_address(
        lib.ggml_backend_dev_backend_reg(device), b"ggml_backend_dev_get_extra_bufts"
    )
    if function:
        extra = ctypes.CFUNCTYPE(ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p)(function)(device)
        index = 0
        while extra[index]:
            yield extra[index]
            index += 1
    yield lib.ggml_backend_dev_buffer_type(device)


def _set_threads(device: int, backend: int, n_threads: int) -> None:
    lib = _library()
    function = lib.ggml_backend_reg_get_proc_address(
        lib.ggml_backend_dev_backend_reg(device), b"ggml_backend_set_n_threads"
    )
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int)(function)(backend, n_threads)


@cache
def _library() -> Any:
    """ggml's libraries as one, signatures declared. Raises EngineError."""
    llama_lib.load()
    folder = llama_lib.library_file().parent
    names = ("libggml.so", "libggml.dylib", "ggml.dll")  # which bring libggml-base along
    path = next((folder / name for name in names if (folder / name).exists()), folder / names[0])
    pointer, size, i64 = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "ggml_init": (pointer, [_InitParams]),
        "ggml_free": (None, [pointer]),
        "ggml_new_tensor_2d": (pointer, [pointer, ctypes.c_int, i64, i64]),
        "ggml_mul_mat": (pointer, [pointer, pointer, pointer]),
        "ggml_new_graph": (pointer, [pointer]),
        "ggml_build_forward_expand": (None, [pointer, pointer]),
        "ggml_backend_dev_by_type": (pointer, [ctypes.c_int]),
        "ggml_backend_dev_init": (pointer, [pointer, ctypes.c_char_p]),
        "ggml_backend_dev_backend_reg": (pointer, [pointer]),
        "ggml_backend_dev_buffer_type": (pointer, [pointer]),
        "ggml_backend_dev_supports_op": (ctypes.c_bool, [pointer, pointer]),
        "ggml_backend_reg_get_proc_address": (pointer, [pointer, ctypes.c_char_p]),
        "ggml_backend_alloc_ctx_tensors_from_buft": (pointer, [pointer, pointer]),
        "ggml_backend_tensor_set": (None, [pointer, pointer, size, size]),
        "ggml_backend_graph_compute": (ctypes.c_int, [pointer, pointer]),
        "ggml_backend_buffer_free": (None, [pointer]),
        "ggml_backend_free": (None, [pointer]),
    }
    try:
        lib = ctypes.CDLL(str(path))
        for function, (result, arguments) in signatures.items():
            each = getattr(lib, function)
            each.restype, each.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise EngineError(f"{path} cannot be used ({error}); reinstall llama-cpp-python") from error
    return lib
