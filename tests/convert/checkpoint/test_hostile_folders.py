"""Checkpoint folders with something missing, cut, foreign or hostile: one line each, and nothing read outside."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensor_files import write_json, write_raw_safetensors, write_safetensors
from tinymodels import CASES, hashed, variant, write

from edgellm.convert.checkpoint.folder import INDEX, MAX_JSON_BYTES, Checkpoint, find_file, read_json
from edgellm.convert.checkpoint.tokenizer import read_tokenizer
from edgellm.errors import CheckpointError


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        Checkpoint.open(folder).close()
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good checkpoint in three shards."""
    return write(variant("qwen2", n_shards=3), tmp_path / "model", tokenizer=False)


SHARD = "model-00002-of-00003.safetensors"


def change_index(folder: Path, **changes: Any) -> None:
    """Point tensors at other files; None unlists a tensor."""
    index = json.loads((folder / INDEX).read_text())
    weight_map = index["weight_map"] | changes
    index["weight_map"] = {name: file for name, file in weight_map.items() if file is not None}
    write_json(folder / INDEX, index)


def test_the_good_one_opens(folder: Path) -> None:
    with Checkpoint.open(folder) as checkpoint:
        assert len(checkpoint.shards) == 3


def test_a_missing_folder_or_config_says_what_to_give(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "none")
    (tmp_path / "file").write_text("x")
    assert "is a file" in refusal(tmp_path / "file")
    assert "no config.json" in refusal(tmp_path)


def test_missing_weights_say_what_to_download(folder: Path) -> None:
    (folder / SHARD).unlink()
    assert f"lacks the shard '{SHARD}'" in refusal(folder)
    (folder / INDEX).unlink()
    assert "no model.safetensors and no model.safetensors.index.json" in refusal(folder)


@pytest.mark.parametrize("kept", [0, 5, 8, 100, 2000, -1])
def test_a_cut_shard_is_refused(folder: Path, kept: int) -> None:
    path = folder / SHARD
    path.write_bytes(path.read_bytes()[:kept])
    assert SHARD in refusal(folder) and "download it again" in refusal(folder)


def test_index_and_shards_must_agree(folder: Path) -> None:
    change_index(folder, ghost=SHARD)
    assert f"{SHARD} does not hold tensor 'ghost'" in refusal(folder)
    change_index(folder, ghost=None)
    name = "model.layers.0.mlp.up_proj.weight"
    where = json.loads((folder / INDEX).read_text())["weight_map"][name]
    change_index(folder, **{name: None})
    assert f"{where} holds, but the index does not list there, tensor '{name}'" in refusal(folder)
    change_index(folder, **{name: "model-00003-of-00003.safetensors"})
    assert name in refusal(folder)


@pytest.mark.parametrize("index", [{}, {"weight_map": []}, {"weight_map": {}}, {"weight_map": "x"}])
def test_an_index_without_a_map_is_refused(folder: Path, index: object) -> None:
    write_json(folder / INDEX, index)
    assert "no weight_map" in refusal(folder)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"a": 1} x'])
@pytest.mark.parametrize("name", ["config.json", INDEX, "generation_config.json"])
def test_broken_json_is_refused_by_name(folder: Path, name: str, text: bytes) -> None:
    (folder / name).write_bytes(text)
    assert name in refusal(folder)


def test_huge_json_is_not_parsed(folder: Path) -> None:
    with (folder / "config.json").open("r+b") as file:
        file.truncate(MAX_JSON_BYTES + 2)
    assert "larger than" in refusal(folder)


ESCAPES = (
    "../outside.safetensors", "..", ".", "", "/etc/passwd", "sub/x.safetensors", "a/../../outside.safetensors",
    "..\\outside.safetensors", "C:\\x.safetensors", "./x.safetensors", "x.safetensors/", "//x", "~/x/y",
)  # fmt: skip


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.fault(7)
def test_names_that_lead_out_of_the_folder_are_refused(folder: Path, name: str) -> None:
    write_safetensors(folder.parent / "outside.safetensors", {"a": ("F32", hashed("a", (4,), 1))})
    change_index(folder, a=name)
    assert "lead out of" in refusal(folder)
    with pytest.raises(CheckpointError, match="lead out of"):
        find_file(folder, name)


@pytest.mark.parametrize("name", ["x\0y", "\ud800", "n" * 5000, "model.bin", "-rf", "$(id)"])
@pytest.mark.fault(7)
def test_odd_names_are_merely_missing(folder: Path, name: str) -> None:
    change_index(folder, a=name)
    message = refusal(folder)
    assert "lacks the shard" in message
    message.encode()  # printable: no half surrogate comes through


def test_a_shard_must_be_safetensors(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(b"\x80\x04.")
    change_index(folder, a="weights.bin")
    assert "not a .safetensors file" in refusal(folder)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", INDEX, SHARD])
@pytest.mark.fault(7)
def test_links_out_of_the_folder_are_refused(folder: Path, name: str) -> None:
    target = folder.parent / "elsewhere"
    path = folder / name
    target.write_bytes(path.read_bytes() if path.exists() else b"{}")
    path.unlink(missing_ok=True)
    path.symlink_to(target)
    assert f"{name} is a link to {target}, outside" in refusal(folder)
    path.unlink()
    path.symlink_to("../elsewhere")
    assert "outside" in refusal(folder)


def test_links_within_the_folder_are_followed(folder: Path) -> None:
    (folder / SHARD).rename(folder / "real")
    (folder / SHARD).symlink_to("real")
    (folder.parent / "alias").symlink_to(folder)  # and the folder itself may be one
    Checkpoint.open(folder).close()
    Checkpoint.open(folder.parent / "alias").close()


def test_broken_links_pipes_and_folders_are_refused(folder: Path) -> None:
    path = folder / SHARD
    path.unlink()
    path.symlink_to("nothing")
    assert "broken link" in refusal(folder)
    path.unlink()
    os.mkfifo(path)
    assert "no regular file" in refusal(folder)
    path.unlink()
    path.mkdir()
    assert "no regular file" in refusal(folder)


def hub_snapshot(cache: Path, repository: str) -> tuple[Path, Path]:
    """A checkpoint as huggingface_hub lays it out: links in snapshots/, files in blobs/."""
    blobs, snapshot = cache / repository / "blobs", cache / repository / "snapshots" / "0123abcd"
    blobs.mkdir(parents=True)
    for path in write(CASES["qwen3"], snapshot, tokenizer=False).iterdir():
        path.rename(blobs / path.name)
        path.symlink_to(f"../../blobs/{path.name}")
    return snapshot, blobs


def test_a_hub_cache_snapshot_is_read_through_its_links(tmp_path: Path) -> None:
    snapshot, _ = hub_snapshot(tmp_path, "models--org--name")
    with Checkpoint.open(snapshot) as checkpoint:
        assert np.isfinite(checkpoint.tensors["model.norm.weight"].rows(0, 1)).all()


@pytest.mark.fault(7)
def test_a_snapshot_may_link_to_its_own_blobs_only(tmp_path: Path) -> None:
    snapshot, _ = hub_snapshot(tmp_path, "models--org--name")
    _, other = hub_snapshot(tmp_path, "models--org--other")
    path = snapshot / "model.safetensors"
    for target in (other / path.name, tmp_path / "models--org--name" / "refs"):
        path.unlink()
        target.touch()
        path.symlink_to(target)
        assert "outside" in refusal(snapshot)


@pytest.mark.fault(7)
def test_a_folder_that_only_looks_like_a_snapshot_gets_no_leave(tmp_path: Path) -> None:
    snapshot, _ = hub_snapshot(tmp_path, "notmodels--org--name")
    assert "outside" in refusal(snapshot)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth", "model.ckpt"])
@pytest.mark.fault(6)
def test_pickles_are_never_opened(tmp_path: Path, name: str) -> None:
    """The pickle would make a file if anything unpickled it."""
    write_json(tmp_path / "config.json", {"architectures": ["LlamaForCausalLM"]})
    proof = tmp_path / "proof"
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'touch %s'\ntR." % os.fsencode(proof))
    message = refusal(tmp_path)
    assert name in message and "save_pretrained" in message
    assert not proof.exists()


@pytest.mark.fault(6)
def test_code_beside_a_checkpoint_is_never_run(folder: Path) -> None:
    proof = folder / "proof"
    (folder / "modeling_x.py").write_text(f"open({str(proof)!r}, 'w')")
    settings = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", settings | {"auto_map": {"AutoModelForCausalLM": "modeling_x.X"}})
    Checkpoint.open(folder).close()
    assert not proof.exists()


@pytest.mark.parametrize("dtype", ["F8_E4M3", "I8", "U8", "I32", "F64", "BOOL"])
def test_other_dtypes_are_refused_by_name(tmp_path: Path, dtype: str) -> None:
    size = {"F8_E4M3": 1, "I8": 1, "U8": 1, "BOOL": 1, "I32": 4, "F64": 8}[dtype]
    header = {"model.w": {"dtype": dtype, "shape": [4, 4], "data_offsets": [0, 16 * size]}}
    write_raw_safetensors(tmp_path / "model.safetensors", json.dumps(header).encode(), bytes(16 * size))
    write_json(tmp_path / "config.json", {})
    message = refusal(tmp_path)
    assert (
        f"'model.w' in {tmp_path / 'model.safetensors'} is {dtype}" in message and "not quantized" in message
    )


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1, 1, 1, 1)])
def test_shapes_no_weight_has_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    write_safetensors(tmp_path / "model.safetensors", {"w": ("F32", hashed("w", shape, 1))})
    write_json(tmp_path / "config.json", {})
    assert f"shape {list(shape)}" in refusal(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_files_are_refused_by_name(folder: Path) -> None:
    (folder / SHARD).chmod(0)
    assert SHARD in refusal(folder)
    (folder / "config.json").chmod(0)
    assert "config.json" in refusal(folder)


def test_a_refusal_leaves_no_file_open(folder: Path) -> None:
    (folder / "model-00003-of-00003.safetensors").write_bytes(b"")
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    for _ in range(5):
        refusal(folder)
    again = os.open(os.devnull, os.O_RDONLY)  # the lowest free number, taken again unless one leaked
    os.close(again)
    assert again == lowest


def test_json_of_the_largest_size_is_read_and_one_byte_more_is_not(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text('{"a": 1}')
    monkeypatch.setattr("edgellm.convert.checkpoint.folder.MAX_JSON_BYTES", 8)
    assert read_json(tmp_path, "config.json") == {"a": 1}
    monkeypatch.setattr("edgellm.convert.checkpoint.folder.MAX_JSON_BYTES", 7)
    with pytest.raises(CheckpointError, match="larger than 7 bytes"):
        read_json(tmp_path, "config.json")


def test_a_template_that_is_not_utf8_is_one_line(tmp_path):
    source = write(CASES["qwen3"], tmp_path / "source")
    (source / "chat_template.jinja").write_bytes(b"caf\xe9")
    with pytest.raises(CheckpointError, match="cannot be read as UTF-8 text"):
        read_tokenizer(source, {}, {}, 300)
