"""What is known of a model before it is there: its numbers, and what each type would make of it.

A checkpoint, whole or by config.json alone, becomes a `Subject`; a type of it a `Build`: its files to the byte, its
matrices by the kernel that multiplies them, and what its header will say. Reads headers, no weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgellm.backends.llama.memory_estimate import Planned


@dataclass(frozen=True)
class Numbers:
    """What cost depends on beside the matrices."""

    n_layer: int
    n_attention: int  # layers that keep keys and values
    n_embd: int
    n_head: int
    n_head_kv: int
    head_dim: int
    n_vocab: int
    n_ctx_train: int
    n_expert: int = 0  # 0: dense
    n_expert_used: int = 0


@dataclass(frozen=True)
class Matrix:
    """A weight matrix, or a stack of experts'."""

    kernel: str  # what multiplies it: a ggml type, `/plain` behind it where its rows are not interleaved; int4a/128
    n_weights: int
    n_bytes: int
    n_rows: int  # values that come out, of all experts
    n_expert: int = 1  # matrices in the stack
    n_used: int = 1  # of these, for one token
    is_head: bool = False  # multiplied for one token of a prompt only
    kind: str = ""  # its role, as GGUF calls it
    type: str = ""  # a ggml type's name; of ONNX as `kernel`

    @property
    def share(self) -> float:
        """The part of it that one token needs."""
        return self.n_used / self.n_expert


@dataclass(frozen=True)
class Build:
    """A model in one type."""

    type: str  # as --quant has it; of a file that is there, what it says
    engine: str  # "llamacpp" | "onnxruntime"
    file_bytes: int
    exact: bool  # to the byte; else all but the vocabulary
    matrices: tuple[Matrix, ...] = field(repr=False)
    numbers: Numbers
    planned: Planned | None = field(default=None, repr=False)  # llama.cpp's
    kv_value_bytes: float = 4.0  # ONNX Runtime's
    needs_imatrix: bool = False
    fallbacks: int = 0  # matrices whose rows do not fit the type that the recipe wanted
    path: Path | None = None  # of a model that is there

    @property
    def weight_bytes(self) -> int:
        """Bytes of all matrices."""
        return sum(matrix.n_bytes for matrix in self.matrices)

    @property
    def bytes_per_token(self) -> float:
        """Of weights, read to decode one token."""
        return sum(matrix.n_bytes * matrix.share for matrix in self.matrices)

    @property
    def operations_per_token(self) -> float:
        """Of a prompt's token: a multiplication and an addition for each weight, the head apart."""
        return 2.0 * sum(m.n_weights * m.share for m in self.matrices if not m.is_head)


@dataclass(frozen=True)
class Subject:
    """A checkpoint that could be converted, or a model that is."""

    name: str
    types: Mapping[str, Build]
    refused: Mapping[str, str] = field(default_factory=dict)  # type -> why it cannot be made


#: What is looked at when no type is named: the usual ones, that need no importance matrix.
USUAL: tuple[str, ...] = (
    *(
        "F16",
        "Q8_0",
        "Q6_K",
        "Q5_K_M",
        "Q5_0",
        "Q4_K_M",
        "Q4_K_S",
        "IQ4_NL",
        "Q4_0",
        "IQ4_XS",
        "Q3_K_M",
        "Q2_K",
    ),
    *("onnx-int8", "onnx-w8a8", "onnx-int4"),
)


def numbers_of(metadata: Mapping[str, Any], architecture: str, n_vocab: int, n_attention: int) -> Numbers:
    """From GGUF's keys."""

    def key(name: str, default: int = 0) -> int:
        return int(metadata.get(f"{architecture}.{name}", default))

    n_embd, n_head = key("embedding_length"), key("attention.head_count", 1)
    return Numbers(
        n_layer=key("block_count", 1) - key("nextn_predict_layers"),
        n_attention=n_attention,
        n_embd=n_embd,
        n_head=n_head,
        n_head_kv=key("attention.head_count_kv", n_head),
        head_dim=key("attention.key_length", n_embd // max(n_head, 1)),
        n_vocab=n_vocab,
        n_ctx_train=key("context_length"),
        n_expert=key("expert_count"),
        n_expert_used=key("expert_used_count"),
    )


def chosen(types: Sequence[str] | None) -> tuple[str, ...]:
    """The canonical names asked for: None the usual ones, "all" every one. Raises UsageError."""
    from edgellm.convert.gguf.recipes import OWN, RECIPES, canonical
    from edgellm.convert.onnx import is_onnx
    from edgellm.convert.onnx.options import QUANTS, OnnxOptions, recipe

    if types is None:
        return USUAL
    if [name.lower() for name in types] == ["all"]:
        return (*RECIPES, *OWN, *QUANTS)
    names = (recipe(n, OnnxOptions()).name if is_onnx(n) else canonical(n) for n in types)
    return tuple(dict.fromkeys(names))
