"""`edgellm doctor MODEL` says every setting a session would really be opened with, and where it comes from."""

import json

import pytest
import tiny_gguf
import tiny_hybrid
import tinymodels
from click.testing import CliRunner

from edgellm import backends
from edgellm.backends import tuned
from edgellm.cli import doctor
from edgellm.convert.onnx.writer import OnnxRequest, convert_onnx
from edgellm.doctor import model
from edgellm.formats.artifact import Artifact
from edgellm.session import EngineOptions


@pytest.fixture
def artifact(tmp_path, monkeypatch) -> Artifact:
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path))
    monkeypatch.delenv("EDGELLM_NO_TUNE", raising=False)
    return Artifact.open(tiny_gguf.write(tmp_path / "m.gguf", n_embd=256))


def findings(*arguments: str) -> dict[str, str]:
    result = CliRunner().invoke(doctor.command, [*arguments, "--json"], catch_exceptions=False)
    return {found["name"]: found["value"] for found in json.loads(result.stdout)}


def test_it_tells_what_a_session_opens_with(artifact):
    said = findings(str(artifact.path))
    with backends.open_session(artifact, EngineOptions(tuned=True)) as session:
        options = session.info.options
    assert said["threads"].startswith(f"{options.n_threads}: ")
    assert said["context"].startswith(f"{options.n_ctx} tokens: ")
    assert said["KV cache"].startswith(f"{options.type_k}/{options.type_v}, ")
    assert said["batch"].startswith(f"{options.n_batch}/{options.n_ubatch} tokens")
    assert said["device"].startswith(session.info.device)
    assert "available" in said["memory"]
    assert "edgellm tune" in said["tuning"]


def test_flags_and_tuned_settings_are_told_apart(artifact):
    record = tuned.Record("m", {"flash_attn": "off"}, "full", "2026-01-02T03:04:05+00:00")
    tuned.write(artifact, backends.build("gguf"), record)
    said = findings(str(artifact.path))
    assert said["flash attention"] == "off: found by tuning"
    assert said["tuning"] == "-fa off (full, 2026-01-02)"
    said = findings(str(artifact.path), "-fa", "on", "-c", "300", "--no-mmap", "--no-repack")
    assert said["flash attention"].startswith("on: ") and said["context"].startswith("300 tokens: asked for")
    assert said["mmap"].startswith("off") and said["repacking"].startswith("off")
    assert findings(str(artifact.path), "--no-tune")["flash attention"].startswith("auto: ")


def test_what_mapping_costs_is_said_of_each_way(artifact):
    """Only a mapped file that is also repacked lies in memory twice."""
    ways = {(True, False): "drop what is not in use", (True, True): "beside the copy", (False, True): "once"}
    for (use_mmap, repack), words in ways.items():
        said = model._mapping(EngineOptions(use_mmap=use_mmap, repack=repack))
        assert [other for other in ways.values() if other in said] == [words]
    assert ways[True, False] in findings(str(artifact.path), "--no-repack")["mmap"]


def test_an_onnx_model_is_explained_too(artifact, tmp_path):
    source = tinymodels.write(tinymodels.CASES["llama-256"], tmp_path / "source")
    folder = convert_onnx(OnnxRequest(source, "onnx-int4", tmp_path / "model", hash_sources=False)).path
    said = findings(str(folder))
    assert said["device"].startswith("cpu") and "usable" in said["threads"] and "available" in said["memory"]
    assert "recurrent state" not in said
    source = tinymodels.write(tinymodels.HYBRIDS["qwen35-256"], tmp_path / "hybrid")
    folder = convert_onnx(OnnxRequest(source, "onnx-int4", tmp_path / "states", hash_sources=False)).path
    assert findings(str(folder))["recurrent state"].startswith("143 kB, with up to 16 kept to go back to ")


def test_of_a_hybrid_it_tells_the_states_that_are_kept(artifact, tmp_path):
    hybrid = tiny_hybrid.Hybrid(n_layer=8, interval=4, n_rank=8, state=128, n_group=8)
    said = findings(str(tiny_hybrid.write(tmp_path / "h.gguf", hybrid)), "-c", "1024")
    layer = 3 * (8 * 128 + 2 * 8 * 128) + 128 * 8 * 128  # the convolution's last inputs, a matrix a head
    assert said["recurrent state"] == "3.37 MB, with up to 16 kept to go back to 60.6 MB"
    assert round(6 * layer * 4 / 1e6, 2) == 3.37
    assert said["KV cache"].split(": ")[0] == "f16/f16, 524 kB"  # two of eight layers attend
    assert "kept states 57" in said["memory"]


def test_without_a_model_it_lists_devices(artifact):
    result = CliRunner().invoke(doctor.command, ["--json"], catch_exceptions=False)
    rows = json.loads(result.stdout)
    assert {row["section"] for row in rows if row["name"] == "devices"} == {"llama.cpp", "ONNX Runtime"}


@pytest.mark.parametrize("type_", ["Q4_K_M", "onnx-int4"])
def test_a_checkpoint_is_foretold_and_not_converted(tmp_path, monkeypatch, type_):
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path))
    said = findings(f"tiny-qwen3:{type_}")
    assert said["state"].startswith("not converted yet") and f"--quant {type_}" in said["state"]
    assert not [*tmp_path.rglob("*.gguf"), *tmp_path.rglob("*.onnx")]
    assert " MB" in said["file"] and "2,048 tokens" in said["memory"]
