"""Write a trained model as an ordinary Hugging Face checkpoint in bf16."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgellm.models.training.configs import generation_config, model_config


def save_checkpoint(model: Any, name: str, out_dir: Path) -> None:
    """Write config.json, generation_config.json and model.safetensors; the tokenizer is there already."""
    import torch
    from safetensors.torch import save_file

    for file, content in (
        ("config.json", model_config(name)),
        ("generation_config.json", generation_config(name)),
    ):
        (out_dir / file).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    tied = model_config(name)["tie_word_embeddings"]
    tensors = {
        text: weight.detach().to(torch.bfloat16).contiguous()
        for text, weight in model.state_dict().items()
        if not (tied and text == "lm_head.weight")
    }
    partial = out_dir / "model.safetensors.partial"
    save_file(tensors, partial, metadata={"format": "pt"})
    partial.replace(out_dir / "model.safetensors")
