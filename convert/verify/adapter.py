"""An adapter read apart from the converter: what PEFT adds to each matrix, or puts in its place.

Source of the formulas: `get_delta_weight` and `update_layer` in peft/tuners/lora/layer.py.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgellm.convert.checkpoint.safetensors_file import LazyTensor, Shard, read_tensors

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Float32s = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Change:
    """What an adapter does to one tensor: `whole` takes its place, or A and B are added."""

    whole: LazyTensor | None = None
    a: LazyTensor | None = None
    b: LazyTensor | None = None
    scale: float = 0.0
    embedding: bool = False

    def added(self, start: int, stop: int) -> Float32s:
        """Rows [start, stop) of what is added, by products in float64."""
        import numpy as np

        assert self.a is not None and self.b is not None
        first, second = (part.rows(0, part.n_rows).astype(np.float64) for part in (self.a, self.b))
        if self.embedding:
            return np.asarray(self.scale * (second @ first[:, start:stop]).T, dtype=np.float32)
        return np.asarray(self.scale * (second[start:stop] @ first), dtype=np.float32)


@dataclass(frozen=True)
class Changes:
    """All changes of an adapter, by module (`layers.0.self_attn.q_proj`, `embed_tokens`) and suffix."""

    by_place: dict[tuple[str, str], Change] = field(repr=False)
    shard: Shard

    @classmethod
    def read(cls, folder: Path, place: Callable[[str], tuple[str, str] | None]) -> Changes:
        """Read a PEFT folder; `place` tells module and suffix of a tensor's name."""
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        shard = Shard.open(folder / "adapter_model.safetensors")
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for name, tensor in read_tensors(shard).items():
            match = re.search(r"\.lora_(embedding_)?([AB])(\.weight)?$", name)
            target = place(name[: match.start()] + ".weight" if match else name.replace(".base_layer.", "."))
            if target is None:
                continue
            change = found.setdefault(target, {})
            if match is None:
                change["whole"] = tensor
                continue
            module = name[: match.start()].removeprefix("base_model.model.")
            change |= {match[2].lower(): tensor, "scale": _scale(config, module)}
            change["embedding"] = bool(match[1])
        return cls({target: Change(**change) for target, change in found.items()}, shard)


def _scale(config: dict[str, Any], module: str) -> float:
    def of(patterns: dict[str, Any] | None, usual: float) -> float:
        for pattern, value in (patterns or {}).items():
            if re.match(f"(?:.*\\.)?(?:{pattern})$", module):
                return float(value)
        return usual

    rank = of(config.get("rank_pattern"), config.get("r", 8))
    alpha = of(config.get("alpha_pattern"), config.get("lora_alpha", 8))
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
