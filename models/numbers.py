"""Numbers of config.json, each within its bounds, or an error that names key and value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from edgellm.errors import CheckpointError

#: Inclusive bounds on what config.json may ask for: beyond them a file is damaged or hostile. The layer and
#: expert limits are llama.cpp's (`LLAMA_MAX_LAYERS`, `LLAMA_MAX_EXPERTS`).
BOUNDS: dict[str, tuple[int, int]] = {
    "num_hidden_layers": (1, 512),
    "hidden_size": (1, 1 << 17),
    "intermediate_size": (1, 1 << 20),
    "num_attention_heads": (1, 1 << 12),
    "num_key_value_heads": (1, 1 << 12),
    "head_dim": (2, 1 << 12),
    "vocab_size": (1, 1 << 22),
    "max_position_embeddings": (1, (1 << 31) - 1),
    "original_max_position_embeddings": (1, (1 << 31) - 1),
    "num_experts": (1, 1024),
    "num_experts_per_tok": (1, 1024),
    "moe_intermediate_size": (1, 1 << 20),
    "shared_expert_intermediate_size": (1, 1 << 20),
    "linear_num_key_heads": (1, 1 << 12),
    "linear_num_value_heads": (1, 1 << 12),
    "linear_key_head_dim": (1, 1 << 12),
    "linear_value_head_dim": (1, 1 << 12),
    "linear_conv_kernel_dim": (2, 64),
    "full_attention_interval": (1, 512),
}


def refuse(key: str, value: object, why: str) -> NoReturn:
    """Raise CheckpointError that names key and value, and why not."""
    raise CheckpointError(f"config.json: {key} is {value!r}, {why}")


def whole(config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """A whole number within its `BOUNDS`. Raises CheckpointError."""
    value = config.get(key)
    if value is None:
        value = default
    if value is None:
        raise CheckpointError(f"config.json has no {key}: the checkpoint is incomplete, download it again")
    low, high = BOUNDS[key]
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        refuse(key, value, f"but must be a whole number from {low} to {high}")
    return value


def number(config: Mapping[str, Any], key: str, default: float | None = None, below: float = 1e9) -> float:
    """A number above 0 and below `below`. Raises CheckpointError."""
    value = config.get(key)
    if value is None:
        value = default
    if value is None:
        raise CheckpointError(f"config.json has no {key}: the checkpoint is incomplete, download it again")
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0.0 < value < below:
        refuse(key, value, f"but must be a number above 0 and below {below:g}")
    return float(value)


def flag(config: Mapping[str, Any], key: str, default: bool) -> bool:
    """True or false. Raises CheckpointError."""
    value = config.get(key)
    value = default if value is None else value
    if not isinstance(value, bool):
        refuse(key, value, "but must be true or false")
    return value
