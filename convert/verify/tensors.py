"""A converted file's numbers and tensors against its source: which key or which tensor is wrong.

Rows are compared as float32, decoded by ggml's own functions. Checking a few rows of every tensor finds any
mix-up of tensors, rows or columns; whether the engine then computes the right thing is for the logits to show.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from edgellm.convert.gguf import ggml
from edgellm.errors import CheckFailedError
from edgellm.formats.gguf.header import GgufFile, GgufTensor
from edgellm.models.base import DeltaNetSpec, LayerKind, ModelSpec, TensorSpec, effective

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgellm.convert.verify.original import Original

    Float32s = npt.NDArray[np.float32]

Placed = Mapping[str, tuple[Path, GgufTensor]]

N_ROWS = 8  # compared of each tensor

#: Largest share of a tensor's sampled weights (mean square) that rounding to a type explains. Measured on normal
#: and heavy-tailed weights, times four or more; a wrong row gives 1 to 2. Types that are not here are compared
#: by direction (MIN_COSINE), for their scale may be far off where weights are sparse.
MAX_ERROR: dict[str, float] = {
    "F32": 0.0,
    "F16": 1e-6,
    "BF16": 1e-4,
    "Q8_0": 1e-3,
    "Q6_K": 1e-2,
    "Q5_K": 3e-2,
    "Q5_0": 3e-2,
    "Q5_1": 3e-2,
    "Q4_K": 8e-2,
    "Q4_0": 0.1,
    "Q4_1": 0.1,
    "IQ4_NL": 0.1,
    "IQ4_XS": 0.1,
    "MXFP4": 0.15,
    "Q3_K": 0.3,
}
COMPUTED = 1e-12  # the same for numbers of float32 that two computed, each in its own order
MIN_COSINE = 0.4
_HALF_TINY = 6e-8  # the smallest step of float16: below it weights become zero

#: Key after `<architecture>.` -> the number in config.json it must be.
_NUMBERS: dict[str, Callable[[ModelSpec], float | None]] = {
    "block_count": lambda spec: spec.n_layer + spec.n_layer_nextn,
    "context_length": lambda spec: spec.n_ctx_train,
    "embedding_length": lambda spec: spec.n_embd,
    "feed_forward_length": lambda spec: spec.n_ff or None,
    "attention.head_count": lambda spec: spec.n_head,
    "attention.head_count_kv": lambda spec: spec.n_head_kv,
    "attention.layer_norm_rms_epsilon": lambda spec: spec.rms_eps,
    "rope.freq_base": lambda spec: spec.rope_theta,
    "rope.scaling.factor": lambda spec: _scaling(spec, "factor"),
    "rope.scaling.original_context_length": lambda spec: _scaling(spec, "original_max_position_embeddings"),
    "expert_count": lambda spec: spec.moe.n_expert if spec.moe else None,
    "expert_used_count": lambda spec: spec.moe.n_expert_used if spec.moe else None,
    "expert_feed_forward_length": lambda spec: spec.moe.n_ff_expert if spec.moe else None,
}
#: The same of models with delta nets.
_NET_NUMBERS: dict[str, Callable[[ModelSpec, DeltaNetSpec], float | None]] = {
    "ssm.conv_kernel": lambda spec, net: net.conv_kernel,
    "ssm.state_size": lambda spec, net: net.head_dim,
    "ssm.group_count": lambda spec, net: net.n_k_heads,
    "ssm.time_step_rank": lambda spec, net: net.n_v_heads,
    "ssm.inner_size": lambda spec, net: net.n_v,
    "rope.dimension_count": lambda spec, net: spec.n_rotary,
    "nextn_predict_layers": lambda spec, net: spec.n_layer_nextn or None,
}


def _scaling(spec: ModelSpec, name: str) -> float | None:
    """A number of the rope scalings that GGUF has keys for; llama3's is a tensor."""
    scaling = spec.rope_scaling
    if scaling is None or scaling.kind == "llama3" or (name != "factor" and scaling.kind != "yarn"):
        return None
    return float(getattr(scaling, name))


def _fail(check: str, fact: str) -> NoReturn:
    raise CheckFailedError(f"the check of the {check} failed: {fact}")


def check_numbers(header: GgufFile, spec: ModelSpec) -> None:
    """Hyperparameters against config.json. Raises CheckFailedError naming the key."""
    arch = spec.architecture.name
    if header.get("general.architecture") != arch:
        _fail("numbers", f"general.architecture is {header.get('general.architecture')!r}, not {arch!r}")
    for name, number in _NUMBERS.items():
        key, expected = f"{arch}.{name}", number(spec)
        _check_number(key, header.get(key), expected)
    if spec.delta_net:
        _check_net(header, spec, spec.delta_net)
    _check_number(
        "head size", header.get(f"{arch}.attention.key_length", spec.n_embd // spec.n_head), spec.head_dim
    )
    kind = spec.rope_scaling.kind if spec.rope_scaling and spec.rope_scaling.kind != "llama3" else None
    if header.get(f"{arch}.rope.scaling.type") != kind:
        _fail(
            "numbers",
            f"{arch}.rope.scaling.type is {header.get(f'{arch}.rope.scaling.type')!r}, not {kind!r}",
        )


def _check_net(header: GgufFile, spec: ModelSpec, net: DeltaNetSpec) -> None:
    arch = spec.architecture.name
    for name, number in _NET_NUMBERS.items():
        _check_number(f"{arch}.{name}", header.get(f"{arch}.{name}"), number(spec, net))
    key = f"{arch}.attention.recurrent_layers"
    blocks = range(spec.n_layer + spec.n_layer_nextn)
    expected = [spec.kind(block) is LayerKind.DELTA_NET for block in blocks]
    if list(header.get(key) or ()) != expected:
        _fail("numbers", f"{key} is {header.get(key)!r}, where config.json asks for {expected}")


def _check_number(key: str, found: Any, expected: float | None) -> None:
    same = (
        found is None
        if expected is None
        else found is not None and math.isclose(found, expected, rel_tol=1e-6)
    )
    if not same:
        _fail("numbers", f"{key} is {found}, where config.json asks for {expected}")


def check_tensors(tensors: Placed, original: Original) -> str:
    """Names, shapes and some rows of every tensor. Raises CheckFailedError naming the tensor."""
    spec = original.spec
    _check_names(tensors, {t.gguf_name: t.shape for t in spec.tensors})
    for tensor in spec.tensors:
        rows = sample_rows(_n_rows(tensor.shape))
        expected = source_rows(original, tensor, rows)
        least = COMPUTED if original.is_computed(tensor) else 0.0
        _check_rows(*tensors[tensor.gguf_name], rows, expected, least)
    return f"{len(spec.tensors)} tensors match"


def check_same_tensors(tensors: Placed, origin: Placed) -> str:
    """The same for a file made from another GGUF file."""
    _check_names(tensors, {name: tensor.shape for name, (_, tensor) in origin.items()})
    for name, (path, tensor) in origin.items():
        rows = sample_rows(_n_rows(tensor.shape))
        _check_rows(*tensors[name], rows, read_rows(path, tensor, rows))
    return f"{len(origin)} tensors match"


def check_keys(header: GgufFile, origin: GgufFile) -> str:
    """Everything an engine reads must have been carried over unchanged. Raises CheckFailedError naming the key."""
    arch = str(origin.get("general.architecture"))
    kept = [
        k for k in origin.metadata if k.startswith((f"{arch}.", "tokenizer.")) or k == "general.architecture"
    ]
    for key in kept:
        if key not in header.metadata or header.raw_value(key) != origin.raw_value(key):
            _fail("keys", f"{key} differs from {origin.path}")
    return f"{len(kept)} keys match"


def _check_names(tensors: Placed, shapes: Mapping[str, tuple[int, ...]]) -> None:
    for name in sorted(shapes.keys() - tensors.keys()):
        _fail("tensors", f"{name} is missing")
    for name in sorted(tensors.keys() - shapes.keys()):
        _fail("tensors", f"{name} is not part of this model")
    for name, shape in shapes.items():
        found = tensors[name][1].shape
        if found != shape:
            _fail("tensors", f"{name} has shape {found}, not {shape}")


def _check_rows(
    path: Path, tensor: GgufTensor, rows: Sequence[int], expected: Float32s, least: float = 0.0
) -> None:
    if wrong := _wrong(tensor, read_rows(path, tensor, rows), expected, least):
        _fail("tensors", wrong)


def deviation(type_name: str, found: Float32s, expected: Float32s, least: float = 0.0) -> str | None:
    """What is wrong with rows decoded from a type, or None when rounding explains the difference.

    `least` is a difference that is always allowed.
    """
    import numpy as np

    a, b = found.astype(np.float64), expected.astype(np.float64)
    error, power = float(np.sum((a - b) ** 2)), float(np.sum(b**2))
    if not np.isfinite(error):
        return "it holds values that are not finite"
    bound = MAX_ERROR.get(type_name)
    if bound is not None:
        allowed = max(bound, least) * power + (_HALF_TINY**2 * a.size if type_name != "F32" else 0.0)
        if error <= allowed:
            return None
        return f"error {error / power if power else math.inf:.3g}, where {type_name} explains {bound:g}"
    cosine = (
        float(np.sum(a * b)) / math.sqrt(float(np.sum(a**2)) * power)
        if power and np.any(a)
        else float(power == 0)
    )
    if power == 0 or cosine >= MIN_COSINE:
        return None
    return f"cosine {cosine:.2f}, where at least {MIN_COSINE} is expected of {type_name}"


def wrong_tensor(tensors: Placed, original: Original) -> str:
    """Compare every row of every tensor and name the first that is wrong, if any: for when logits are off."""

    for tensor in original.spec.tensors:
        path, placed = tensors[tensor.gguf_name]
        least = COMPUTED if original.is_computed(tensor) else 0.0
        for rows in _batches(_n_rows(tensor.shape), tensor.row_size):
            expected = source_rows(original, tensor, rows)
            if wrong := _wrong(placed, read_rows(path, placed, rows), expected, least):
                return wrong
    return ""


def wrong_same_tensor(tensors: Placed, origin: Placed) -> str:
    """The same for a file made from another GGUF file."""

    for name, (path, tensor) in origin.items():
        for rows in _batches(_n_rows(tensor.shape), tensor.shape[-1]):
            found, expected = read_rows(*tensors[name], rows), read_rows(path, tensor, rows)
            if wrong := _wrong(tensors[name][1], found, expected):
                return wrong
    return ""


def _wrong(tensor: GgufTensor, found: Float32s, expected: Float32s, least: float = 0.0) -> str:
    error = deviation(tensor.type.name, found, expected, least)
    return "" if error is None else f"{tensor.name} differs from its source: {error}"


def _batches(n_rows: int, row_size: int, weights: int = 1 << 22) -> Iterator[Sequence[int]]:
    step = max(1, weights // row_size)
    for start in range(0, n_rows, step):
        yield range(start, min(start + step, n_rows))


def sample_rows(n_rows: int) -> list[int]:
    """Some rows, the first and the last among them, the others spread unevenly to miss no pattern."""
    if n_rows <= N_ROWS:
        return list(range(n_rows))
    return sorted(
        {0, 1, n_rows - 1} | {int(n_rows * ((i * 0.6180339887) % 1.0)) for i in range(1, N_ROWS - 2)}
    )


def source_rows(original: Original, tensor: TensorSpec, rows: Sequence[int]) -> Float32s:
    """Rows of a target tensor as the checkpoint has them, in the target's order: [len(rows), row_size]."""
    import numpy as np

    if not tensor.sources:
        divisors: Float32s = original.rotary.divisors[None]
        return divisors
    if len(tensor.shape) == 1:
        values: Float32s = effective(tensor.stored, original.tensors[tensor.sources[0].name].rows(0, 1)[0])
        return (tensor.row_order(values) if tensor.row_order else values)[None]
    order = np.arange(_n_rows(tensor.shape))
    if tensor.row_order:
        order = tensor.row_order(order)
    parts = []
    for row in rows:
        (span,) = tensor.spans(int(order[row]), int(order[row]) + 1)
        parts.append(original.tensors[span.name].rows(span.start, span.stop))
    found = np.concatenate(parts)
    return found if tensor.column_order is None else tensor.column_order(found.T).T


def read_rows(path: Path, tensor: GgufTensor, rows: Sequence[int]) -> Float32s:
    """Rows of a tensor in a GGUF file, decoded: [len(rows), row_size]. A vector is one row."""
    import numpy as np

    row_size, type_ = tensor.shape[-1], tensor.type
    row_bytes = type_.nbytes(row_size)
    data = bytearray()
    with path.open("rb") as file:
        for row in rows:
            file.seek(tensor.offset + row * row_bytes)
            data += file.read(row_bytes)
    raw = np.frombuffer(bytes(data), dtype=np.uint8)
    if type_.name == "F32":
        return raw.view(np.float32).reshape(len(rows), row_size)
    out = np.empty((len(rows), row_size), dtype=np.float32)
    ggml.dequantizer(type_)(raw.ctypes.data, out.ctypes.data, out.size)
    return out


def _n_rows(shape: tuple[int, ...]) -> int:
    return math.prod(shape[:-1])
