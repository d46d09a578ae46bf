"""Make the golden logits and rotary frequencies of unusual checkpoints, by transformers.

    pip install -e '.[train]' && python tests/golden/make_layout_logits.py

Writes tests/golden/layouts.npz: for each layout of tests/helpers/layouts.py that transformers reads, float32 logits
[len(POSITIONS), n_vocab], and under `<layout>/frequencies` the inverse frequencies it rotates with, followed by
what it multiplies cosine and sine by; and tests/golden/yarn.npz, the same frequencies for YARNS.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

HERE = Path(__file__).parent
TOKENS = [(37 * i + 11) % 300 for i in range(80)]  # long enough for a yarn of 64 positions
POSITIONS = [7, 79]  # whose logits are kept

#: Released models' YaRN, and the corners of its formula: (head_dim, theta, trained context, scaling).
YARNS: dict[str, tuple[int, float, int, dict[str, float]]] = {
    "qwen2.5-7b-128k": (128, 1e6, 32768, {"factor": 4.0, "original_max_position_embeddings": 32768}),
    "qwen3-0.6b-128k": (128, 1e6, 40960, {"factor": 4.0, "original_max_position_embeddings": 32768}),
    "qwen2.5-0.5b-64k": (64, 1e6, 32768, {"factor": 2.0, "original_max_position_embeddings": 32768}),
    "llama-2-7b-64k": (128, 1e4, 65536, {"factor": 16.0, "original_max_position_embeddings": 4096}),
    "betas": (128, 1e6, 32768, {"factor": 4.0, "beta_fast": 64.0, "beta_slow": 4.0}),
    "ramp of no width": (64, 1e6, 32768, {"factor": 4.0, "beta_fast": 3.0, "beta_slow": 3.0}),
    "ramp beyond the pairs": (32, 1e2, 1 << 20, {"factor": 8.0}),
    "magnitude": (64, 5e5, 8192, {"factor": 8.0, "attention_factor": 1.25}),
    "mscales": (64, 1e4, 4096, {"factor": 40.0, "mscale": 1.0, "mscale_all_dim": 0.707}),
    "factor 1": (64, 1e4, 4096, {"factor": 1.0}),
}

Float32s = npt.NDArray[np.float32]


def yarn_config(name: str) -> dict[str, Any]:
    """config.json's part in a rotation."""
    head_dim, theta, context, scaling = YARNS[name]
    return {
        "hidden_size": 2 * head_dim,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": head_dim,
        "max_position_embeddings": context,
        "rope_theta": theta,
        "rope_scaling": {"rope_type": "yarn", **scaling},
    }


def transformers_yarn(name: str) -> Float32s:
    """Inverse frequencies of one of YARNS, the magnitude last."""
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    frequencies, magnitude = ROPE_INIT_FUNCTIONS["yarn"](LlamaConfig(**yarn_config(name)), "cpu")
    return np.asarray([*frequencies.float().numpy(), magnitude], dtype=np.float32)


def transformers_reading(folder: Path) -> tuple[Float32s, Float32s]:
    """Logits [len(POSITIONS), n_vocab], and frequencies with their magnitude last, by transformers in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    model, info = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    assert not info["missing_keys"], f"transformers starts {info['missing_keys']} from random numbers"
    with torch.no_grad():
        found = model(torch.tensor([TOKENS])).logits[0]
    rotary = model.model.rotary_emb
    rotation = [*rotary.inv_freq.float().numpy(), rotary.attention_scaling]
    return np.asarray(found.numpy(), dtype=np.float32)[POSITIONS], np.asarray(rotation, dtype=np.float32)


def main() -> None:
    """Write the file."""
    sys.path[:0] = [str(HERE.parent / "helpers"), str(HERE.parent)]
    import layouts

    kept: dict[str, Float32s] = {}
    for name, layout in layouts.LAYOUTS.items():
        if layout.same_as is None:
            with tempfile.TemporaryDirectory() as folder:
                kept[name], kept[f"{name}/frequencies"] = transformers_reading(
                    layouts.write(layout, Path(folder))
                )
    np.savez_compressed(HERE / "layouts.npz", **kept)
    np.savez_compressed(HERE / "yarn.npz", **{name: transformers_yarn(name) for name in YARNS})


if __name__ == "__main__":
    main()
