"""Make the golden logits that the numpy oracle is held against where torch is not installed.

    pip install -e '.[train]' && python tests/golden/make_reference_logits.py

Writes tests/golden/logits/<case>.npy, float32 [len(POSITIONS), n_vocab]: what transformers computes, in
float32, for the random checkpoints of tests/tinymodels.py; and the rope divisors of the released Llama 3
models. The files change only when a case does, or when transformers fixes a bug.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

HERE = Path(__file__).parent
TOKENS = [(37 * i + 11) % 300 for i in range(80)]  # long enough to reach all of rope's scaled regions
POSITIONS = [0, 1, 7, 79]  # whose logits are kept

#: Released models: (head_dim, rope_theta, factor), the other numbers of their llama3 scaling being the same.
LLAMA3_ROPES = {
    "llama-3.1-8b": (128, 5e5, 8.0),
    "llama-3.2-1b": (64, 5e5, 32.0),
    "llama-3.2-3b": (128, 5e5, 32.0),
}


def transformers_logits(folder: Path, tokens: list[int]) -> npt.NDArray[np.float32]:
    """Logits [len(tokens), n_vocab] of the checkpoint in `folder`, by transformers in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        found = model(torch.tensor([tokens])).logits[0]
    return np.asarray(found.numpy(), dtype=np.float32)


def transformers_divisors(head_dim: int, theta: float, scaling: dict[str, Any]) -> npt.NDArray[np.float32]:
    """By how much transformers divides each plain rope frequency under `scaling`."""
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    numbers = {"hidden_size": 2 * head_dim, "num_attention_heads": 2, "head_dim": head_dim}
    config = LlamaConfig(
        **numbers, max_position_embeddings=131072, rope_parameters={**scaling, "rope_theta": theta}
    )
    frequencies, _ = ROPE_INIT_FUNCTIONS[scaling["rope_type"]](config, "cpu")
    plain = 1.0 / theta ** (np.arange(0, head_dim, 2) / head_dim)
    return np.asarray(plain / frequencies.double().numpy(), dtype=np.float32)


def main() -> None:
    """Write every file."""
    sys.path.insert(0, str(HERE.parent / "helpers"))
    from tinymodels import CASES, HYBRIDS, write

    (HERE / "logits").mkdir(exist_ok=True)
    for name, case in (CASES | HYBRIDS).items():
        with tempfile.TemporaryDirectory() as folder:
            found = transformers_logits(write(case, Path(folder)), TOKENS)
        np.save(HERE / "logits" / f"{name}.npy", found[POSITIONS])
    for name, (head_dim, theta, factor) in LLAMA3_ROPES.items():
        scaling = {
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }
        np.save(HERE / "logits" / f"rope-{name}.npy", transformers_divisors(head_dim, theta, scaling))


if __name__ == "__main__":
    main()
