"""Checkpoints as the world saves them: names, ties, buffers, rope settings and windows that differ from the usual.

    folder = write(LAYOUTS["yarn beside rope_parameters"], tmp_path)

What each computes is for transformers to say (tests/golden/make_layout_logits.py); where it starts from random
numbers, because a wrapper's name is in front of every tensor, `same_as` names the layout without the wrapper.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensor_files
import tinymodels
from tensor_files import Array
from tinymodels import CASES, YARN_ROPE, Tiny, variant

Values = dict[str, Array]

PLAIN = CASES["qwen2-f16"]
TIED = replace(PLAIN, tied=True)
YARN = {**YARN_ROPE, "factor": 4.0}
DEFAULT = {"rope_type": "default", "rope_theta": 1e6}


@dataclass(frozen=True)
class Layout:
    """One checkpoint. A config change to `...` removes the key; `buffers` are raw tensors that lie beside."""

    tiny: Tiny = PLAIN
    rename: Callable[[str], str] = str
    changes: Mapping[str, Any] = field(default_factory=dict)
    buffers: Mapping[str, tuple[str, list[int], bytes]] = field(default_factory=dict)
    listed: tuple[str, ...] = ()  # tensors that an index names and no shard has
    same_as: str | None = None


def rope(**changes: Any) -> Layout:
    """A layout whose rope settings are these alone."""
    none = dict.fromkeys(("rope_scaling", "rope_theta", "rope_parameters"), ...)
    return Layout(changes={**none, **changes})


def _prefixed(prefix: str) -> Layout:
    return Layout(rename=lambda name: prefix + name, same_as="plain")


def _in_layers(name: str) -> str:
    return name.replace(".self_attn.", "._orig_mod.self_attn.").replace(".mlp.", "._orig_mod.mlp.")


BUFFERS = {
    "model.layers.0.self_attn.rotary_emb.inv_freq": ("F64", [8], np.ones(8).tobytes()),
    "model.layers.1.self_attn.bias": ("BOOL", [1, 1, 4, 4], bytes(16)),
    "model.layers.1.self_attn.masked_bias": ("F32", [], np.float32(-1e4).tobytes()),
    "model.embed_tokens.position_ids": ("I64", [1, 4], bytes(32)),
    "model.layers.0.self_attn.k_scale": ("F32", [], np.float32(1).tobytes()),
    "v_head.summary.weight": ("F32", [1, 64], np.ones(64, dtype=np.float32).tobytes()),
}
SLIDE = {"use_sliding_window": True, "max_window_layers": 0}
LEFT = {"quant_method": "fp8", "weight_block_size": [128, 128]}

LAYOUTS: dict[str, Layout] = {
    "plain": Layout(),
    "tied, stored as head": Layout(TIED, lambda name: name.replace("model.embed_tokens", "lm_head")),
    "no model.": Layout(rename=lambda name: name.removeprefix("model.")),
    "no model., tied": Layout(TIED, lambda name: name.removeprefix("model.")),
    "model. twice": Layout(rename=lambda name: "model." + name),
    "some without model.": Layout(rename=lambda name: name.removeprefix("model." * ("mlp" in name))),
    "_orig_mod.": _prefixed("_orig_mod."),
    "module.": _prefixed("module."),
    "base_model.model.": _prefixed("base_model.model."),
    "module._orig_mod.": _prefixed("module._orig_mod."),
    "compiled layers": Layout(rename=_in_layers, same_as="plain"),
    "moe with module.": Layout(CASES["qwen3moe-stacked"], lambda name: "module." + name, same_as="moe"),
    "moe": Layout(CASES["qwen3moe-stacked"]),
    "buffers": Layout(buffers=BUFFERS, listed=("model.layers.0.self_attn.rotary_emb.cos_cached",)),
    "leftover quantization_config": Layout(changes={"quantization_config": LEFT}),
    "window of the context": Layout(changes={**SLIDE, "sliding_window": 512}),
    "window above the context": Layout(changes={**SLIDE, "sliding_window": 4096}),
    "window above, by layer": Layout(
        changes={**SLIDE, "sliding_window": 600, "layer_types": ["full_attention", "sliding_attention"]}
    ),
    "moe with a window above": Layout(
        variant("qwen3moe-256", n_shards=1), changes={**SLIDE, "sliding_window": 4096}
    ),
    "yarn beside rope_parameters": rope(rope_parameters=DEFAULT, rope_scaling=YARN),
    "yarn beside rope_parameters, base outside": rope(
        rope_parameters=DEFAULT, rope_scaling=YARN, rope_theta=5e5
    ),
    "yarn with a base of its own": rope(rope_parameters=DEFAULT, rope_scaling={**YARN, "rope_theta": 2e5}),
    "rope_scaling says default": rope(
        rope_parameters={**YARN, "rope_theta": 1e6}, rope_scaling={"rope_type": "default"}
    ),
    "rope_scaling empty": rope(rope_parameters=DEFAULT, rope_scaling={}),
    "two bases": rope(rope_parameters=DEFAULT, rope_theta=5e5),
    "base outside alone": rope(rope_parameters={"rope_type": "default"}, rope_theta=5e5),
    "yarn without original": rope(rope_theta=1e6, rope_scaling={"type": "yarn", "factor": 4.0}),
    "yarn, original outside": rope(
        rope_theta=1e6, rope_scaling={"type": "yarn", "factor": 4.0}, original_max_position_embeddings=32
    ),
    "yarn, two originals": rope(rope_theta=1e6, rope_scaling=YARN, original_max_position_embeddings=32),
    "yarn without factor": rope(
        rope_theta=1e6, rope_scaling={"type": "yarn", "factor": None, "original_max_position_embeddings": 128}
    ),
    "yarn betas": rope(rope_theta=1e6, rope_scaling={**YARN, "beta_fast": 16, "beta_slow": 2}),
    "yarn betas of 0": rope(rope_theta=1e6, rope_scaling={**YARN, "beta_fast": 0, "beta_slow": None}),
    "yarn betas crossed": rope(rope_theta=1e6, rope_scaling={**YARN, "beta_fast": 1, "beta_slow": 32}),
    "yarn attention_factor": rope(rope_theta=1e6, rope_scaling={**YARN, "attention_factor": 1.0}),
    "yarn mscales": rope(rope_theta=1e6, rope_scaling={**YARN, "mscale": 0.7, "mscale_all_dim": 0.5}),
    "yarn one mscale": rope(rope_theta=1e6, rope_scaling={**YARN, "mscale": 0.7}),
    "two names of the type": rope(rope_theta=1e6, rope_scaling={**YARN, "type": "linear"}),
    "llama3, two originals": Layout(
        variant("llama", n_shards=1), changes={"original_max_position_embeddings": 32}
    ),
}
#: Those that take a way of their own through a converter or an engine.
THROUGH_ENGINES = (
    "tied, stored as head",
    "_orig_mod.",
    "moe with module.",
    "buffers",
    "leftover quantization_config",
    "window above the context",
    "yarn beside rope_parameters",
    "yarn without original",
    "yarn betas",
    "yarn attention_factor",
    "yarn mscales",
    "llama3, two originals",
)


def write(layout: Layout, folder: Path) -> Path:
    """Write the checkpoint into `folder` and return it."""
    tinymodels.write(layout.tiny, folder)
    given = {**tinymodels.config(layout.tiny), **layout.changes}
    config = {key: value for key, value in given.items() if value is not ...}
    tensor_files.write_json(folder / "config.json", config)
    values = {layout.rename(name): value for name, value in tinymodels.tensors(layout.tiny).items()}
    _write_tensors(folder, {name: (layout.tiny.dtype, value) for name, value in values.items()}, layout)
    return folder


def _write_tensors(folder: Path, values: Mapping[str, tuple[str, Array]], layout: Layout) -> None:
    """One shard and, where the layout wants one, an index that names more than it has."""
    entries: dict[str, Any] = {}
    data = b""
    stored = {
        name: (dtype, list(value.shape), tensor_files.to_bits(value, dtype).tobytes())
        for name, (dtype, value) in values.items()
    }
    for name, (dtype, shape, raw) in {**stored, **layout.buffers}.items():
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    header = json.dumps({"__metadata__": {"format": "pt"}, **entries}).encode()
    name = "model-00001-of-00001.safetensors" if layout.listed else "model.safetensors"
    (folder / "model.safetensors").unlink()
    tensor_files.write_raw_safetensors(folder / name, header, data)
    if layout.listed:
        listed = dict.fromkeys((*values, *layout.listed), name)  # the buffers are there and not listed
        tensor_files.write_json(
            folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": listed}
        )
