"""The language models of models that see, against transformers' whole classes (golden/make_tower_logits.py)."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensor_files
import towers
from click.testing import CliRunner
from golden.make_tower_logits import TOKENS, library_logits
from places import GOLDEN

from edgellm import backends
from edgellm.catalog import conversion
from edgellm.cli import cli
from edgellm.errors import CheckpointError
from edgellm.formats.gguf.reader import read_header
from edgellm.session import EngineOptions

EXACT = EngineOptions(n_ctx=64, n_threads=1, type_k="f32", type_v="f32", flash_attn="off")


@pytest.mark.parametrize("quant", ["F32", "onnx-fp32"])
@pytest.mark.parametrize("name", towers.CASES)
def test_logits_of_a_text_are_transformers(name, quant, tmp_path, capsys):
    source = towers.write(name, tmp_path / "source")
    output = tmp_path / ("onnx" if quant.startswith("onnx") else "tiny.gguf")
    artifact = conversion.convert_checkpoint(source, output, quant)
    assert "vision tower is left out" in capsys.readouterr().err
    with backends.open_session(artifact, EXACT) as session:
        found = session.eval_all(TOKENS)
    expected = np.load(GOLDEN / "towers" / f"{name}.npy")
    assert np.abs(found - expected).max() <= 2e-5 * np.abs(expected).max()


@pytest.mark.transformers
@pytest.mark.parametrize("name", towers.CASES)
def test_golden_logits_are_what_transformers_says_today(name, tmp_path):
    pytest.importorskip("transformers", reason="pip install edgellm[train]")
    found = library_logits(towers.write(name, tmp_path))
    np.testing.assert_allclose(found, np.load(GOLDEN / "towers" / f"{name}.npy"), atol=1e-4)


def test_the_file_goes_with_a_tower_of_its_own(tmp_path):
    """llama.cpp's architecture for it, whose pictures come from an mmproj file."""
    for name, architecture in (("qwen2.5-vl-old", "qwen2vl"), ("qwen3-vl", "qwen3vl")):
        source = towers.write(name, tmp_path / name)
        header = read_header(conversion.convert_checkpoint(source, tmp_path / f"{name}.gguf", "Q8_0").path)
        assert header.get("general.architecture") == architecture
        assert len(header.get(f"{architecture}.rope.dimension_sections")) == 4
    assert header.get("qwen3vl.n_deepstack_layers") == 3


def test_a_dry_run_says_what_is_left_out(tmp_path):
    source = towers.write("qwen3-vl", tmp_path / "source")
    for quant in ("q8_0", "onnx-int4"):
        result = CliRunner().invoke(cli, ["convert", str(source), "--quant", quant, "--dry-run"])
        assert result.exit_code == 0 and "vision tower is left out" in result.stderr


@pytest.mark.parametrize("sections", [[0, 0, 0], [40, 40, 40], [6, 5], "x", [16, 0, 0]])
def test_sections_that_the_engine_dies_of_are_refused(sections, tmp_path):
    source = towers.write("qwen3-vl", tmp_path / "source")
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    config["text_config"]["rope_scaling"]["mrope_section"] = sections
    tensor_files.write_json(source / "config.json", config)
    with pytest.raises(CheckpointError, match="mrope_section"):
        conversion.convert_checkpoint(source, tmp_path / "tiny.gguf", "F32")
