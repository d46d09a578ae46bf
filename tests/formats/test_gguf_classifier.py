"""Classifiers at the end of GGUF files: what the engine computes rightly opens, everything else is refused by name."""

from __future__ import annotations

import embedders
import gguf_edit
import numpy as np
import pytest
import tinymodels

from edgellm import backends
from edgellm.catalog import conversion
from edgellm.errors import ArtifactError
from edgellm.formats.artifact import Artifact
from edgellm.formats.gguf.reader import read_header
from edgellm.session import EngineOptions

OPTIONS = EngineOptions(n_ctx=64, n_threads=1)
LABELS = "qwen3.classifier.output_labels"


@pytest.fixture(scope="module")
def reranker(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reranker")
    return conversion.convert_checkpoint(
        embedders.write_reranker(folder / "source"), folder / "tiny.gguf", "F32"
    ).path


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    source = tinymodels.write(tinymodels.CASES["llama"], folder / "source")
    return conversion.convert_checkpoint(source, folder / "tiny.gguf", "F32").path


def _renamed(old: str, new: str):
    return lambda tensors: tensors.update({new: tensors.pop(old)})


def _with(name: str, rows: int, width: int):
    return lambda tensors: tensors.update({name: np.ones((rows, width), np.float32)})


@pytest.mark.parametrize(
    ("change", "keys", "fault"),
    [
        (lambda t: t.pop("cls.output.weight"), {}, "there is no cls.output.weight"),
        (_renamed("cls.output.weight", "score.weight"), {}, "'score.weight' is a classifier's"),
        (_with("cls.weight", 64, 64), {}, "'cls.weight' is a classifier's"),
        (None, {LABELS: ("arr[str]", ["yes", "no", "maybe"])}, "2x64, with 3 labels"),
        (None, {LABELS: ("arr[str]", ["yes"])}, "2x64, with 1 labels"),
        (None, {LABELS: None}, "with 0 labels"),
        (_with("cls.output.weight", 2, 32), {}, "2x32, with 2 labels"),
        (None, {"qwen3.pooling_type": ("u32", 5)}, "pooling_type is 5, outside 0 to 4"),
        (None, {"qwen3.pooling_type": ("str", "rank")}, "pooling_type is 'rank'"),
    ],
)
def test_a_classifier_that_the_engine_would_get_wrong_is_refused(reranker, tmp_path, change, keys, fault):
    path = gguf_edit.edited(reranker, tmp_path / "changed.gguf", change, keys)
    with pytest.raises(ArtifactError, match=fault):
        Artifact.open(path)


@pytest.mark.parametrize("name", ["cls.output.weight", "cls.weight", "score.weight"])
def test_a_llama_that_classifies_is_refused(llama, tmp_path, name):
    width = read_header(llama).get("llama.embedding_length")
    path = gguf_edit.edited(llama, tmp_path / "changed.gguf", _with(name, 2, width))
    with pytest.raises(
        ArtifactError, match=f"'{name}' is a classifier's, which the engine computes for qwen3"
    ):
        Artifact.open(path)


def test_other_labels_are_given_by_name(reranker, tmp_path):
    labels = ("arr[str]", ["good", "bad"])
    path = gguf_edit.edited(reranker, tmp_path / "changed.gguf", None, {LABELS: labels})
    with backends.open_session(Artifact.open(path), OPTIONS) as session:
        found = session.classify([1, 2, 3])
    assert set(found) == {"good", "bad"} and sum(found.values()) == pytest.approx(1)
