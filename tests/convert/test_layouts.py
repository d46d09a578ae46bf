"""Checkpoints as the world saves them, against transformers: both readings, both formats, and what is refused.

The authority is tests/golden/make_layout_logits.py; where transformers is installed it is asked again.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import weight_layouts as layouts
from golden.make_layout_logits import POSITIONS, TOKENS, transformers_reading
from places import GOLDEN
from tensor_files import Array
from weight_layouts import LAYOUTS, THROUGH_ENGINES, Layout

from edgellm import backends
from edgellm.catalog import conversion
from edgellm.convert.checkpoint.folder import Checkpoint
from edgellm.convert.gguf.convert import ConvertRequest
from edgellm.convert.onnx.writer import OnnxRequest
from edgellm.convert.verify.gguf import ENGINE
from edgellm.convert.verify.original import Original
from edgellm.errors import CheckpointError
from edgellm.formats.artifact import Artifact
from edgellm.models.reference import logits
from edgellm.models.registry import spec_of
from edgellm.models.rope import frequencies
from edgellm.session import EngineOptions

TOLERANCE = 1e-5  # of the largest logit


def golden(name: str) -> tuple[Array, Array]:
    """Logits, and frequencies with their magnitude last."""
    with np.load(GOLDEN / "layouts.npz") as file:
        kept = LAYOUTS[name].same_as or name
        return file[kept], file[f"{kept}/frequencies"]


def error(found: Array, expected: Array) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def engine_logits(path: Path, options: EngineOptions) -> Array:
    with backends.open_session(Artifact.open(path), replace(options, n_ctx=96)) as session:
        return np.array(session.eval_all(TOKENS)[POSITIONS])


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_converter_reads_what_transformers_reads(name: str, tmp_path: Path) -> None:
    expected, rotation = golden(name)
    with Checkpoint.open(layouts.write(LAYOUTS[name], tmp_path)) as checkpoint:
        spec = spec_of(checkpoint.config, checkpoint.shapes)
        assert error(logits(spec, checkpoint.tensors, TOKENS)[POSITIONS], expected) <= TOLERANCE
    found, magnitude = frequencies(spec)
    np.testing.assert_allclose([*found, magnitude], rotation, rtol=2e-6)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_proof_reads_what_transformers_reads(name: str, tmp_path: Path) -> None:
    expected, rotation = golden(name)
    with Original.open(layouts.write(LAYOUTS[name], tmp_path)) as original:
        assert error(original.logits(TOKENS)[POSITIONS], expected) <= TOLERANCE
        found, magnitude = original.rotation
    np.testing.assert_allclose([*found, magnitude], rotation, rtol=2e-6)


def test_the_proof_imports_no_reading_of_the_converter() -> None:
    """What both read they would both get wrong: only bytes, types and the oracle are shared."""
    import ast

    from edgellm.convert.verify import adapter, original, rotary

    shared = {
        "edgellm.convert.checkpoint.safetensors_file",
        "edgellm.convert.verify",
        "edgellm.convert.verify.adapter",
        "edgellm.errors",
        "edgellm.models",
        "edgellm.models.base",
        "edgellm.models.reference",
    }
    for module in (adapter, original, rotary):
        tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
        found = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert {name for name in found if name and name.startswith("edgellm")} <= shared


@pytest.mark.parametrize("name", THROUGH_ENGINES)
def test_gguf_files_compute_what_transformers_does(name: str, tmp_path: Path) -> None:
    folder = layouts.write(LAYOUTS[name], tmp_path / "model")
    done = conversion.run(ConvertRequest(folder, "F32", tmp_path / "out.gguf"))
    assert error(engine_logits(done.artifact.path, ENGINE), golden(name)[0]) <= 2e-5


@pytest.mark.parametrize("name", THROUGH_ENGINES)
def test_onnx_folders_compute_what_transformers_does(name: str, tmp_path: Path) -> None:
    folder = layouts.write(LAYOUTS[name], tmp_path / "model")
    done = conversion.run_onnx(OnnxRequest(folder, "onnx-fp32", tmp_path / "out"))
    assert error(engine_logits(done.artifact.path, EngineOptions(device="cpu")), golden(name)[0]) <= 2e-5


def test_yarns_ramp_is_in_the_file_for_other_programs(tmp_path: Path) -> None:
    """llama.cpp's keys; a magnitude that is not the usual is what it multiplies the usual one by."""
    from edgellm.formats.gguf.reader import read_header

    def keys(name: str) -> dict[str, float]:
        folder = layouts.write(LAYOUTS[name], tmp_path / name.replace(" ", "-"))
        path = conversion.run(ConvertRequest(folder, "F16", tmp_path / f"{folder.name}.gguf"), verify=False)
        prefix = "qwen2.rope.scaling."
        found = read_header(path.artifact.path).metadata
        return {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}

    betas = keys("yarn betas")
    assert (betas["yarn_beta_fast"], betas["yarn_beta_slow"]) == (16.0, 2.0) and "attn_factor" not in betas
    assert keys("yarn attention_factor")["attn_factor"] == pytest.approx(1 / (1 + 0.1 * np.log(4)), rel=1e-6)


REFUSED: dict[str, tuple[Layout, str]] = {
    "a tensor twice": (
        replace(LAYOUTS["plain"], buffers={"module.lm_head.weight": ("F16", [320, 64], bytes(320 * 128))}),
        r"lm_head\.weight twice",
    ),
    "a head and no tie": (
        replace(LAYOUTS["tied, stored as head"], changes={"tie_word_embeddings": ...}),
        "tie_word_embeddings",
    ),
    "quantized weights": (
        replace(LAYOUTS["leftover quantization_config"], buffers={"x.qweight": ("I32", [2, 2], bytes(16))}),
        "I32",
    ),
    "scales of quantized weights": (
        replace(
            LAYOUTS["leftover quantization_config"],
            buffers={"model.layers.0.mlp.up_proj.weight_scale": ("F32", [1], bytes(4))},
        ),
        "weight_scale",
    ),
    "weights rounded while running": (
        Layout(changes={"quantization_config": {"quant_method": "bitnet"}}),
        "bitnet",
    ),
    "a window within the context": (
        Layout(changes={**layouts.SLIDE, "sliding_window": 511}),
        "sliding_window is 511",
    ),
    "a sliding layer without a window": (
        Layout(changes={"layer_types": ["sliding_attention"] * 2}),
        "layer_types",
    ),
    "an absent weight that is listed": (
        replace(LAYOUTS["plain"], listed=("model.layers.0.extra.weight",)),
        "does not hold",
    ),
    "a ramp that llama.cpp rounds": (
        layouts.rope(rope_theta=1e6, rope_scaling={**layouts.YARN, "truncate": False}),
        "truncate",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_rightly_is_refused_by_name(name: str, tmp_path: Path) -> None:
    layout, message = REFUSED[name]
    with (
        pytest.raises(CheckpointError, match=message),
        Checkpoint.open(layouts.write(layout, tmp_path)) as checkpoint,
    ):
        spec_of(checkpoint.config, checkpoint.shapes)


@pytest.mark.transformers
@pytest.mark.parametrize("name", [name for name, layout in LAYOUTS.items() if layout.same_as is None])
def test_golden_files_are_what_transformers_says(name: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="pip install edgellm[train]")
    found, rotation = transformers_reading(layouts.write(LAYOUTS[name], tmp_path))
    assert error(found, golden(name)[0]) <= TOLERANCE
    np.testing.assert_allclose(rotation, golden(name)[1], rtol=1e-6)
