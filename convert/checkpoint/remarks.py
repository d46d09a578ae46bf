"""What a person should know of a checkpoint's conversion that no error says: parts left out, parts kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgellm.models.base import ModelSpec


def remarks(spec: ModelSpec, config: Mapping[str, Any], *, keeps_nextn: bool) -> Iterator[str]:
    """One line each. `keeps_nextn`: whether the output keeps the block that predicts further tokens."""
    for part in spec.left_out:
        yield f"the checkpoint's {part} is left out: the converted model reads text alone"
    block = "the block that predicts a further token (MTP)"
    if spec.n_layer_nextn:
        yield f"{block} is {'kept, behind the layers' if keeps_nextn else 'left out'}"
    elif config.get("mtp_num_hidden_layers"):
        yield f"config.json tells of {block.replace('the', 'a', 1)}, and the checkpoint has none: converted without"
