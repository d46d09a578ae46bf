"""The authority on quantized bytes: llama.cpp's own `llama_model_quantize`, and files compared with its output."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edgellm.convert.gguf import imatrix
from edgellm.convert.gguf.convert import ConvertRequest, convert
from edgellm.errors import UsageError
from edgellm.formats.gguf.reader import read_header
from edgellm.formats.gguf.types import FILE_TYPES, GGML_TYPES_BY_NAME

GGML_TYPE_COUNT = 43  # ggml.h: "no type given"


class Refused(Exception):
    """llama.cpp would not quantize; the message is what it logged."""


def quantize(
    source: Path,
    target: Path,
    quant: str,
    *,
    weights: Mapping[str, np.ndarray] | None = None,
    pure: bool = False,
    output_type: str | None = None,
    token_embd_type: str | None = None,
    tensor_types: Sequence[tuple[str, str]] = (),
    allow_requantize: bool = False,
    dry_run: bool = False,
    n_threads: int = 1,
) -> list[str]:
    """Run llama.cpp's quantizer on a GGUF file and return its log.

    `weights` are importances [n_values] by tensor name, the other options those of QuantOptions.
    """
    from llama_cpp import llama_cpp as lib

    params = lib.llama_model_quantize_default_params()
    params.nthread = n_threads
    params.ftype = FILE_TYPES[quant]
    params.pure = pure
    params.allow_requantize = allow_requantize
    params.dry_run = dry_run
    params.output_tensor_type = _type_id(output_type)
    params.token_embedding_type = _type_id(token_embd_type)
    keep = [np.ascontiguousarray(array, dtype=np.float32) for array in (weights or {}).values()]
    if weights is not None:
        entries = (lib.llama_model_imatrix_data * (len(weights) + 1))()
        for entry, name, array in zip(entries, weights, keep, strict=False):
            entry.name = name.encode()
            entry.data = array.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            entry.size = array.size
        params.imatrix = entries
    if tensor_types:
        overrides = (lib.llama_model_tensor_override * (len(tensor_types) + 1))()
        for override, (pattern, type_) in zip(overrides, tensor_types, strict=False):
            override.pattern, override.type = pattern.encode(), _type_id(type_)
        overrides[len(tensor_types)].type = GGML_TYPE_COUNT
        params.tt_overrides = overrides
    with _log(lib) as lines:
        code = lib.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params))
    if code:
        raise Refused("".join(lines[-8:]))
    return "".join(lines).splitlines()


@contextmanager
def _log(lib):
    """llama.cpp's log in a list instead of on the terminal."""
    lines: list[str] = []
    callback = lib.llama_log_callback(lambda level, text, _: lines.append(text.decode("utf-8", "replace")))
    lib.llama_log_set(callback, ctypes.c_void_p(0))
    try:
        yield lines
    finally:
        quiet = lib.llama_log_callback(lambda *_: None)
        lib.llama_log_set(quiet, ctypes.c_void_p(0))
        _log.keep = quiet  # the library holds the pointer from now on


def _type_id(name: str | None) -> int:
    return GGML_TYPES_BY_NAME[name].id if name else GGML_TYPE_COUNT


_PLANNED = re.compile(
    r"\[ *\d+/ *\d+\] +(?P<name>\S+) .* type = +(?P<old>\w+), size = .*?(?:-> .*\((?P<new>\w+)\))?"
)


def planned_types(source: Path, quant: str, **options: object) -> dict[str, str]:
    """Each tensor's type as llama.cpp's dry run chooses it. The data section of `source` may be a hole."""
    lines = quantize(source, source.with_suffix(".none"), quant, dry_run=True, **options)
    matches = (_PLANNED.fullmatch(line.strip()) for line in lines)
    return {match["name"]: (match["new"] or match["old"]).upper() for match in matches if match}


def differences(ours: Path, theirs: Path) -> tuple[int, list[str]]:
    """Number of tensors compared, and a line for each that differs in presence, shape, type or bytes."""
    a, b = _tensors(ours), _tensors(theirs)
    found = [f"{name} is only in one" for name in sorted(a.keys() ^ b.keys())]
    for name in sorted(a.keys() & b.keys()):
        (type_a, shape_a, bytes_a), (type_b, shape_b, bytes_b) = a[name], b[name]
        if (type_a, shape_a) != (type_b, shape_b):
            found.append(f"{name} is {type_a} {shape_a}, llama.cpp's {type_b} {shape_b}")
        elif bytes_a != bytes_b:
            found.append(f"{name} ({type_a}) has other bytes")
    return len(a.keys() | b.keys()), found


def _tensors(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    found = {}
    for part in read_header(path).shard_paths():
        header = read_header(part)
        data = part.read_bytes()
        for tensor in header.tensors.values():
            shape = tuple(n for n in tensor.shape if n != 1)  # llama.cpp drops leading ones
            found[tensor.name] = (
                tensor.type.name,
                shape,
                data[tensor.offset : tensor.offset + tensor.nbytes],
            )
    return found


def write_imatrix(path: Path, model: Path, seed: int = 0) -> dict[str, np.ndarray]:
    """Random importances for every matrix of a GGUF file but its embedding, as a file and as weights.

    Of several experts one has been reached by no token, and one column is never active.
    """
    rng = np.random.default_rng(seed)
    sums, weights = {}, {}
    for tensor in read_header(model).tensors.values():
        if len(tensor.shape) < 2 or "ffn_gate_inp" in tensor.name or tensor.name == "token_embd.weight":
            continue
        n_expert = tensor.shape[0] if len(tensor.shape) == 3 else 1
        total = (rng.random((n_expert, tensor.shape[-1])) ** 4 * 100).astype(np.float32)
        total[:, 3] = 0
        counts = rng.integers(50, 500, n_expert).astype(np.float32)
        if n_expert > 1:
            counts[1], total[1] = 0, 0
        sums[tensor.name] = (total, counts)
        mean = np.where(counts[:, None] > 0, total / np.maximum(counts[:, None], 1), 1)
        weights[tensor.name] = mean.astype(np.float32).reshape(-1)
    imatrix.write(path, sums, datasets=["calibration.txt"], chunk_count=4, chunk_size=512)
    return weights


def compare(
    source: Path,
    base: Path,
    weights: tuple[Path, Mapping[str, np.ndarray]] | None,
    folder: Path,
    request: dict,
) -> tuple[int, list[str]]:
    """Convert `source` our way and quantize `base`, a GGUF file of it, llama.cpp's way; compare every tensor.

    `request` has ConvertRequest's quantization options. Where one refuses, so must the other.
    """
    ours, theirs = folder / "ours.gguf", folder / "theirs.gguf"
    options = {key: value for key, value in request.items() if key != "quant"}
    refusal = None
    try:
        convert(ConvertRequest(source, output=ours, imatrix=weights and weights[0], force=True, **request))
    except UsageError as error:
        refusal = str(error)
    try:
        quantize(base, theirs, request["quant"], weights=weights and weights[1], **options)
    except Refused as error:
        return 0, [] if refusal else [f"llama.cpp refuses and we do not: {error}"]
    if refusal:
        return 0, [f"we refuse and llama.cpp does not: {refusal}"]
    return differences(ours, theirs)


def make_base(source: Path, base: Path, quant: str) -> tuple[Path, Mapping[str, np.ndarray]]:
    """Write the unquantized GGUF file that llama.cpp starts from, and importances beside it."""
    convert(ConvertRequest(source, quant, base, force=True))
    path = base.with_suffix(".imatrix.gguf")
    return path, write_imatrix(path, base)
