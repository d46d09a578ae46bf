"""Tensors in safetensors files, valid or not, and JSON beside them: for checkpoints that tests make."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def to_bits(value: Array, dtype: str) -> Array:
    """Float32 as safetensors stores it; bf16, rounded to nearest even, as uint16."""
    if dtype == "BF16":
        bits = np.ascontiguousarray(value, dtype=np.float32).view(np.uint32)
        return ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return value.astype({"F16": np.float16, "F32": np.float32}[dtype])


def from_bits(stored: Array, dtype: str) -> Array:
    """The inverse of `to_bits`."""
    if dtype == "BF16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float32)


def write_shards(folder: Path, values: Mapping[str, tuple[str, Array]], n_shards: int = 1) -> None:
    """Write {name: (dtype, float32 array)} as model.safetensors, or as `n_shards` files and an index."""
    names = list(values)
    if n_shards == 1:
        return write_safetensors(folder / "model.safetensors", values)
    weight_map = {}
    for i in range(n_shards):
        file = f"model-{i + 1:05}-of-{n_shards:05}.safetensors"
        part = names[i * len(names) // n_shards : (i + 1) * len(names) // n_shards]
        write_safetensors(folder / file, {name: values[name] for name in part})
        weight_map |= dict.fromkeys(part, file)
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})


def write_safetensors(path: Path, values: Mapping[str, tuple[str, Array]]) -> None:
    """Write {name: (dtype, float32 array)} as one safetensors file."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data, offset = [], 0
    for name, (dtype, value) in values.items():
        stored = to_bits(value, dtype).tobytes()
        offsets = [offset, offset + len(stored)]
        header[name] = {"dtype": dtype, "shape": list(value.shape), "data_offsets": offsets}
        data.append(stored)
        offset += len(stored)
    write_raw_safetensors(path, json.dumps(header).encode(), b"".join(data))


def write_raw_safetensors(path: Path, header: bytes, data: bytes) -> None:
    """Write any header and data, valid or not; the header is padded to a multiple of 8 with spaces."""
    header += b" " * (-len(header) % 8)
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
