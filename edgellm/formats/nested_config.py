"""Where the config.json of a model that reads and sees keeps its language model's numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def language_model(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config.json of a checkpoint's language model, which may stand in `text_config` of a larger one.

    Which classes and model the whole is, and whether its head is tied, is said on top: so reads transformers
    (`tie_weights` of the outer class).
    """
    inner = config.get("text_config")
    if not isinstance(inner, Mapping):
        return config
    on_top = ("architectures", "model_type", "tie_word_embeddings")
    outer = {key: value for key, value in config.items() if key != "text_config"}
    return {**outer, **inner, **{key: outer[key] for key in on_top if outer.get(key) is not None}}
