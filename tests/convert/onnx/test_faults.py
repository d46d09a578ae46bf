"""Faults planted in an ONNX conversion: each must be caught by the proof, and leave nothing behind."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensor_files
import tinymodels

from edgellm import backends
from edgellm.convert.onnx.writer import OnnxRequest, convert_onnx
from edgellm.convert.verify.onnx import verify_onnx
from edgellm.errors import CheckFailedError

Tensors = dict[str, np.ndarray]
_LAYER = "model.layers.1."


def source(folder: Path, name: str, change: Callable[[Tensors], None] = lambda _: None, **extra) -> Path:
    tiny = tinymodels.CASES[name]
    tinymodels.write(tiny, folder)
    for shard in folder.glob("*.safetensors*"):
        shard.unlink()
    values = tinymodels.tensors(tiny)
    change(values)
    tensor_files.write_shards(folder, {name: (tiny.dtype, value) for name, value in values.items()})
    for file, changes in extra.items():
        path = folder / f"{file}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def swap_q_and_k(values: Tensors) -> None:
    q, k = (f"{_LAYER}self_attn.{x}_proj.weight" for x in "qk")
    values[q], values[k] = values[k].copy(), values[q].copy()


def drop_bias(values: Tensors) -> None:
    values[f"{_LAYER}self_attn.v_proj.bias"][:] = 0


def transpose(values: Tensors) -> None:
    values[f"{_LAYER}self_attn.o_proj.weight"] = values[f"{_LAYER}self_attn.o_proj.weight"].T.copy()


@pytest.mark.parametrize("quant", ["onnx-fp32", "onnx-int8", "onnx-int4"])
@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3moe", "qwen2moe-stacked"])
def test_a_right_conversion_passes(name, quant, tmp_path):
    right = source(tmp_path / "right", name)
    verdicts = []

    def verify(folder: Path) -> str:
        verdicts.append(verify_onnx(folder, right, backends.open_session))
        return verdicts[0].text

    artifact = convert_onnx(OnnxRequest(right, quant, tmp_path / "out"), verify=verify)
    assert "texts and" in verdicts[0].text
    assert artifact.provenance["edgellm.verification"] == verdicts[0].text


FAULTS = {
    "Q and K swapped": ("qwen2-f16", swap_q_and_k, {}, "logits"),
    "a bias dropped": ("qwen2", drop_bias, {}, "logits"),
    "a matrix transposed": ("llama", transpose, {}, "logits"),
    "rope factors lost": ("llama", lambda _: None, {"config": {"rope_scaling": None}}, "logits"),
    "a wrong eos": ("llama", lambda _: None, {"generation_config": {"eos_token_id": 7}}, "stop ids"),
    "another template": (
        "llama",
        lambda _: None,
        {"tokenizer_config": {"chat_template": "{{ 1 }}"}},
        "template",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault, tmp_path):
    name, change, files, check = FAULTS[fault]
    right, wrong = source(tmp_path / "right", name), source(tmp_path / "wrong", name, change, **files)

    def verify(folder: Path) -> str:
        return verify_onnx(folder, right, backends.open_session).text

    with pytest.raises(CheckFailedError, match=f"the check of the .*{check}.* failed"):
        convert_onnx(OnnxRequest(wrong, "onnx-fp32", tmp_path / "out"), verify=verify)
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_that_lost_its_normalizer_is_caught(tmp_path):
    right = source(tmp_path / "right", "qwen2")
    wrong = shutil.copytree(right, tmp_path / "wrong")
    path = wrong / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"normalizer": None}))
    with pytest.raises(CheckFailedError, match="the check of the tokens failed"):
        convert_onnx(
            OnnxRequest(wrong, "onnx-fp32", tmp_path / "out"),
            verify=lambda folder: verify_onnx(folder, right, backends.open_session).text,
        )
