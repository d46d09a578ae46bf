"""Rotary embedding as config.json asks for it: base, scaling, how much of a head turns, M-RoPE's sections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgellm.models.base import Architecture, RopeScaling
from edgellm.models.numbers import number, refuse, whole
from edgellm.models.rope import yarn_attention_factor


def rope_parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """Rope settings in one place, whichever release of transformers wrote them.

    The ranks are those of transformers 5 (`RotaryEmbeddingConfigMixin` in modeling_rope_utils.py): a `rope_scaling`
    that says anything takes the place of `rope_parameters` as a whole, its base included; what the object does not
    say comes from the top level of config.json; an original context there goes before the object's own; and
    without any it is the trained context.
    """
    found = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if isinstance(found, Mapping) and isinstance(found.get("full_attention"), Mapping):
        found = found["full_attention"]  # nested by layer type; other types are refused above
    if not isinstance(found, Mapping):
        refuse("rope_parameters", found, "but must be an object")
    rope = dict(found)
    for key in ("rope_theta", "partial_rotary_factor"):
        if rope.get(key) is None and config.get(key) is not None:
            rope[key] = config[key]
    original = "original_max_position_embeddings"
    candidates = (config.get(original), rope.get(original), config.get("max_position_embeddings"))
    rope[original] = next((value for value in candidates if value is not None), None)
    kind = rope.get("rope_type") or rope.get("type") or "default"
    rope["rope_type"] = str(kind).lower()
    return rope


#: Keys of a rope setting that change the computation, with the values under which they do not.
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "partial_rotary_factor": (None, 1, 1.0),
    "mrope_section": (None,),
    "truncate": (None, True),
    "extrapolation_factor": (None, 1, 1.0),
}


def n_rot(family: Architecture, rope: Mapping[str, Any], head_dim: int) -> int:
    """Leading values of a head that are turned, 0 for all."""
    if family.partial_rotary_factor == 1.0:
        return 0
    factor = number(rope, "partial_rotary_factor", default=family.partial_rotary_factor, below=1.0000001)
    n_rot = int(head_dim * factor)
    if n_rot < 2 or n_rot % 2:
        why = f"which turns {n_rot} of {head_dim} values of a head, but they turn in pairs"
        refuse("partial_rotary_factor", factor, why)
    return n_rot


def rope_sections(
    family: Architecture, rope: Mapping[str, Any], n_rot: int, head_dim: int
) -> tuple[int, ...]:
    """How many pairs turn by time, height and width. In a text the three are equal, so that none matters.

    But llama.cpp turns a pair beyond its section by a fourth position, which is 0 throughout a text, and aborts
    where the sections are more than a head (`ggml_mrope_cache_init` in ggml-cpu/ops.cpp).
    """
    if not family.mrope_section:
        return ()
    said = rope.get("mrope_section")
    sections = list(family.mrope_section) if said is None else said
    good = isinstance(sections, list) and len(sections) in (3, 4)
    if not good or not all(type(n) is int and n >= 0 for n in sections) or any(sections[3:]):
        refuse("mrope_section", sections, "but must be three whole numbers: time, height, width")
    total = sum(sections)
    n_pairs = (n_rot or head_dim) // 2
    turned = total and (
        not family.mrope_interleaved
        or all(place % total < 3 * sections[place % total % 3] for place in range(n_pairs))
    )
    if total > head_dim or not turned:
        refuse("mrope_section", sections, f"which does not go with the {n_pairs} pairs that turn")
    return tuple(sections[:3])


def rope_scaling(
    family: Architecture, config: Mapping[str, Any], rope: Mapping[str, Any]
) -> RopeScaling | None:
    """The scaling of rotary frequencies, None for none. Raises CheckpointError for one the engines do not know."""
    partial = family.partial_rotary_factor != 1.0
    own = {"partial_rotary_factor": partial, "mrope_section": bool(family.mrope_section)}
    for key, neutral in _NEUTRAL.items():
        if rope.get(key) not in neutral and not own.get(key):
            refuse(key, rope[key], f"but {family.name} runs without it only")
    kind = rope["rope_type"]
    if kind == "default" or (
        kind == "mrope" and family.mrope_section
    ):  # transformers 4's word for the sections
        return None
    if kind not in family.rope_scalings:
        known = ", ".join(sorted(family.rope_scalings))
        refuse("rope_type", kind, f"but the scalings that {family.name} runs with are: {known}")
    original = whole(rope, "original_max_position_embeddings")
    if kind == "yarn" and rope.get("factor") is None:  # `_compute_yarn_parameters` in transformers
        rope = {**rope, "factor": whole(config, "max_position_embeddings") / original}
    factor = number(rope, "factor")
    if factor < 1.0:
        refuse("factor", factor, "but rope scaling needs a factor of at least 1")
    if kind == "linear":
        return RopeScaling(kind, factor)
    if kind == "llama3":
        return _llama3(rope, factor, original)
    return _yarn(rope, factor, original)


def _llama3(rope: Mapping[str, Any], factor: float, original: int) -> RopeScaling:
    low, high = number(rope, "low_freq_factor"), number(rope, "high_freq_factor")
    if low >= high:
        refuse("low_freq_factor", low, f"but must be below high_freq_factor, which is {high:g}")
    return RopeScaling("llama3", factor, low, high, original)


def _yarn(rope: Mapping[str, Any], factor: float, original: int) -> RopeScaling:
    """The defaults are `_compute_yarn_parameters`' in transformers, which takes a 0 for nothing said."""
    beta_fast, beta_slow, mscale, mscale_all_dim = (
        number(rope, key) if rope.get(key) else None
        for key in ("beta_fast", "beta_slow", "mscale", "mscale_all_dim")
    )
    magnitude = number(rope, "attention_factor") if rope.get("attention_factor") is not None else None
    if magnitude is None and mscale and mscale_all_dim:
        magnitude = yarn_attention_factor(factor, mscale) / yarn_attention_factor(factor, mscale_all_dim)
    return RopeScaling(
        "yarn",
        factor,
        original_max_position_embeddings=original,
        attention_factor=magnitude,
        beta_fast=beta_fast,
        beta_slow=beta_slow,
    )
