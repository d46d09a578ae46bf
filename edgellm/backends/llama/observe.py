"""Watches llama.cpp compute: hands the inputs of its matrix products to a Python function, as numpy views.

llama.cpp asks a callback about every node of its graph, once before (is it wanted?) and, where it is, once
after computing it. ggml has no getters for a node's sources and strides, so they are read from its struct,
whose layout is tried on a graph of our own before it is trusted. Knows no calibration.
Source: ggml/include/ggml.h (struct ggml_tensor), ggml/include/ggml-backend.h (the callback) of llama.cpp.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from edgellm.backends.llama import lib as llama_lib
from edgellm.errors import EngineError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_F32 = 0  # enum ggml_type
_DIMS, _SRC, _OP_PARAMS, _NAME = 4, 10, 16, 64  # GGML_MAX_*


class _Tensor(ctypes.Structure):
    """struct ggml_tensor."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * _DIMS),
        ("nb", ctypes.c_size_t * _DIMS),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * _OP_PARAMS),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * _SRC),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * _NAME),
        ("extra", ctypes.c_void_p),
        ("padding", ctypes.c_char * 8),
    ]


class _InitParams(ctypes.Structure):
    """struct ggml_init_params."""

    _fields_ = [("size", ctypes.c_size_t), ("buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]


@dataclass(frozen=True)
class Product:
    """One matrix product about to be looked at. Shapes have rows first, as numpy does: ggml's `ne` reversed."""

    weight: str  # name of the weight tensor
    weight_shape: tuple[int, int, int, int]
    input_shape: tuple[int, int, int, int]
    input_is_f32: bool
    routed: bool  # each row goes through experts of its own (MUL_MAT_ID)


#: Whether a product's inputs are wanted.
Wanted = Callable[[Product], bool]
#: Gets a product, its inputs (float32 `input_shape`, valid during the call) and, where it is routed, the
#: experts of each row (int32 [n_tokens, n_expert_used]).
Observe = Callable[[Product, "npt.NDArray[np.float32]", "npt.NDArray[np.int32] | None"], None]


class Observer:
    """A callback for llama.cpp's graph. Keep it alive as long as the session that has it."""

    def __init__(self, wanted: Wanted, observe: Observe) -> None:
        lib = llama_lib.load()
        self._base = _base_library()
        self._wanted, self._observe = wanted, observe
        self._failure: BaseException | None = None
        self._op, self._routed_op = _operations()
        self.callback = lib.ggml_backend_sched_eval_callback(self._call)

    def check(self) -> None:
        """Raise what the observing function raised: it cannot pass through llama.cpp. Called after each decode."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _call(self, address: int, ask: bool, _: object) -> bool:
        if self._failure is not None:
            return False
        try:
            node = _Tensor.from_address(address)
            if node.op != self._op and node.op != self._routed_op:
                return False
            product = _describe(node, routed=node.op == self._routed_op)
            if ask:
                return self._wanted(product)
            experts = self._experts(node) if product.routed else None
            self._observe(product, self._floats(_Tensor.from_address(node.src[1])), experts)
        except BaseException as error:  # an interrupt too; raised again by check()
            self._failure = error
            return False
        return True

    def _floats(self, tensor: _Tensor) -> Any:
        import numpy as np

        return self._view(tensor, np.dtype(np.float32))

    def _experts(self, node: _Tensor) -> Any:
        import numpy as np

        return self._view(_Tensor.from_address(node.src[2]), np.dtype(np.int32))[0, 0]

    def _view(self, tensor: _Tensor, dtype: Any) -> Any:
        """A strided view of a tensor's data where it lies, or of a copy when it is not in the host's memory."""
        import numpy as np

        n_bytes = self._base.ggml_nbytes(ctypes.byref(tensor))
        if self._base.ggml_backend_buffer_is_host(tensor.buffer):
            data: Any = (ctypes.c_char * n_bytes).from_address(tensor.data)
        else:
            data = (ctypes.c_char * n_bytes)()
            self._base.ggml_backend_tensor_get(ctypes.byref(tensor), data, 0, n_bytes)
        return np.ndarray(_shape(tensor), dtype, buffer=data, strides=tuple(reversed(tensor.nb)))


def _describe(node: _Tensor, *, routed: bool) -> Product:
    weight, source = (_Tensor.from_address(node.src[i]) for i in (0, 1))
    name = plain_name(weight.name.decode("utf-8", "replace"))
    return Product(name, _shape(weight), _shape(source), source.type == _F32, routed)


def plain_name(name: str) -> str:
    """A weight's own name: the scheduler calls its copy on a device `CUDA0#blk.0.attn_k.weight#0`."""
    parts = name.split("#")
    return parts[1] if len(parts) > 1 else name


def _shape(tensor: _Tensor) -> tuple[int, int, int, int]:
    d0, d1, d2, d3 = tensor.ne
    return d3, d2, d1, d0


@cache
def _base_library() -> Any:
    """libggml-base, already loaded by llama.cpp, with the signatures used here."""
    folder = llama_lib.library_file().parent
    names = ("libggml-base.so", "libggml-base.dylib", "ggml-base.dll")
    path = next((folder / name for name in names if (folder / name).exists()), folder / names[0])
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "ggml_nbytes": (size, [pointer]),
        "ggml_backend_buffer_is_host": (ctypes.c_bool, [pointer]),
        "ggml_backend_tensor_get": (None, [pointer, pointer, size, size]),
        "ggml_init": (pointer, [_InitParams]),
        "ggml_free": (None, [pointer]),
        "ggml_new_tensor_2d": (pointer, [pointer, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]),
        "ggml_set_name": (pointer, [pointer, ctypes.c_char_p]),
        "ggml_mul_mat": (pointer, [pointer, pointer, pointer]),
        "ggml_op_name": (ctypes.c_char_p, [ctypes.c_int]),
    }
    try:
        lib = ctypes.CDLL(str(path))
        for name, (result, arguments) in signatures.items():
            function = getattr(lib, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise EngineError(f"{path} cannot be used ({error}); reinstall llama-cpp-python") from error
    return lib


@cache
def _operations() -> tuple[int, int]:
    """The numbers of MUL_MAT and MUL_MAT_ID, read from a product made here.

    Raises EngineError when the struct is not laid out as ours, so that no wrong memory is ever read.
    """
    base = _base_library()
    context = base.ggml_init(_InitParams(1 << 16, None, True))
    try:
        weight, source = (
            base.ggml_new_tensor_2d(context, _F32, 8, 3),
            base.ggml_new_tensor_2d(context, _F32, 8, 5),
        )
        base.ggml_set_name(weight, b"try.weight")
        node = _Tensor.from_address(base.ggml_mul_mat(context, weight, source))
        tried = _Tensor.from_address(weight)
        seen = (tuple(node.src[:3]), tuple(node.ne), tuple(tried.ne), tuple(tried.nb), tried.name, tried.type)
        right = ((weight, source, None), (3, 5, 1, 1), (8, 3, 1, 1), (4, 32, 96, 96), b"try.weight", _F32)
        names = (base.ggml_op_name(node.op), base.ggml_op_name(node.op + 1))
        if seen != right or names != (b"MUL_MAT", b"MUL_MAT_ID"):
            raise EngineError(
                "this llama.cpp lays out its tensors in an unknown way, so its activations cannot be read; "
                "install llama-cpp-python 0.3.36"
            )
        return node.op, node.op + 1
    finally:
        base.ggml_free(context)
