"""A classifier at the end of a GGUF model: what llama.cpp makes of one, by the header alone.

llama.cpp reads `cls.output` for Qwen3 alone of the verified families, and computes a softmax over its labels; without
labels it takes one output, whose softmax is always 1. Sources: src/models/qwen3.cpp, src/llama-graph.cpp
(build_pooling) and src/llama-model.cpp (load_hparams).
"""

from __future__ import annotations

from collections.abc import Mapping

from edgellm.formats.gguf.faults import fail
from edgellm.formats.gguf.header import GgufFile, GgufTensor, StringArray

RANK = (
    4  # `<architecture>.pooling_type` of a model that ends in a classifier (llama.h, enum llama_pooling_type)
)

_OUTPUT, _FAMILY = "cls.output.weight", "qwen3"


def check_classifier(
    file: GgufFile, architecture: str, tensors: Mapping[str, GgufTensor], n_embd: int
) -> None:
    """Raise ArtifactError for a classifier that the engine would leave out, refuse or read beyond."""
    pooling = file.get(f"{architecture}.pooling_type", 0)
    if type(pooling) is not int or not 0 <= pooling <= RANK:
        fail(file, f"{architecture}.pooling_type is {pooling!r}, outside 0 to {RANK}; the file is damaged")
    found = [name for name in tensors if name.startswith(("cls.", "score."))]
    if wrong := [name for name in found if architecture != _FAMILY or name != _OUTPUT]:
        fail(
            file,
            f"tensor {wrong[0]!r} is a classifier's, which the engine computes for {_FAMILY} alone, as "
            f"{_OUTPUT}: a classification or reward model cannot be run here",
        )
    if pooling != RANK and not found:
        return
    if not found:
        fail(
            file,
            f"pooling_type {RANK} (rank) needs a classifier, and there is no {_OUTPUT}: what the engine "
            "would give is no score; convert the model again",
        )
    labels = file.get(f"{architecture}.classifier.output_labels")
    n_labels = len(labels) if isinstance(labels, StringArray) else 0
    if n_labels < 2 or tensors[_OUTPUT].shape != (n_labels, n_embd):
        fail(
            file,
            f"{_OUTPUT} is {'x'.join(map(str, tensors[_OUTPUT].shape))}, with {n_labels} labels; the "
            f"engine's softmax means something with two or more, {n_labels or 2}x{n_embd}: convert the model again",
        )
