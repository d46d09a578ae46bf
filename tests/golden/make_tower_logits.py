"""Make the golden logits of models that see, reading text, for where torch is not installed.

    pip install -e '.[train]' && python tests/golden/make_tower_logits.py

Writes tests/golden/towers/<case>.npy, float32 [len(TOKENS), n_vocab]: transformers' logits of the whole class, vision
tower and all (started from random numbers, and not run by a text), for the checkpoints of tests/helpers/towers.py.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "helpers"))

import towers  # noqa: E402  # tests/helpers

TOKENS = [(37 * i + 11) % 300 for i in range(24)]


def library_logits(folder: Path) -> npt.NDArray[np.float32]:
    """Logits [len(TOKENS), n_vocab] by transformers in float32."""
    import torch
    from transformers import AutoModelForImageTextToText

    model, info = AutoModelForImageTextToText.from_pretrained(
        folder,
        dtype=torch.float32,
        attn_implementation="eager",
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    lacking = [name for name in (*info["missing_keys"], *info["unexpected_keys"]) if ".visual." not in name]
    assert not lacking, lacking
    with torch.no_grad():
        found = model.eval()(input_ids=torch.tensor([TOKENS])).logits[0]
    return np.asarray(found.numpy(), dtype=np.float32)


def main() -> None:
    """Write every file."""
    (HERE / "towers").mkdir(exist_ok=True)
    for name in towers.CASES:
        with tempfile.TemporaryDirectory() as folder:
            found = library_logits(towers.write(name, Path(folder)))
        np.save(HERE / "towers" / f"{name}.npy", found)


if __name__ == "__main__":
    main()
