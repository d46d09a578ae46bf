"""Start a hybrid from a trained model of the same width: what the two have in common is taken over.

The embedding, the norms and the feed-forward blocks fit as they are, and so does attention where a layer has it. A
gated delta net takes the donor's values and output projection of that layer; its keys, queries, gates and
convolution start fresh.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from edgellm.models import bundled

#: Which bundled model a model starts from.
DONORS = {"tiny-qwen35": "tiny-qwen3"}
#: The stream goes on where the donor's stopped.
FIRST_STEP = 2600
#: Share of the peak learning rates.
RATE = 0.5
_HEAD_SIZE = 64


def graft(model: Any, donor: str) -> None:
    """Overwrite `model`'s parameters with the bundled `donor`'s, layer by layer."""
    from safetensors.torch import load_file

    folder = bundled.path(donor)
    assert folder is not None
    given = {name: weight.float() for name, weight in load_file(folder / "model.safetensors").items()}
    for name, weight in model.named_parameters():
        weight.data.copy_(_taken(name, weight.data, given))


def _heads(matrix: Tensor) -> Tensor:
    """[heads, head size, columns] of a projection's matrix."""
    return matrix.unflatten(0, (-1, _HEAD_SIZE))


def _taken(name: str, fresh: Tensor, given: dict[str, Tensor]) -> Tensor:
    """What a parameter of the hybrid starts as."""
    layer, _, role = name.rpartition("linear_attn.")
    if role == "out_proj.weight":
        return given[layer + "self_attn.o_proj.weight"]
    if role == "in_proj_qkv.weight":  # two value heads for each of the donor's
        values = _heads(given[layer + "self_attn.v_proj.weight"])
        twice = values.repeat_interleave(2, 0).flatten(0, 1)
        fresh[-len(twice) :] = twice
        return fresh
    if layer or name not in given:
        return fresh
    if name.endswith("q_proj.weight"):  # a head's queries, then its gate, which starts half open
        queries = _heads(given[name])
        return torch.cat([queries, torch.zeros_like(queries)], 1).flatten(0, 1)
    if name.endswith("norm.weight"):
        return given[name] - 1  # Qwen3.5 adds the one itself
    return given[name] * (2 if name.endswith("self_attn.o_proj.weight") else 1)
