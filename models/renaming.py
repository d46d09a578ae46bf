"""Tensor names as tools write them, brought to the names that transformers' classes have.

transformers itself adds or drops the base model's prefix `model.` when it loads (`base_model_prefix`). Wrappers
that a training script forgot to take off - torch.compile, DataParallel, FSDP, PEFT's empty shell - leave a
segment in every name; transformers finds no weight under such names and starts from random ones, so no reading
but this one makes sense. Knows names only.
"""

from __future__ import annotations

from collections.abc import Iterable

from edgellm.errors import CheckpointError

_WRAPPERS = frozenset({"_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
_PEFT = "base_model.model."
_BASE, _TOWER = "model", "language_model"
#: What may stand first in a name without the base model's prefix; the head is outside the base model.
_INSIDE, _OUTSIDE = frozenset({"embed_tokens", "layers", "norm", "rotary_emb"}), frozenset({"lm_head", "mtp"})
#: Beside a language model (`language_model`), by the segment its tensors begin with: what it sees through.
_TOWERS = {"visual": "vision tower"}

#: Endings and beginnings of what is saved along and takes no part in the forward pass: buffers that transformers
#: recomputes, masks of old releases, scales of a quantized KV cache, TRL's value head.
_IGNORED_ENDS = (
    ".inv_freq",
    ".rotary_emb.cos_cached",
    ".rotary_emb.sin_cached",
    ".masked_bias",
    ".attention.bias",
    ".self_attn.bias",
    ".position_ids",
    ".self_attn.k_scale",
    ".self_attn.v_scale",
    ".self_attn.q_scale",
    ".self_attn.prob_scale",
)
_IGNORED_STARTS = ("v_head.",)


def canonical(name: str) -> str:
    """The name in transformers' classes of a language model alone.

    `layers.0...`, `_orig_mod.model.layers.0...` and `model.language_model.layers.0...` are `model.layers.0...`.
    """
    segments = [part for part in name.removeprefix(_PEFT).split(".") if part not in _WRAPPERS]
    while len(segments) > 1 and segments[0] in (_BASE, _TOWER):
        segments.pop(0)
    plain = ".".join(segments)
    if segments[0] in _INSIDE:
        return f"{_BASE}.{plain}"
    return plain if segments[0] in _OUTSIDE or plain.startswith(_IGNORED_STARTS) else name


def renamed(names: Iterable[str]) -> dict[str, str]:
    """Stored name -> canonical name. Raises CheckpointError when two stored names are one tensor's."""
    found: dict[str, str] = {}
    for name in names:
        first = found.setdefault(canonical(name), name)
        if first != name:
            raise CheckpointError(
                f"the checkpoint has tensor {canonical(name)} twice, as {first!r} and as {name!r}: remove one"
            )
    return {name: plain for plain, name in found.items()}


def is_ignored(name: str) -> bool:
    """Whether a tensor of this name, stored or canonical, takes no part in the forward pass."""
    plain = canonical(name)
    return plain.endswith(_IGNORED_ENDS) or plain.startswith(_IGNORED_STARTS)


def tower_of(name: str) -> str | None:
    """What a tensor of this name, stored or canonical, belongs to beside the language model; None for that one."""
    segments = canonical(name).removeprefix(f"{_BASE}.").split(".")
    return _TOWERS.get(segments[0])
