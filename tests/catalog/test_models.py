"""What MODEL may be, and where conversions are kept."""

import pytest

from edgellm.catalog import models
from edgellm.errors import ArtifactError, CheckpointError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path / "cache"))


def test_a_bundled_name_is_a_checkpoint_to_convert():
    source = models.locate("tiny-qwen3")
    assert source.is_checkpoint and (source.path / "model.safetensors").exists()
    assert source.quant == "Q8_0"
    assert source.kept.name == "tiny-qwen3-Q8_0.gguf"


def test_a_type_may_be_named_after_a_colon():
    assert models.locate("tiny-llama3:Q4_0").quant == "Q4_0"


def test_a_file_wins_over_a_bundled_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny-qwen3").write_bytes(b"")
    assert not models.locate("tiny-qwen3").is_checkpoint


def test_a_changed_checkpoint_is_another_conversion(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    before = models.locate(str(folder)).kept
    (folder / "config.json").write_text("{ }")
    assert models.locate(str(folder)).kept != before


def test_nonsense_names_what_there_is():
    with pytest.raises(ArtifactError, match="bundled are: tiny-llama3, tiny-qwen3, tiny-qwen35"):
        models.locate("tiny-gpt")


def test_a_model_file_is_no_checkpoint(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"")
    with pytest.raises(CheckpointError, match="not a checkpoint folder"):
        models.checkpoint_folder(str(tmp_path / "m.gguf"))


def test_kept_conversions_are_listed_by_name():
    path = models.locate("tiny-qwen3").kept
    path.parent.mkdir()
    path.write_bytes(b"12345")
    assert [(k.name, k.size_bytes) for k in models.kept()] == [("tiny-qwen3-Q8_0", 5)]
