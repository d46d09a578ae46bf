"""Make the golden logits of models with a LoRA adapter, by transformers and peft.

    pip install -e '.[train]' peft && python tests/golden/make_adapter_logits.py

Writes tests/golden/adapters/<case>.npy, float32 [len(POSITIONS), n_vocab]: the adapter applied beside the weights,
not merged, in float32, for the adapters of tests/helpers/tinyadapters.py.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

HERE = Path(__file__).parent
TOKENS = [(37 * i + 11) % 300 for i in range(40)]
POSITIONS = [0, 1, 7, 39]  # whose logits are kept


def peft_logits(base: Path, adapter: Path, tokens: list[int]) -> npt.NDArray[np.float32]:
    """Logits [len(tokens), n_vocab] of the checkpoint in `base` with the adapter, by peft in float32."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")
    model = PeftModel.from_pretrained(model, adapter).eval()
    with torch.no_grad():
        found = model(torch.tensor([tokens])).logits[0]
    return np.asarray(found.numpy(), dtype=np.float32)


def main() -> None:
    """Write every file."""
    sys.path[:0] = [str(HERE.parent / "helpers"), str(HERE.parent)]
    import tinyadapters
    import tinymodels

    (HERE / "adapters").mkdir(exist_ok=True)
    for name, adapter in tinyadapters.ADAPTERS.items():
        with tempfile.TemporaryDirectory() as folder:
            base = tinymodels.write(adapter.base, Path(folder) / "base")
            found = peft_logits(base, tinyadapters.write(adapter, Path(folder) / "adapter"), TOKENS)
        np.save(HERE / "adapters" / f"{name}.npy", found[POSITIONS])


if __name__ == "__main__":
    main()
