"""Make the golden hidden states that embeddings are held against where torch is not installed.

    pip install -e '.[train]' && python tests/golden/make_hidden_states.py

Writes tests/golden/hidden/<case>.npy, float32 [2, n_embd]: the mean over TOKENS of transformers' last hidden
states (those after the final norm), and the last one, for random checkpoints of tests/tinymodels.py.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

HERE = Path(__file__).parent
CASES = ("llama", "qwen2", "qwen3-f32")
TOKENS = [(37 * i + 11) % 300 for i in range(80)]  # more than one batch of llama.cpp's


def transformers_states(folder: Path, tokens: list[int]) -> npt.NDArray[np.float32]:
    """Hidden states [len(tokens), n_embd] of the checkpoint in `folder`, by transformers in float32."""
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        found = model(torch.tensor([tokens])).last_hidden_state[0]
    return np.asarray(found.numpy(), dtype=np.float32)


def main() -> None:
    """Write every file."""
    sys.path.insert(0, str(HERE.parent))
    import tinymodels

    (HERE / "hidden").mkdir(exist_ok=True)
    for name in CASES:
        with tempfile.TemporaryDirectory() as folder:
            states = transformers_states(tinymodels.write(tinymodels.CASES[name], Path(folder)), TOKENS)
        np.save(HERE / "hidden" / f"{name}.npy", np.stack([states.mean(axis=0), states[-1]]))


if __name__ == "__main__":
    main()
