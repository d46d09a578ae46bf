"""A model whose output projection is cut down to the rows of a few tokens: what llama.cpp ranks documents with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgellm.models.base import ModelSpec, Role, Source, TensorSpec


def with_classifier(spec: ModelSpec, rows: Sequence[int]) -> ModelSpec:
    """`spec` with these rows of its output projection as `cls.output`, [len(rows), n_embd], and none of the others.

    As llama.cpp's converter makes a reranker: a matrix of its own goes, one shared with the embedding stays there.
    """
    head = spec.tensor(Role.OUTPUT) or spec.tensor(Role.TOKEN_EMBD)
    assert head is not None
    sources = tuple(Source(head.sources[0].name, row, row + 1) for row in rows)
    classifier = TensorSpec(Role.CLS_OUT, None, "weight", sources, (len(rows), spec.n_embd))
    kept = tuple(tensor for tensor in spec.tensors if tensor.role is not Role.OUTPUT)
    return replace(spec, tied=True, tensors=(*kept, classifier))
