"""Start a hybrid from a trained model of the same width: what the two have in common is taken over.

The embedding, the norms and the feed-forward blocks fit as they are, and so does attention where a layer has it. A
gated delta net takes the donor's values and output projection of that layer; its keys, queries, gates and
convolution start fresh.
"""

from __future__ import annotations

from typing import Any

from edgellm.models import bundled

#: Which bundled model a model starts from.
DONORS = {"tiny-qwen35": "tiny-qwen3"}
#: The stream goes on where the donor's stopped.
FIRST_STEP = 2600
#: Share of the peak learning rates.
RATE = 0.5


def graft(model: Any, donor: str) -> None:
    """Overwrite `model`'s parameters with the bundled `donor`'s, layer by layer."""
    from safetensors.torch import load_file

    folder = bundled.path(donor)
    assert folder is not None
    given = {name: weight.float() for name, weight in load_file(folder / "model.safetensors").items()}
    for name, weight in model.named_parameters():
        weight.data.copy_(_taken(name, weight.data, given))


def _taken(name: str, fresh: Any, given: dict[str, Any]) -> Any:
    """What a parameter of the hybrid starts as."""
    layer, _, role = name.rpartition("linear_attn.")
    if role == "out_proj.weight":
        return given[layer + "self_attn.o_proj.weight"]
    if role == "in_proj_qkv.weight":
        values = given[layer + "self_attn.v_proj.weight"]
        n_values = len(given[layer + "self_attn.o_proj.weight"])
        heads = values.reshape(-1, 64, values.shape[1]).repeat_interleave(n_values // len(values), 0)
        fresh[-n_values:] = heads.reshape(n_values, -1)
        return fresh
    if layer or name not in given:
        return fresh
    if name.endswith("q_proj.weight"):  # a head's queries, then its gate, which starts half open
        heads = given[name].reshape(-1, 64, fresh.shape[1])
        return (
            heads.repeat_interleave(2, 0).reshape(fresh.shape)
            * heads.new_tensor([1.0, 0.0]).repeat(len(heads)).repeat_interleave(64)[:, None]
        )
    if name.endswith("norm.weight"):
        return given[name] - 1  # Qwen3.5 adds the one itself
    return given[name] * (2 if name.endswith("self_attn.o_proj.weight") else 1)
