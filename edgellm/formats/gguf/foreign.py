"""What is asked of a header whose architecture edgellm does not know: the numbers any llama.cpp model has, in bounds.

The engine's own loader knows each architecture's tensors; what it lacks is care with numbers, which it takes for
sizes. A value may stand for all layers, or be a list with one for each. What passes is still tried in a process
of its own before it is opened (backends/trial.py). Source: src/llama-model.cpp (load_hparams) of llama.cpp.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from typing import Any

from edgellm.formats.gguf.families import MAX_EXPERTS, MAX_LAYERS
from edgellm.formats.gguf.faults import fail, shown
from edgellm.formats.gguf.header import GgufFile

_INTEGER_TYPES = ("u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64")
#: Key (after `<architecture>.`) -> lowest and highest value, and whether it must be there.
_INTEGERS: dict[str, tuple[int, int, bool]] = {
    "block_count": (1, MAX_LAYERS, True),
    "context_length": (1, 1 << 30, True),
    "embedding_length": (1, 1 << 20, True),
    "feed_forward_length": (0, 1 << 24, False),
    "attention.head_count": (0, 1 << 16, False),
    "attention.head_count_kv": (0, 1 << 16, False),
    "attention.key_length": (0, 1 << 16, False),
    "attention.value_length": (0, 1 << 16, False),
    "attention.sliding_window": (0, 1 << 30, False),
    "rope.dimension_count": (0, 1 << 16, False),
    "expert_count": (0, MAX_EXPERTS, False),
    "expert_used_count": (0, MAX_EXPERTS, False),
    "ssm.conv_kernel": (0, 1 << 16, False),
    "ssm.inner_size": (0, 1 << 24, False),
    "ssm.state_size": (0, 1 << 16, False),
    "ssm.time_step_rank": (0, 1 << 20, False),
    "ssm.group_count": (0, 1 << 16, False),
    "wkv.head_size": (1, 1 << 16, False),
}
#: Must be finite and above 0, where there is one.
_FLOATS = (
    "attention.layer_norm_epsilon",
    "attention.layer_norm_rms_epsilon",
    "attention.group_norm_epsilon",
    "rope.freq_base",
    "rope.scaling.factor",
)


def check(file: GgufFile, architecture: str) -> None:
    """Raise ArtifactError, naming key and value, for what no model can be."""
    if architecture == "clip":
        fail(file, "is the image or sound part of a model (mmproj), not the language model; open that one")
    for name, (low, high, required) in _INTEGERS.items():
        key = f"{architecture}.{name}"
        value = file.get(key)
        if value is None and not required:
            continue
        if not _are_integers(value, file.value_types.get(key, "")):
            fail(file, f"{key} must be an integer but is {shown(value)}; convert the model again")
        if bad := [one for one in _each(value) if not low <= one <= high]:
            fail(file, f"{key} is {bad[0]:,}, outside {low:,} to {high:,}; the file is damaged")
    for name in _FLOATS:
        value = file.get(key := f"{architecture}.{name}", 1.0)
        if not isinstance(value, float) or not math.isfinite(value) or value <= 0:
            fail(file, f"{key} is {shown(value)}; it must be a number above 0. Convert the model again")


def _are_integers(value: Any, kind: str) -> bool:
    return kind.removeprefix("arr[").removesuffix("]") in _INTEGER_TYPES and value is not None


def _each(value: Any) -> Iterable[int]:
    return value if isinstance(value, array) else (value,)
