"""Models made to be timed: a checkpoint of any shape whose weights are all zero, through our own writers.

Speed does not depend on the values of weights, and blocks of zeros are quantized in a moment, so that every type's
kernels can be timed seconds after they were asked for. The file is written whole, by the converter that writes all
others, and run by the real engine. The tokenizer is that of a bundled model.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from edgellm.convert.gguf.recipes import canonical
from edgellm.models import bundled
from edgellm.models.registry import expected_shapes

_TOKENIZER = "tiny-qwen3"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")


@dataclass(frozen=True)
class Shape:
    """The numbers of a model made to be timed."""

    n_layer: int
    n_embd: int
    n_ff: int
    n_head: int
    n_head_kv: int
    head_dim: int
    n_vocab: int = 4096  # what the tokenizer has, at least
    n_expert: int = 0
    n_expert_used: int = 0

    def config(self) -> dict[str, Any]:
        """As config.json says it, of a Qwen3 or a Qwen3-MoE."""
        told: dict[str, Any] = json.loads((_folder() / "config.json").read_text(encoding="utf-8"))
        told |= {
            "hidden_size": self.n_embd,
            "intermediate_size": self.n_ff,
            "num_hidden_layers": self.n_layer,
            "num_attention_heads": self.n_head,
            "num_key_value_heads": self.n_head_kv,
            "head_dim": self.head_dim,
            "vocab_size": self.n_vocab,
            "max_position_embeddings": 32768,
        }
        if self.n_expert:
            told |= {
                "architectures": ["Qwen3MoeForCausalLM"],
                "model_type": "qwen3_moe",
                "num_experts": self.n_expert,
                "num_experts_per_tok": self.n_expert_used,
                "moe_intermediate_size": self.n_ff,
                "norm_topk_prob": True,
            }
        return told


def write_checkpoint(folder: Path, shape: Shape) -> Path:
    """A checkpoint of zeros in `folder`, which takes no room on disk where files may have holes."""
    folder.mkdir(parents=True)
    for name in _TOKENIZER_FILES:
        shutil.copyfile(_folder() / name, folder / name)
    config = shape.config()
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    header, size = _header(expected_shapes(config))
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)
    return folder


def _header(shapes: Mapping[str, tuple[int, ...]]) -> tuple[bytes, int]:
    entries, offset = {}, 0
    for name, shape in shapes.items():
        end = offset + 2 * prod(shape)
        entries[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries).encode()
    return text + b" " * (-len(text) % 8), offset


def write_gguf(checkpoint: Path, output: Path, type_: str, imatrix: Path | None = None) -> Path:
    """Every matrix in the ggml type that the recipe `type_` is of."""
    from edgellm.convert.gguf.convert import ConvertRequest, convert

    request = ConvertRequest(
        checkpoint, canonical(type_), output, pure=True, imatrix=imatrix, hash_sources=False
    )
    return convert(request).path


def write_onnx(checkpoint: Path, output: Path, quant: str, settings: tuple[str, ...]) -> Path:
    """An ONNX folder, refined by `settings` as --onnx has them."""
    from edgellm.convert.onnx.options import OnnxOptions
    from edgellm.convert.onnx.writer import OnnxRequest, convert_onnx

    options = OnnxOptions.parse(settings)
    return convert_onnx(OnnxRequest(checkpoint, quant, output, options, hash_sources=False)).path


def write_imatrix(checkpoint: Path, output: Path) -> Path:
    """One in which all columns matter alike, for the types that cannot do without."""
    import numpy as np

    from edgellm.convert.gguf import imatrix
    from edgellm.convert.gguf.plan import is_quantizable
    from edgellm.convert.gguf.source_model import open_model

    sums = {}
    with open_model(checkpoint, "F16") as model:
        for tensor in model.tensors:
            if is_quantizable(tensor.info):
                n_expert = tensor.info.shape[0] if len(tensor.info.shape) == 3 else 1
                ones = np.ones((n_expert, tensor.row_size), np.float32)
                sums[tensor.info.name] = (ones, np.ones(n_expert, np.float32))
    imatrix.write(output, sums, datasets=["ones"], chunk_count=1, chunk_size=1)
    return output


def _folder() -> Path:
    folder = bundled.path(_TOKENIZER)
    assert folder is not None
    return folder
