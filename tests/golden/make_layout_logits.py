"""Make the golden logits and rotary frequencies of unusual checkpoints, by transformers.

    pip install -e '.[train]' && python tests/golden/make_layout_logits.py

Writes tests/golden/layouts.npz: for each layout of tests/helpers/layouts.py that transformers reads, float32 logits
[len(POSITIONS), n_vocab], and under `<layout>/frequencies` the inverse frequencies it rotates with, followed by
what it multiplies cosine and sine by.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

HERE = Path(__file__).parent
TOKENS = [(37 * i + 11) % 300 for i in range(80)]  # long enough for a yarn of 64 positions
POSITIONS = [7, 79]  # whose logits are kept

Float32s = npt.NDArray[np.float32]


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


if __name__ == "__main__":
    main()
