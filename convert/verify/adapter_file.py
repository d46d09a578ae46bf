"""A GGUF adapter against the PEFT folder it was made from: what the engine will add is what PEFT adds.

Knows how llama.cpp uses the two factors (`get_scale` in src/llama-adapter.h); runs no engine.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgellm.convert.verify import tensors as verify_tensors
from edgellm.convert.verify.adapter import Change, Changes
from edgellm.convert.verify.original import Original, place_of
from edgellm.errors import CheckFailedError
from edgellm.formats.gguf import adapter as adapter_file
from edgellm.formats.gguf.reader import read_header

if TYPE_CHECKING:
    from edgellm.formats.gguf.header import GgufFile

#: Mean square error of a delta, relative, that rounding its factors gives.
TOLERANCE = {"F32": 1e-10, "F16": 1e-5}


def check_file(path: Path, base: Path, adapter: Path) -> str:
    """A GGUF adapter against the PEFT folder it was made from, as llama.cpp would use it on `base`.

    Raises CheckFailedError naming the tensor.
    """
    header = read_header(path)
    adapter_file.check(header)
    changes = Changes.read(adapter, place_of)
    try:
        with Original.open(base) as original:
            wanted = {
                original.gguf_names[target]: (original.orders_of(target), change)
                for target, change in changes.by_place.items()
            }
            found = {name.removesuffix(".lora_a") for name in header.tensors if name.endswith(".lora_a")}
            for name in sorted(found ^ wanted.keys())[:1]:
                raise CheckFailedError(f"the check of the adapter failed: {name} is in one of the two only")
            for name, (orders, change) in wanted.items():
                _check_delta(header, name, orders, change)
    finally:
        changes.shard.close()
    return f"{len(wanted)} matrices match"


def _check_delta(header: GgufFile, name: str, orders: tuple[Any, Any], change: Change) -> None:
    """What the engine adds, alpha / r times B A, against what PEFT adds, on some rows."""
    import numpy as np

    a, b = header.tensors[f"{name}.lora_a"], header.tensors[f"{name}.lora_b"]
    first, second = (verify_tensors.read_rows(header.path, t, range(t.shape[0])) for t in (a, b))
    scale = header.metadata["adapter.lora.alpha"] / b.shape[1]
    order, columns = orders
    rows = verify_tensors.sample_rows(len(order))
    if change.embedding:
        found = scale * first[rows].astype(np.float64) @ second.T.astype(np.float64)
    else:
        found = scale * second[rows].astype(np.float64) @ first.astype(np.float64)
    expected = np.concatenate([change.added(int(order[row]), int(order[row]) + 1) for row in rows])[
        :, columns
    ]
    error, power = float(np.sum((found - expected) ** 2)), float(np.sum(expected.astype(np.float64) ** 2))
    if not error <= TOLERANCE[a.type.name] * power:
        raise CheckFailedError(
            f"the check of the adapter failed: {name} differs from its source: error {error:.3g} of {power:.3g}"
        )
