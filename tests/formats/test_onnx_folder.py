"""Folders as strangers may hand them over: damaged manifests, graphs that point outside, other programs' folders."""

import json

import pytest

from edgellm.convert.onnx import proto
from edgellm.errors import ArtifactError
from edgellm.formats import onnx_folder
from edgellm.formats.artifact import Artifact


def graph(location: str = "model.onnx.data") -> bytes:
    tensor = proto.external_tensor("w", proto.DataType.FLOAT, (4,), location, 0, 16)
    inline = proto.tensor("v", proto.DataType.FLOAT, (1,), b"\0" * 4)
    return proto.model("g", [], [inline, tensor], [], [], {"key": "value"}, ("test", "1"))


@pytest.fixture
def folder(tmp_path):
    """A genai folder: the least there is to a model."""
    (tmp_path / "model.onnx").write_bytes(graph())
    (tmp_path / "model.onnx.data").write_bytes(b"\0" * 16)
    decoder = {"filename": "model.onnx"}
    model = {"decoder": decoder, "type": "qwen2", "context_length": 64, "vocab_size": 8, "eos_token_id": [3]}
    config = {"model": model, "search": {"past_present_share_buffer": True}}
    (tmp_path / "genai_config.json").write_text(json.dumps(config))
    return tmp_path


def test_a_genai_folder_is_a_model(folder):
    artifact = Artifact.open(folder)
    assert (artifact.format, artifact.architecture, artifact.n_ctx_train) == ("onnx", "qwen2", 64)
    assert artifact.size_bytes == 16 + len(graph())
    assert artifact.stop_ids == {3}
    assert len(artifact.sha256) == 64


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../b", "C:\\w", ""])
def test_weights_outside_the_folder_are_refused(folder, location):
    (folder / "model.onnx").write_bytes(graph(location))
    with pytest.raises(ArtifactError, match=r"outside the folder"):
        Artifact.open(folder)


@pytest.mark.parametrize("name", ["../model.onnx", "/model.onnx", 7])
def test_a_graph_outside_the_folder_is_refused(folder, name):
    config = json.loads((folder / "genai_config.json").read_text())
    config["model"]["decoder"]["filename"] = name
    (folder / "genai_config.json").write_text(json.dumps(config))
    with pytest.raises(ArtifactError, match="outside the folder"):
        Artifact.open(folder)


def test_missing_weights_are_named(folder):
    (folder / "model.onnx.data").unlink()
    with pytest.raises(ArtifactError, match=r"lacks model\.onnx\.data"):
        Artifact.open(folder)


def test_every_truncation_of_a_graph_is_refused_or_read(folder):
    whole = graph()
    for size in range(1, len(whole)):
        (folder / "model.onnx").write_bytes(whole[:size])
        try:
            names = onnx_folder.external_files(folder / "model.onnx")
        except ArtifactError as error:
            assert "model.onnx" in str(error)
        else:
            assert names <= {"model.onnx.data"}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": "edgellm-onnx", "format_version": 9}'])
def test_a_damaged_manifest_is_refused(folder, text):
    (folder / "edgellm.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"edgellm\.json"):
        Artifact.open(folder)


def test_a_manifest_that_lacks_something_is_refused(folder):
    (folder / "edgellm.json").write_text('{"format": "edgellm-onnx", "format_version": 1, "tokenizer": {}}')
    with pytest.raises(ArtifactError, match="is damaged"):
        Artifact.open(folder)
