"""Folders as strangers may hand them over: damaged manifests, graphs that point outside, other programs' folders."""

import json
import shutil

import pytest
from json_fuzz import WRONG, changed, places

from edgellm import backends
from edgellm.convert.onnx import proto
from edgellm.convert.onnx.writer import OnnxRequest, convert_onnx
from edgellm.errors import ArtifactError
from edgellm.formats import onnx_folder
from edgellm.formats.artifact import Artifact
from edgellm.models import bundled


def graph(location: str = "model.onnx.data") -> bytes:
    tensor = proto.external_tensor("w", proto.DataType.FLOAT, (4,), location, 0, 16)
    inline = proto.tensor("v", proto.DataType.FLOAT, (1,), b"\0" * 4)
    return proto.model("g", [], [inline, tensor], [], [], {"key": "value"}, ("test", "1"))


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A folder of ours, which holds the descriptions of all makers."""
    output = tmp_path_factory.mktemp("converted") / "tiny"
    return convert_onnx(OnnxRequest(bundled.path("tiny-qwen3"), "onnx-int4", output)).path


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
@pytest.mark.fault(7)
def test_weights_outside_the_folder_are_refused(folder, location):
    (folder / "model.onnx").write_bytes(graph(location))
    with pytest.raises(ArtifactError, match=r"outside the folder"):
        Artifact.open(folder)


@pytest.mark.parametrize("name", ["../model.onnx", "/model.onnx", 7])
@pytest.mark.fault(7)
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


@pytest.mark.wide
@pytest.mark.parametrize(
    "name", ["edgellm.json", "genai_config.json", "config.json", "tokenizer_config.json"]
)
def test_a_value_of_any_wrong_type_is_one_line(converted, tmp_path, name):
    """Every field of every description, with each of many values, for folders of all three makers."""
    folder = tmp_path / "folder"
    shutil.copytree(converted, folder)
    for other in {"edgellm.json": (), "genai_config.json": ("edgellm.json",)}.get(
        name, ("edgellm.json", "genai_config.json")
    ):
        (folder / other).unlink()
    (folder / "model.onnx").write_bytes(graph())  # a smaller one is read faster
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": tokenizer["added_tokens"][-6:]}))
    good = json.loads((folder / name).read_text())
    for many in ("added_tokens_decoder", "files"):  # two of a kind do
        good |= {many: dict([*good[many].items()][:2])} if many in good else {}
    Artifact.open(folder)
    refused = []
    for place in places(good):
        for value in WRONG:
            (folder / name).write_text(json.dumps(changed(good, place, value)))
            try:
                artifact = Artifact.open(folder)
                assert 0 < artifact.n_ctx_train < 1 << 31 and isinstance(artifact.chat_template, str | None)
                f"{artifact.name} {artifact.metadata}".encode()
            except ArtifactError as error:
                assert "\n" not in str(error) and str(folder) in str(error)
                refused.append(place)
    assert len(refused) > {"tokenizer_config.json": 10}.get(name, 60)


def test_added_tokens_of_any_wrong_type_are_one_line(converted, tmp_path):
    folder = tmp_path / "folder"
    shutil.copytree(converted, folder)
    for name in ("edgellm.json", "genai_config.json"):
        (folder / name).unlink()
    good = json.loads((folder / "tokenizer.json").read_text())
    good["added_tokens"] = good["added_tokens"][:2]
    small = {"added_tokens": good["added_tokens"], "post_processor": {"type": "x"}}
    for place in places(small):
        for value in WRONG:
            (folder / "tokenizer.json").write_text(json.dumps(changed(small, place, value)))
            try:
                Artifact.open(folder)
            except ArtifactError as error:
                assert "\n" not in str(error)


def test_links_within_the_folder_and_of_the_hubs_cache_are_followed(converted, tmp_path):
    inside, blobs = tmp_path / "inside", tmp_path / "models--a--b" / "blobs"
    snapshot = blobs.parent / "snapshots" / "1"
    shutil.copytree(converted, inside)
    (inside / "blobs").mkdir()
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for file in sorted(converted.iterdir()):
        (inside / file.name).replace(inside / "blobs" / file.name)
        (inside / file.name).symlink_to(f"blobs/{file.name}")
        shutil.copy(file, blobs / file.name)
        (snapshot / file.name).symlink_to(f"../../blobs/{file.name}")
    (tmp_path / "alias").symlink_to(inside)
    for folder in (inside, snapshot, tmp_path / "alias"):
        with backends.open_session(Artifact.open(folder)) as session:
            assert session.eval([1]).size


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "edgellm.json", "tokenizer.json"])
@pytest.mark.fault(7)
def test_links_out_of_the_folder_are_refused_by_name(converted, tmp_path, name):
    folder = tmp_path / "folder"
    shutil.copytree(converted, folder)
    (folder / name).replace(tmp_path / "secret")
    (folder / name).symlink_to(tmp_path / "secret")
    with pytest.raises(ArtifactError, match=rf"{name} is a link to .*secret, outside the folder"):
        Artifact.open(folder)


@pytest.mark.parametrize("name", ["Qwen3ForSequenceClassification", "LlamaForTokenClassification"])
def test_another_programs_classifier_is_refused_by_name(tmp_path, name):
    (tmp_path / "model.onnx").write_bytes(graph())
    config = {"architectures": [name], "max_position_embeddings": 64, "vocab_size": 8}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArtifactError, match=f"holds a {name}"):
        Artifact.open(tmp_path)
