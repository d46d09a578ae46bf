"""The bundled checkpoints: bf16 tensors of the promised shapes and sizes, named as the real families name them."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import pytest

from edgellm.models import bundled
from edgellm.models.training.evaluate import evaluate, table
from edgellm.profiles.quality.tasks import TaskItem

NAMES = ("tiny-llama3", "tiny-qwen3", "tiny-qwen35")


def header(name: str) -> dict[str, Any]:
    folder = bundled.path(name)
    assert folder is not None
    with (folder / "model.safetensors").open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        tensors: dict[str, Any] = json.loads(file.read(length))
    tensors.pop("__metadata__", None)
    return tensors


def test_all_models_are_listed_and_others_are_not_found() -> None:
    assert bundled.names() == NAMES
    assert bundled.path("tiny-gpt") is None


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_is_small_bf16_and_quantizable(name: str) -> None:
    folder = bundled.path(name)
    assert folder is not None
    tensors = header(name)
    assert sum(math.prod(each["shape"]) for each in tensors.values()) <= 10_000_000
    assert (folder / "model.safetensors").stat().st_size <= 20_000_000
    assert {each["dtype"] for each in tensors.values()} == {"BF16"}
    # K-quants work on blocks of 256 weights along a row.
    assert not [text for text, each in tensors.items() if len(each["shape"]) == 2 and each["shape"][1] % 256]


def test_the_families_differ_as_the_real_ones_do() -> None:
    llama, qwen = header("tiny-llama3"), header("tiny-qwen3")
    assert "lm_head.weight" in llama and "lm_head.weight" not in qwen
    assert "model.layers.0.self_attn.q_norm.weight" in qwen
    assert "model.layers.0.self_attn.q_norm.weight" not in llama


def test_the_hybrid_has_layers_of_both_kinds_and_unequal_heads() -> None:
    folder = bundled.path("tiny-qwen35")
    assert folder is not None
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["linear_num_key_heads"] < config["linear_num_value_heads"]
    kinds = ["self_attn" if kind == "full_attention" else "linear_attn" for kind in config["layer_types"]]
    assert set(kinds) == {"self_attn", "linear_attn"}
    for layer, kind in enumerate(kinds):
        found = {name.split(".")[3] for name in header("tiny-qwen35") if f".layers.{layer}." in name}
        assert kind in found and len(found & {"self_attn", "linear_attn"}) == 1


def test_llamas_rope_scaling_changes_some_frequencies_and_leaves_others() -> None:
    folder = bundled.path("tiny-llama3")
    assert folder is not None
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    scaling, dim = config["rope_scaling"], config["head_dim"]
    waves = [2 * math.pi * config["rope_theta"] ** (2 * i / dim) for i in range(dim // 2)]
    context = scaling["original_max_position_embeddings"]
    assert any(wave > context / scaling["low_freq_factor"] for wave in waves)
    assert any(wave < context / scaling["high_freq_factor"] for wave in waves)


def test_evaluation_counts_matches_and_stops() -> None:
    def item(index: int, answer: str) -> TaskItem:
        return TaskItem(f"t-{index}", "t", "en", ({"role": "user", "content": str(index)},), answer)

    replies = {"1": ("yes", "stop"), "2": ("no", "stop"), "3": ("yes yes yes", "length")}
    scores = evaluate(lambda messages: replies[messages[-1]["content"]], [item(i, "yes") for i in (1, 2, 3)])
    assert (scores["all"].items, scores["all"].exact, scores["all"].stopped) == (3, 1, 2)
    assert "| t | 3 | 33.3% | 66.7% |" in table(scores)
