"""LoRA adapters against PEFT: merged in both formats, put on at run time, read by the proof, refused by name.

The authority is peft with transformers: tests/golden/adapters holds the logits of the adapter beside the weights
(tests/golden/make_adapter_logits.py).
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import tensor_files
import tinyadapters
import tinymodels
from click.testing import CliRunner
from golden.make_adapter_logits import POSITIONS, TOKENS, peft_logits
from places import GOLDEN
from tinyadapters import ADAPTERS, TinyAdapter

import edgellm
from edgellm import backends
from edgellm.catalog import conversion
from edgellm.cli import convert as cli_convert
from edgellm.convert.checkpoint import adapter as reading
from edgellm.convert.gguf.adapter import AdapterRequest
from edgellm.convert.gguf.convert import ConvertRequest, convert
from edgellm.convert.onnx.writer import OnnxRequest, convert_onnx
from edgellm.convert.verify.gguf import ENGINE
from edgellm.convert.verify.original import Original
from edgellm.errors import (
    ArtifactError,
    CheckFailedError,
    CheckpointError,
    EdgellmError,
    EngineError,
    UsageError,
)
from edgellm.formats.artifact import Artifact
from edgellm.formats.gguf.adapter import open_lora, parse
from edgellm.models.reference import logits
from edgellm.models.registry import spec_of

Array = tensor_files.Array
ENGINE_ERROR = 2e-5  # of the largest logit; measured 4e-6 at most, and above 0.5 without the adapter
WHOLE = [name for name, adapter in ADAPTERS.items() if adapter.saved or "tied" in name]
AT_RUN_TIME = [name for name, adapter in ADAPTERS.items() if name not in WHOLE]


def golden(name: str) -> Array:
    found: Array = np.load(GOLDEN / "adapters" / f"{name}.npy")
    return found


def error(found: Array, expected: Array) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def folders(adapter: TinyAdapter, place: Path) -> tuple[Path, Path]:
    base = tinymodels.write(adapter.base, place / "base")
    return base, tinyadapters.write(adapter, place / "adapter", str(base))


def run(path: Path, **options: Any) -> Array:
    """The engine's logits at the golden positions."""
    with backends.open_session(Artifact.open(path), replace(ENGINE, **options)) as session:
        return np.array(session.eval_all(TOKENS)[POSITIONS])


def command(*arguments: object) -> Any:
    return CliRunner().invoke(cli_convert.command, list(map(str, arguments)))


@pytest.mark.parametrize("name", ADAPTERS)
def test_both_readings_are_pefts(name: str, tmp_path: Path) -> None:
    base, folder = folders(ADAPTERS[name], tmp_path)
    with reading.open_checkpoint(base, folder) as checkpoint:
        spec = spec_of(checkpoint.config, checkpoint.shapes)
        assert error(logits(spec, checkpoint.tensors, TOKENS)[POSITIONS], golden(name)) <= 1e-5
    with Original.open(base, folder) as original:
        assert error(original.logits(TOKENS)[POSITIONS], golden(name)) <= 1e-5
    with Original.open(base) as original:
        assert error(original.logits(TOKENS)[POSITIONS], golden(name)) > 0.1


@pytest.mark.parametrize("name", ADAPTERS)
def test_merged_gguf_files_compute_what_peft_does(name: str, tmp_path: Path) -> None:
    base, folder = folders(ADAPTERS[name], tmp_path)
    done = conversion.run(ConvertRequest(base, "F32", tmp_path / "out.gguf", lora=folder))
    assert error(run(done.artifact.path), golden(name)) <= ENGINE_ERROR
    recorded = json.loads(done.artifact.provenance["edgellm.recipe"])["lora"]
    assert recorded["r"] == ADAPTERS[name].r and recorded["name"] == "adapter"
    hashes = json.loads(done.artifact.provenance["edgellm.source"])
    assert {"adapter_model.safetensors", "adapter_config.json"} <= hashes.keys()
    assert "0" * 64 not in hashes.values()


@pytest.mark.parametrize("name", ["llama", "qwen2-embedding", "qwen2moe-attention", *WHOLE])
def test_merged_onnx_folders_compute_what_peft_does(name: str, tmp_path: Path) -> None:
    base, folder = folders(ADAPTERS[name], tmp_path)
    done = conversion.run_onnx(OnnxRequest(base, "onnx-fp32", tmp_path / "out", lora=folder))
    assert (
        error(run(done.artifact.path, flash_attn="auto", type_k=None, type_v=None), golden(name))
        <= ENGINE_ERROR
    )
    manifest = json.loads((done.artifact.path / "edgellm.json").read_text())
    assert manifest["recipe"]["lora"]["r"] == ADAPTERS[name].r
    assert "adapter_model.safetensors" in manifest["source"]


@pytest.mark.parametrize(
    ("name", "quant"),
    [*((name, "F32") for name in AT_RUN_TIME), ("llama", "F16"), ("qwen2-embedding", "F16")],
)
def test_an_adapter_at_run_time_computes_what_peft_does(name: str, quant: str, tmp_path: Path) -> None:
    base, folder = folders(ADAPTERS[name], tmp_path)
    plain = convert(ConvertRequest(base, "F32", tmp_path / "plain.gguf")).path
    file = conversion.run_adapter(AdapterRequest(folder, base, tmp_path / "lora.gguf", quant))
    found = run(plain, lora=(open_lora(file),))
    assert error(found, golden(name)) <= (ENGINE_ERROR if quant == "F32" else 1e-2)
    assert error(run(plain), golden(name)) > 0.1
    assert error(run(plain, lora=(open_lora(file, 0.0),)), run(plain)) <= 1e-6


def test_at_run_time_equals_merged(tmp_path: Path) -> None:
    base, folder = folders(ADAPTERS["llama"], tmp_path)
    plain = convert(ConvertRequest(base, "F32", tmp_path / "plain.gguf")).path
    merged = conversion.run(ConvertRequest(base, "F32", tmp_path / "m.gguf", lora=folder)).artifact.path
    file = conversion.run_adapter(AdapterRequest(folder, base, tmp_path / "lora.gguf"))
    assert error(run(plain, lora=(open_lora(file),)), run(merged)) <= 1e-4


def test_of_a_hybrid_at_run_time_equals_merged(tmp_path: Path) -> None:
    base, folder = folders(tinyadapters.HYBRID, tmp_path)
    plain = convert(ConvertRequest(base, "F32", tmp_path / "plain.gguf")).path
    merged = conversion.run(ConvertRequest(base, "F32", tmp_path / "m.gguf", lora=folder)).artifact.path
    file = conversion.run_adapter(AdapterRequest(folder, base, tmp_path / "lora.gguf"))
    assert len(gguf.GGUFReader(file).tensors) == 2 * (2 * 5 + 2 * 4 + 4)
    with Original.open(base, folder) as original:
        expected = original.logits(TOKENS)[POSITIONS]
    assert error(run(merged), expected) <= ENGINE_ERROR
    assert error(run(plain, lora=(open_lora(file),)), expected) <= ENGINE_ERROR
    assert error(run(plain), expected) > 0.1


def test_scales_and_several_adapters_add_up(tmp_path: Path) -> None:
    adapter = ADAPTERS["qwen2-256"]
    base, folder = folders(adapter, tmp_path)
    plain = convert(ConvertRequest(base, "F32", tmp_path / "plain.gguf")).path
    file = conversion.run_adapter(AdapterRequest(folder, base, tmp_path / "lora.gguf"))
    twin = tmp_path / "twin.gguf"
    twin.write_bytes(file.read_bytes())
    halves = (open_lora(file, 0.5), open_lora(twin, 0.5))
    assert error(run(plain, lora=halves), golden("qwen2-256")) <= ENGINE_ERROR
    doubled = replace(adapter, changes={"lora_alpha": 2 * adapter.alpha})
    with Original.open(base, tinyadapters.write(doubled, tmp_path / "doubled")) as original:
        expected = original.logits(TOKENS)[POSITIONS]
    assert error(run(plain, lora=(open_lora(file, 2.0),)), expected) <= ENGINE_ERROR


def test_the_file_is_llama_cpps_format(tmp_path: Path) -> None:
    """Read with gguf-py; names, shapes and keys as src/llama-adapter.cpp asks for them."""
    base, folder = folders(ADAPTERS["qwen2-embedding"], tmp_path)
    file = conversion.run_adapter(AdapterRequest(folder, base, tmp_path / "lora.gguf", "F16"))
    found = gguf.GGUFReader(file)
    text = {
        key: found.fields[key].contents() for key in ("general.type", "adapter.type", "general.architecture")
    }
    assert text == {"general.type": "adapter", "adapter.type": "lora", "general.architecture": "qwen2"}
    assert found.fields[gguf.Keys.Adapter.LORA_ALPHA].contents() == 8.0
    shapes = {tensor.name: tuple(tensor.shape) for tensor in found.tensors}
    assert shapes["token_embd.weight.lora_a"] == (3, 320) and shapes["token_embd.weight.lora_b"] == (3, 64)
    assert shapes["blk.1.ffn_up.weight.lora_a"] == (64, 3) and shapes["blk.1.ffn_up.weight.lora_b"] == (3, 96)
    assert shapes["output.weight.lora_b"] == (3, 320) and len(shapes) == 2 * (2 + 2)


def test_an_adapter_is_kept_by_a_quantized_model_and_an_isolated_engine(tmp_path: Path) -> None:
    base, folder = folders(ADAPTERS["qwen2-256"], tmp_path)
    plain = convert(ConvertRequest(base, "Q8_0", tmp_path / "plain.gguf")).path
    file = conversion.run_adapter(AdapterRequest(folder, base, tmp_path / "lora.gguf"))
    with edgellm.load(plain, lora=f"{file}:1.0", isolated=True, n_ctx=64) as model:
        found = np.array(model.session.eval_all(TOKENS)[POSITIONS])
        assert model.info.options.lora == (parse(str(file)),)
    assert error(found, golden("qwen2-256")) < 0.1
    with edgellm.load(plain, lora=[str(file)], n_ctx=64) as model:
        assert error(np.array(model.session.eval_all(TOKENS)[POSITIONS]), found) < 1e-2


def test_an_onnx_model_takes_none_at_run_time(tmp_path: Path) -> None:
    base, folder = folders(ADAPTERS["qwen2"], tmp_path)
    file = conversion.run_adapter(AdapterRequest(folder, base, tmp_path / "lora.gguf"))
    made = convert_onnx(OnnxRequest(base, "onnx-fp32", tmp_path / "out")).path
    with pytest.raises(UsageError, match="convert MODEL --lora FOLDER"):
        edgellm.load(made, lora=str(file))


def test_an_adapter_of_another_model_is_refused_in_one_line(tmp_path: Path) -> None:
    base, folder = folders(ADAPTERS["qwen2"], tmp_path)
    file = conversion.run_adapter(AdapterRequest(folder, base, tmp_path / "lora.gguf"))
    other = tinymodels.write(tinymodels.CASES["qwen2-256"], tmp_path / "other")
    plain = convert(ConvertRequest(other, "F32", tmp_path / "plain.gguf")).path
    with pytest.raises(EngineError, match="made for this very model") as caught:
        run(plain, lora=(open_lora(file),))
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match=r"shape \[64, 64\], but the model's has shape \[256, 256\]"):
        conversion.run(ConvertRequest(other, "F32", tmp_path / "out.gguf", lora=folder))
    with pytest.raises(CheckpointError, match="give the model it was trained on"):
        conversion.run_adapter(AdapterRequest(folder, other, tmp_path / "out.gguf"))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights"),
        ({"lora_bias": True}, "lora_bias"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication"),
        ({"trainable_token_indices": [1, 2]}, "trainable_token_indices"),
        ({"target_parameters": ["mlp.experts.down_proj"]}, "target_parameters"),
        ({"alora_invocation_tokens": [3]}, "alora_invocation_tokens"),
        ({"something_new": {"rank": 2}}, "something_new"),
        ({"r": 0}, "r is 0"),
        ({"r": 9}, "adapter_config.json says 9"),
        ({"lora_alpha": "8"}, "lora_alpha is '8'"),
        ({"rank_pattern": {"(a+)+": 4}}, "rank_pattern"),
        ({"alpha_pattern": {"(": 4}}, "no regular expression"),
        ({"rank_pattern": [4]}, "rank_pattern"),
    ],
)
def test_what_is_not_merged_is_refused_by_name(changes: dict[str, Any], named: str, tmp_path: Path) -> None:
    adapter = replace(ADAPTERS["qwen2"], changes=changes)
    base, folder = folders(adapter, tmp_path)
    with pytest.raises(CheckpointError) as caught:
        reading.open_checkpoint(base, folder)
    assert named in str(caught.value) and "\n" not in str(caught.value)


def test_broken_adapters_are_refused_by_name(tmp_path: Path) -> None:
    base, folder = folders(ADAPTERS["qwen2"], tmp_path)
    good = tinyadapters.tensors(ADAPTERS["qwen2"])
    first = next(iter(good))

    def refusal(values: dict[str, Array]) -> str:
        tensor_files.write_safetensors(
            folder / "adapter_model.safetensors", {name: ("F32", value) for name, value in values.items()}
        )
        with pytest.raises(CheckpointError) as caught:
            reading.open_checkpoint(base, folder)
        return str(caught.value)

    assert "no pair" in refusal({name: value for name, value in good.items() if name != first})
    assert "which the model does not have" in refusal(good | {"base_model.model.score.weight": good[first]})
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(b"pickle")
    with pytest.raises(CheckpointError, match="pickle files are not opened"):
        reading.open_checkpoint(base, folder)


@pytest.mark.parametrize("name", ["llama-saved", "qwen3-tied-embedding"])
def test_what_an_adapter_file_cannot_hold_names_the_remedy(name: str, tmp_path: Path) -> None:
    base, folder = folders(ADAPTERS[name], tmp_path)
    with pytest.raises(UsageError, match="MODEL --lora"):
        conversion.run_adapter(AdapterRequest(folder, base, tmp_path / "lora.gguf"))
    assert not (tmp_path / "lora.gguf").exists()


@pytest.mark.parametrize("quant", ["f16", "onnx-fp32"])
def test_a_folder_with_model_and_adapter_asks_what_to_do(quant: str, tmp_path: Path) -> None:
    base = tinymodels.write(ADAPTERS["qwen2"].base, tmp_path / "both")
    tinyadapters.write(ADAPTERS["qwen2"], base)
    out = tmp_path / "out.gguf"
    refused = command(base, "-q", quant, "-o", out)
    assert isinstance(refused.exception, CheckpointError)
    assert f"--lora {base}" in str(refused.exception) and "--no-lora" in str(refused.exception)
    assert not out.exists()
    assert isinstance(command(base, "--lora", base, "--no-lora").exception, UsageError)
    assert isinstance(command(base, "-q", "onnx-int8", "--exporter", "optimum").exception, UsageError)
    for flags, expected in ((("--no-lora",), False), (("--lora", base), True)):
        done = command(base, "-q", quant, "-o", out, "-f", *flags)
        assert done.exit_code == 0 and "verified" in done.stdout, done.output
        options = {} if quant == "f16" else {"type_k": None, "type_v": None, "flash_attn": "auto"}
        assert (error(run(out, **options), golden("qwen2")) < 0.02) is expected


@pytest.mark.parametrize("quant", ["f16", "onnx-fp32"])
def test_an_adapter_alone_finds_its_model_or_asks_for_it(quant: str, tmp_path: Path) -> None:
    base, folder = folders(ADAPTERS["qwen2"], tmp_path)
    done = command(folder, "-q", quant, "-o", tmp_path / "out")
    assert done.exit_code == 0 and "verified" in done.stdout, done.output
    done = command(folder, "--lora-gguf", "-o", tmp_path / "lora.gguf")
    assert done.exit_code == 0 and "adapter for" in done.stdout, done.output
    assert parse(f"{tmp_path / 'lora.gguf'}:0.5").scale == 0.5
    tinyadapters.write(ADAPTERS["qwen2"], folder, "somebody/not-here")
    for flags in (("-q", quant), ("--lora-gguf",)):
        asked = command(folder, *flags, "--offline", "-o", tmp_path / "new")
        assert isinstance(asked.exception, EdgellmError) and f"--lora {folder}" in str(asked.exception)
    done = command(base, "--lora", folder, "--lora-gguf", "-q", "f16", "-o", tmp_path / "given.gguf")
    assert done.exit_code == 0, done.output


def test_files_that_are_no_adapter_are_refused_before_the_engine(tmp_path: Path) -> None:
    base, folder = folders(ADAPTERS["qwen2"], tmp_path)
    plain = convert(ConvertRequest(base, "F32", tmp_path / "plain.gguf")).path
    file = conversion.run_adapter(AdapterRequest(folder, base, tmp_path / "lora.gguf"))
    with pytest.raises(ArtifactError, match=r"general\.type is 'model'"):
        parse(str(plain))
    with pytest.raises(ArtifactError, match=r"is a LoRA adapter, not a model: .*lora"):
        Artifact.open(file)
    with pytest.raises(UsageError, match="is a folder: make an adapter file"):
        parse(str(folder))
    with pytest.raises(ArtifactError, match="does not exist"):
        parse("nowhere.gguf:2")
    with pytest.raises(UsageError, match="no scale"):
        parse(f"{file}:nan")
    (tmp_path / "cut.gguf").write_bytes(file.read_bytes()[:-4096])
    with pytest.raises(EdgellmError):
        parse(str(tmp_path / "cut.gguf"))
    half = file.read_bytes().replace(b".lora_b", b".lora_c", 1)
    (tmp_path / "half.gguf").write_bytes(half)
    with pytest.raises(ArtifactError, match="lora_"):
        parse(str(tmp_path / "half.gguf"))


def test_the_proof_sees_a_wrong_adapter_file(tmp_path: Path) -> None:
    from edgellm.convert.verify.adapter_file import check_file

    base, folder = folders(ADAPTERS["llama"], tmp_path)
    file = conversion.run_adapter(AdapterRequest(folder, base, tmp_path / "lora.gguf"))
    assert check_file(file, base, folder) == "14 matrices match"
    other = tinyadapters.write(replace(ADAPTERS["llama"], alpha=17), tmp_path / "other")
    with pytest.raises(CheckFailedError, match=r"blk\.0\.attn_q\.weight differs"):
        check_file(file, base, other)
    fewer = tinyadapters.write(replace(ADAPTERS["llama"], targets=("q_proj",)), tmp_path / "fewer")
    with pytest.raises(CheckFailedError, match="in one of the two only"):
        check_file(file, base, fewer)


def test_the_proof_sees_an_adapter_that_was_lost(tmp_path: Path) -> None:
    """The converter leaves it out; the proof merges by its own reading and refuses."""
    from edgellm.convert.verify.gguf import verify
    from edgellm.convert.verify.onnx import verify_onnx

    base, folder = folders(ADAPTERS["qwen3-patterns"], tmp_path)
    plain = convert(ConvertRequest(base, "F32", tmp_path / "plain.gguf")).path
    with pytest.raises(CheckFailedError, match="attn_q"):
        verify(plain, base, backends.open_session, lora=folder)
    made = convert_onnx(OnnxRequest(base, "onnx-int8", tmp_path / "out")).path
    with pytest.raises(CheckFailedError, match="logits"):
        verify_onnx(made, base, backends.open_session, lora=folder)


def test_memory_does_not_grow_with_the_adapter(tmp_path: Path) -> None:
    """At most two factors are held whole, whatever their number."""
    base, folder = folders(ADAPTERS["llama"], tmp_path)
    with reading.open_checkpoint(base, folder) as checkpoint:
        merged = [t for t in checkpoint.tensors.values() if isinstance(t, reading.MergedTensor)]
        for tensor in merged:
            tensor.rows(0, 1)
        assert len(merged) == 14 and len(merged[0].delta.kept.held) == 2


@pytest.mark.transformers
@pytest.mark.parametrize("name", ADAPTERS)
def test_golden_logits_are_pefts(name: str, tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="peft is not installed")
    base, folder = folders(ADAPTERS[name], tmp_path)
    assert error(peft_logits(base, folder, TOKENS)[POSITIONS], golden(name)) <= 1e-5
