"""ggml's own row kernels through ctypes: the authority on every block format, called on raw addresses.

Loads nothing but libggml-base from llama-cpp-python's folder (about 1 MB), never llama_cpp itself. ctypes
releases the GIL during a call, so rows can be quantized on several threads. Knows nothing of files or models.
Source: ggml/include/ggml.h and ggml_quantize_chunk in ggml/src/ggml.c of llama.cpp.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from edgellm.errors import EngineError
from edgellm.formats.gguf.types import GGML_TYPES, GgmlType

#: Kernels that crash the process when they get no importance matrix (ggml_quantize_requires_imatrix).
ABORT_WITHOUT_IMATRIX = frozenset({"IQ2_XXS", "IQ2_XS", "IQ1_S"})

_LIBRARY_NAMES = ("libggml-base.so", "libggml-base.dylib", "ggml-base.dll")


class _TypeTraits(ctypes.Structure):
    _fields_ = [
        ("type_name", ctypes.c_char_p),
        ("blck_size", ctypes.c_int64),
        ("blck_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
        ("from_float_ref", ctypes.c_void_p),
    ]


@cache
def library() -> Any:
    """The loaded library, its signatures declared. Raises EngineError when it is missing or has changed."""
    path = _library_path()
    try:
        lib = ctypes.CDLL(str(path))
        _declare(lib)
    except (OSError, AttributeError) as error:
        raise EngineError(f"{path} cannot be used ({error}); reinstall llama-cpp-python") from error
    _check_traits(lib, path)
    return lib


def quantize(
    type_: GgmlType, source: int, target: int, n_rows: int, n_per_row: int, imatrix: int | None = None
) -> None:
    """Encode float32 rows [n_rows, n_per_row] at address `source` to `target`, in ggml's reference rounding.

    `imatrix` is the address of float32 [n_per_row] weights of the columns, or None. The row length must be a
    multiple of the type's block and the weights finite: the library aborts or writes rubbish otherwise.
    """
    library().ggml_quantize_chunk(type_.id, source, target, 0, n_rows, n_per_row, imatrix)


def dequantizer(type_: GgmlType) -> Callable[[int, int, int], None]:
    """A function (source address, float32 target address, n_weights) that decodes `type_`. Not for F32."""
    function = library().ggml_get_type_traits(type_.id).contents.to_float
    if not function:
        raise EngineError(f"llama.cpp has no decoder for {type_.name}")
    return function  # type: ignore[no-any-return]


def is_valid(type_: GgmlType, address: int, nbytes: int) -> bool:
    """Whether encoded blocks hold only finite scales. On False the library has printed a line to stderr."""
    return bool(library().ggml_validate_row_data(type_.id, address, nbytes))


def version() -> str:
    """ggml's version, e.g. "0.9.4"."""
    text: bytes = library().ggml_version()
    return text.decode()


def _library_path() -> Path:
    import importlib.util

    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        raise EngineError("llama-cpp-python is not installed; install it with: pip install llama-cpp-python")
    folder = Path(spec.origin).parent / "lib"
    for name in _LIBRARY_NAMES:
        if (folder / name).is_file():
            return folder / name
    raise EngineError(f"{folder} holds no ggml library; reinstall it with: pip install llama-cpp-python")


def _declare(lib: Any) -> None:
    pointer, int64, size = ctypes.c_void_p, ctypes.c_int64, ctypes.c_size_t
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "ggml_quantize_chunk": (size, [ctypes.c_int, pointer, pointer, int64, int64, int64, pointer]),
        "ggml_validate_row_data": (ctypes.c_bool, [ctypes.c_int, pointer, size]),
        "ggml_get_type_traits": (ctypes.POINTER(_TypeTraits), [ctypes.c_int]),
        "ggml_version": (ctypes.c_char_p, []),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments


def _check_traits(lib: Any, path: Path) -> None:
    """Hold our table of block sizes against the library's: a changed format is refused, not written."""
    for type_ in GGML_TYPES.values():
        traits = lib.ggml_get_type_traits(type_.id).contents
        if (traits.blck_size, traits.type_size) != (type_.block_size, type_.block_bytes):
            raise EngineError(
                f"{path} stores {type_.name} in blocks of {traits.blck_size} weights, {traits.type_size} bytes, "
                f"not {type_.block_size} and {type_.block_bytes}; install llama-cpp-python 0.3.36"
            )
