"""Writes a GGUF file again with keys or tensors changed: planted faults for the checks to find."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgellm.convert.gguf.writer import TensorEntry, encode, layout
from edgellm.formats.gguf.reader import read_header
from edgellm.formats.gguf.types import GGML_TYPES_BY_NAME

Floats = npt.NDArray[np.float32]
Change = Callable[[dict[str, Floats]], None]


def read_floats(path: Path) -> dict[str, Floats]:
    """All tensors of an F32 file."""
    found = {}
    data = path.read_bytes()
    for tensor in read_header(path).tensors.values():
        assert tensor.type.name == "F32"
        count = int(np.prod(tensor.shape))
        found[tensor.name] = np.frombuffer(data, np.float32, count, tensor.offset).reshape(tensor.shape)
    return found


def edited(
    path: Path,
    out: Path,
    change: Change | None = None,
    keys: Mapping[str, tuple[str, object] | None] | None = None,
) -> Path:
    """`path` written to `out` in F32, tensors as `change` left them; a key of None is dropped."""
    header = read_header(path)
    tensors = read_floats(path)
    if change:
        change(tensors)
    raw = {key: header.raw_value(key) for key in header.metadata}
    for key, value in (keys or {}).items():
        raw.pop(key, None)
        if value is not None:
            raw[key] = encode(*value)
    type_ = GGML_TYPES_BY_NAME["F32"]
    entries = [TensorEntry(name, value.shape, type_, value.nbytes) for name, value in tensors.items()]
    place = layout(raw, entries)
    data = bytearray(place.header.ljust(place.size, b"\0"))
    for name, value in tensors.items():
        start = place.offsets[name]
        data[start : start + value.nbytes] = np.ascontiguousarray(value).tobytes()
    out.write_bytes(data)
    return out
