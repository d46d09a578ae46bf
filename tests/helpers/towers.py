"""Tiny checkpoints of models that see, in the layouts of the hub: a language model with a vision tower beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensor_files
import tinymodels
from tinymodels import Tiny

_BASE = tinymodels.variant("qwen2", n_shards=1, n_embd=128, n_head=4, rope_theta=1e6, n_ctx_train=256)
_BASE3 = tinymodels.variant("qwen3", n_head=4, head_dim=32, n_layer=4, n_ctx_train=256)


@dataclass(frozen=True)
class Tower:
    """A checkpoint: the language model, the class of the whole, its layout, and the tower's numbers."""

    tiny: Tiny
    class_name: str
    model_type: str
    rope: Mapping[str, Any]
    vision: Mapping[str, Any]
    nested: bool = True  # else as transformers 4 wrote Qwen2-VL: one config, names without `language_model.`


_VISION2 = {"depth": 1, "hidden_size": 32, "num_heads": 2, "patch_size": 14, "spatial_merge_size": 2}
_VISION25 = _VISION2 | {"out_hidden_size": 128, "intermediate_size": 32, "fullatt_block_indexes": [0]}
_VISION3 = {
    "depth": 3,
    "hidden_size": 32,
    "num_heads": 2,
    "intermediate_size": 32,
    "out_hidden_size": 64,
    "num_position_embeddings": 16,
    "deepstack_visual_indexes": [0, 1, 2],
}
_OLD_ROPE = {"rope_scaling": {"type": "mrope", "mrope_section": [4, 6, 6]}}
_YARN_ROPE = {
    "rope_scaling": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 64,
        "mrope_section": [4, 6, 6],
    }
}
_ROPE3 = {"rope_scaling": {"rope_type": "default", "mrope_section": [6, 5, 5], "mrope_interleaved": True}}

CASES = {
    "qwen2-vl-old": Tower(
        _BASE,
        "Qwen2VLForConditionalGeneration",
        "qwen2_vl",
        _OLD_ROPE,
        _VISION2 | {"embed_dim": 32, "hidden_size": 128},
        nested=False,
    ),
    "qwen2.5-vl-old": Tower(
        _BASE, "Qwen2_5_VLForConditionalGeneration", "qwen2_5_vl", _OLD_ROPE, _VISION25, nested=False
    ),
    "qwen2.5-vl-tied": Tower(
        tinymodels.variant("qwen2", n_shards=1, n_embd=128, n_head=4, tied=True, n_ctx_train=256),
        "Qwen2_5_VLForConditionalGeneration",
        "qwen2_5_vl",
        _OLD_ROPE,
        _VISION25,
    ),
    "qwen2.5-vl-yarn": Tower(
        _BASE, "Qwen2_5_VLForConditionalGeneration", "qwen2_5_vl", _YARN_ROPE, _VISION25
    ),
    "qwen3-vl": Tower(_BASE3, "Qwen3VLForConditionalGeneration", "qwen3_vl", _ROPE3, _VISION3),
}


def write(name: str, folder: Path) -> Path:
    """The checkpoint of a case, with one tensor of a tower: nothing of it is read."""
    case = CASES[name]
    tinymodels.write(case.tiny, folder)
    inner = tinymodels.config(case.tiny) | dict(case.rope)
    on_top = {"architectures": [case.class_name], "model_type": case.model_type}
    vision = {"vision_config": dict(case.vision) | {"model_type": case.model_type}}
    if case.nested:
        del inner["architectures"]
        on_top |= {"tie_word_embeddings": inner["tie_word_embeddings"]}
        config = on_top | vision | {"text_config": inner | {"model_type": f"{case.model_type}_text"}}
    else:
        config = inner | on_top | vision
    tensor_files.write_json(folder / "config.json", config)
    prefix = "model.language_model." if case.nested else "model."
    tower = "model.visual." if case.nested else "visual."
    values = {
        name.replace("model.", prefix, 1) if name.startswith("model.") else name: value
        for name, value in tinymodels.tensors(case.tiny).items()
    }
    values[tower + "patch_embed.proj.weight"] = tinymodels.hashed("patch", (32, 3, 2, 14, 14), 1)
    dtype = case.tiny.dtype
    tensor_files.write_shards(folder, {name: (dtype, value) for name, value in values.items()})
    return folder
