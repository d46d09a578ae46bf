"""A model that ends in a classifier of two rows, yes and no: what llama.cpp ranks documents with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgellm.errors import CheckpointError
from edgellm.models.base import ModelSpec, Role, Source, TensorSpec
from edgellm.models.layout import Shapes

SCORE = "score.weight"  # of transformers' ...ForSequenceClassification


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


def without_score(shapes: Shapes) -> Shapes:
    """The shapes of the model that a row of scores is put on."""
    return {name: shape for name, shape in shapes.items() if name != SCORE}


def with_score(spec: ModelSpec, shapes: Shapes) -> ModelSpec:
    """`spec` with a row of scores as the first of two rows, the other zeros: `score.weight`, read so (ScoreTensor).

    llama.cpp computes a softmax over a Qwen3's labels, and softmax((s, 0)) is the sigmoid of s, which
    sentence-transformers takes of one label's score. Raises CheckpointError for any other number of labels.
    """
    found = shapes.get(SCORE)
    if found != (1, spec.n_embd):
        what = "no score.weight" if found is None else f"a score.weight of shape {list(found)}"
        raise CheckpointError(
            f"the checkpoint has {what}: of classifiers only rerankers are converted, which have one label "
            f"([1, {spec.n_embd}])"
        )
    sources = (Source(SCORE, 0, 2),)
    classifier = TensorSpec(Role.CLS_OUT, None, "weight", sources, (2, spec.n_embd))
    return replace(spec, tensors=(*spec.tensors, classifier))


def without_classifier(spec: ModelSpec) -> ModelSpec:
    """`spec` as a model that only reads and writes."""
    return replace(spec, tensors=tuple(t for t in spec.tensors if t.role is not Role.CLS_OUT))
