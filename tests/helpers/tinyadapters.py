"""Small LoRA adapters for the checkpoints of tinymodels.py, as PEFT saves them; no torch and no peft needed.

    folder = write(ADAPTERS["qwen2"], tmp_path)

Factors come from the same integer hash as the weights. What each case computes is for PEFT to say:
tests/golden/make_adapter_logits.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tensor_files import Array, write_json, write_safetensors
from tinymodels import CASES, Tiny, hashed, shapes, variant

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
LINEAR = (*ATTENTION, "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class TinyAdapter:
    """One adapter to write. `changes` is laid over adapter_config.json last."""

    base: Tiny
    targets: tuple[str, ...] = LINEAR
    r: int = 4
    alpha: float = 8
    saved: tuple[str, ...] = ()  # modules_to_save
    ranks: Mapping[str, int] = field(default_factory=dict)  # module ending -> rank, as rank_pattern has it
    changes: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "F32"
    seed: int = 7

    def rank(self, module: str) -> int:
        return next((r for ending, r in self.ranks.items() if module.endswith(ending)), self.r)


#: Of a hybrid, held against merging and the oracle alone: the value heads of each matrix stand in another order.
HYBRID = TinyAdapter(
    variant("qwen35-grouped"),
    (*ATTENTION, "in_proj_qkv", "in_proj_z", "in_proj_a", "in_proj_b", "out_proj", "down_proj"),
)
ADAPTERS: dict[str, TinyAdapter] = {
    "llama": TinyAdapter(CASES["llama"], r=8, alpha=16),
    "qwen2": TinyAdapter(CASES["qwen2"], ATTENTION, changes={"use_rslora": True}),
    "qwen3-patterns": TinyAdapter(
        CASES["qwen3"],
        ranks={"layers.0.self_attn.q_proj": 2, "v_proj": 6},
        changes={"alpha_pattern": {"down_proj": 3, r"layers\.1\.self_attn\.q_proj": 32}},
    ),
    "llama-saved": TinyAdapter(CASES["llama-odd"], ("v_proj",), saved=("lm_head", "embed_tokens")),
    "qwen2-saved-norm": TinyAdapter(
        CASES["qwen2"], ("q_proj",), saved=("norm",), changes={"lora_alpha": 2.5}
    ),
    "qwen2-embedding": TinyAdapter(CASES["qwen2"], ("embed_tokens", "lm_head", "up_proj"), r=3),
    "qwen3-tied-embedding": TinyAdapter(CASES["qwen3"], ("embed_tokens", "k_proj")),
    "qwen3-tied-head-saved": TinyAdapter(CASES["qwen3"], ("k_proj",), saved=("lm_head",)),
    "fan-in-fan-out": TinyAdapter(CASES["qwen2-f16"], ("o_proj",), changes={"fan_in_fan_out": True}),
    "bf16": TinyAdapter(CASES["llama-bias"], LINEAR, dtype="BF16"),
    "qwen2moe-attention": TinyAdapter(CASES["qwen2moe"], ATTENTION),
    "qwen2-256": TinyAdapter(CASES["qwen2-256"], LINEAR, r=16, alpha=16),
    "llama-one-head": TinyAdapter(variant("llama", n_head_kv=1, n_shards=1), ("q_proj", "k_proj"), r=1),
}


def config(adapter: TinyAdapter, base: str = "") -> dict[str, Any]:
    """adapter_config.json as PEFT writes it."""
    return {
        "alpha_pattern": {},
        "auto_mapping": None,
        "base_model_name_or_path": base,
        "bias": "none",
        "corda_config": None,
        "eva_config": None,
        "exclude_modules": None,
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "layer_replication": None,
        "layers_pattern": None,
        "layers_to_transform": None,
        "loftq_config": {},
        "lora_alpha": adapter.alpha,
        "lora_bias": False,
        "lora_dropout": 0.05,
        "megatron_config": None,
        "megatron_core": "megatron.core",
        "modules_to_save": list(adapter.saved) or None,
        "peft_type": "LORA",
        "r": adapter.r,
        "rank_pattern": dict(adapter.ranks),
        "revision": None,
        "target_modules": list(adapter.targets),
        "target_parameters": None,
        "task_type": "CAUSAL_LM",
        "trainable_token_indices": None,
        "use_dora": False,
        "use_qalora": False,
        "use_rslora": False,
    } | dict(adapter.changes)


def tensors(adapter: TinyAdapter) -> dict[str, Array]:
    """The adapter's tensors by the names PEFT saves them under."""
    return {f"base_model.model.{name}": value for name, value in _tensors(adapter)}


def _tensors(adapter: TinyAdapter) -> Iterator[tuple[str, Array]]:
    found = shapes(adapter.base)
    head = {} if "lm_head.weight" in found else {"lm_head.weight": found["model.embed_tokens.weight"]}
    for name, shape in (found | head).items():
        module = name.removesuffix(".weight")
        last = module.rpartition(".")[2]
        if not name.endswith(".weight") or any(
            part in name for part in (".experts.", "shared_expert", "mtp.")
        ):
            continue
        if module.endswith(adapter.saved):  # as PEFT matches modules_to_save
            noise = hashed("saved." + name, shape, adapter.seed)
            yield name, 1 + noise / 4 if len(shape) == 1 else noise / shape[-1] ** 0.5
        elif last in adapter.targets:
            yield from _pair(adapter, module, shape)


def _pair(adapter: TinyAdapter, module: str, shape: tuple[int, ...]) -> Iterator[tuple[str, Array]]:
    r, (n_out, n_in) = adapter.rank(module), shape
    if module.endswith("embed_tokens"):
        yield f"{module}.lora_embedding_A", hashed(module + "A", (r, n_out), adapter.seed)
        yield f"{module}.lora_embedding_B", hashed(module + "B", (n_in, r), adapter.seed) / 8
    else:
        yield f"{module}.lora_A.weight", hashed(module + "A", (r, n_in), adapter.seed) / n_in**0.5
        yield f"{module}.lora_B.weight", hashed(module + "B", (n_out, r), adapter.seed)


def write(adapter: TinyAdapter, folder: Path, base: str = "") -> Path:
    """Write adapter_config.json and adapter_model.safetensors into `folder` (made when missing)."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "adapter_config.json", config(adapter, base))
    values = {name: (adapter.dtype, value) for name, value in tensors(adapter).items()}
    write_safetensors(folder / "adapter_model.safetensors", values)
    return folder
