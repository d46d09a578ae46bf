"""Make the golden vectors that embeddings are held against where sentence-transformers is not installed.

    pip install -e '.[train]' sentence-transformers && python tests/golden/make_embeddings.py

Writes tests/golden/embeddings/<case>.npy, float32 [len(TEXTS), n_embd]: what sentence-transformers encodes of TEXTS
with the random checkpoints of tests/helpers/embedders.py, all texts in one padded batch, normalised.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "helpers"))

import embedders  # noqa: E402  # tests/helpers
import tinymodels  # noqa: E402

TEXTS = [
    "The cat sleeps in the garden.",
    "a",
    "你好，世界。今天天气很好 🙂",
    "Cafe\u0301 \u2126  and   spaces\n\n17 + 25 = 42.",
    "the other thing is that there are three of them, and they're here " * 3,
]
#: As wide as Qwen3-Embedding-0.6B: the numbers of a vector one long are smaller, and so is what F16 rounds off them.
WIDE = tinymodels.variant("qwen3", n_embd=1024, n_ff=256, n_head=8, head_dim=32, n_ctx_train=256)
#: Name -> how the checkpoint is written, how it is encoded.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "last": ({}, {}),
    "last-query": ({}, {"prompt_name": "query"}),
    "last-task": ({}, {"prompt": "Instruct: Find the answer\nQuery:"}),
    "last-default-prompt": ({"default_prompt": "query"}, {}),
    "last-cut": ({"max_seq_length": 24}, {}),
    "last-32": ({}, {"truncate_dim": 32, "normalize_embeddings": True}),
    "mean": ({"mode": "mean", "old_keys": False}, {}),
    "mean-without-prompt": ({"mode": "mean", "include_prompt": False}, {"prompt_name": "query"}),
    "cls": ({"mode": "cls"}, {}),
    "cls-without-prompt": ({"mode": "cls", "include_prompt": False}, {"prompt_name": "query"}),
    "no-end": ({"ends": False}, {}),
    "no-head": ({"tiny": tinymodels.variant("qwen3-f32", n_ctx_train=256)}, {}),
    "llama-mean": ({"tiny": tinymodels.variant("llama", n_ctx_train=256), "mode": "mean", "ends": False}, {}),
    "qwen2": ({"tiny": tinymodels.variant("qwen2-f16", n_ctx_train=256)}, {}),
    "wide": ({"tiny": WIDE}, {}),
}


def write_case(name: str, folder: Path) -> Path:
    """The checkpoint of a case."""
    return embedders.write(folder, **CASES[name][0])


def library_vectors(name: str, folder: Path) -> npt.NDArray[np.float32]:
    """What sentence-transformers makes of TEXTS with a case's checkpoint, in float32."""
    import torch
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    if model.tokenizer.pad_token is None:
        model.tokenizer.pad_token = model.tokenizer.eos_token
    found = model.encode(TEXTS, batch_size=len(TEXTS), **CASES[name][1])
    return np.asarray(found, dtype=np.float32)


def main() -> None:
    """Write every file."""
    (HERE / "embeddings").mkdir(exist_ok=True)
    for name in CASES:
        with tempfile.TemporaryDirectory() as folder:
            np.save(
                HERE / "embeddings" / f"{name}.npy", library_vectors(name, write_case(name, Path(folder)))
            )


if __name__ == "__main__":
    main()
