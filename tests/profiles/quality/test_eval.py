"""`edgellm eval` on a real small model: texts, references of both kinds, tasks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tinymodels
from click.testing import CliRunner, Result

from edgellm import backends
from edgellm.cli import cli
from edgellm.convert.gguf.convert import ConvertRequest, convert
from edgellm.convert.onnx.writer import OnnxRequest, convert_onnx
from edgellm.formats.artifact import Artifact
from edgellm.generation import scoring
from edgellm.session import EngineOptions

TEXT = "The quick brown fox jumps over the lazy dog. 今天天气很好，我们去公园。 " * 30


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    source = tinymodels.write(tinymodels.CASES["llama"], folder / "llama")
    other = tinymodels.write(tinymodels.variant("qwen3", n_vocab=400), folder / "qwen3")
    made = {
        quant: convert(ConvertRequest(source, quant, folder / f"{quant}.gguf")).path
        for quant in ("F32", "Q4_0")
    }
    made["onnx"] = folder / "llama-onnx"
    made["other"] = convert(ConvertRequest(other, "F32", folder / "other.gguf")).path
    convert_onnx(OnnxRequest(source, "onnx-fp32", made["onnx"]))
    made["text"] = folder / "text.txt"
    made["text"].write_text(TEXT, encoding="utf-8")
    return made


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["eval", *map(str, arguments), "-t", "1"])


def figures(*arguments: object) -> dict:
    result = run(*arguments, "-o", "json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_perplexity_is_llama_perplexitys(models):
    found = figures(models["F32"], "-f", models["text"], "-c", "64")["text"]
    with backends.open_session(Artifact.open(models["F32"]), EngineOptions(n_ctx=64, n_threads=1)) as session:
        add_bos = session.info.add_bos
        ids = session.tokenize(TEXT, special=False, add_bos=add_bos)
        nll = []
        for start in range(0, len(ids) - 63, 64):
            chunk = ([ids[0]] if add_bos else [ids[start]]) + ids[start + 1 : start + 64]
            session.rewind(0)
            log_probs = scoring.log_softmax(session.eval_all(chunk))
            nll += [-log_probs[i, chunk[i + 1]] for i in range(32, 63)]
    quality = found["quality"]
    assert quality["n_tokens"] == len(nll) and quality["n_chunks"] == len(ids) // 64
    assert quality["perplexity"]["value"] == pytest.approx(np.exp(np.mean(nll)), rel=1e-6)


def test_a_reference_file_says_what_the_model_says(models, tmp_path):
    saved = tmp_path / "f32.ref"
    text = ("-f", models["text"], "-c", "64")
    first = figures(models["F32"], *text, "--save-ref", saved)
    live = figures(models["Q4_0"], *text, "--ref", models["F32"])["text"]["quality"]
    compact = figures(models["Q4_0"], "--ref", saved)["text"]
    own = figures(models["F32"], "--ref", saved)["text"]["quality"]["divergence"]
    assert compact["text"] == "text.txt" and compact["reference"].endswith("F32 (f32.ref)")
    assert compact["quality"]["perplexity"] == live["perplexity"]
    exact, near = live["divergence"], compact["quality"]["divergence"]
    assert exact["kld_mean"]["value"] > 1e-4
    assert near["kld_mean"]["value"] == pytest.approx(exact["kld_mean"]["value"], rel=0.02)
    assert near["same_top"] == exact["same_top"]
    assert near["perplexity"]["value"] == pytest.approx(
        first["text"]["quality"]["perplexity"]["value"], rel=1e-6
    )
    assert own["kld_max"] < 1e-5 and own["same_top"]["value"] == 1


def test_the_other_engine_gives_the_same_figures(models, tmp_path):
    saved, text = tmp_path / "f32.ref", ("-f", models["text"], "-c", "64")
    first = figures(models["F32"], *text, "--save-ref", saved)
    live = figures(models["onnx"], *text, "--ref", models["F32"])
    near = figures(models["onnx"], "--ref", saved)["text"]["quality"]
    assert (first["model"]["backend"], live["model"]["backend"]) == ("llamacpp", "onnxruntime")
    exact = live["text"]["quality"]
    assert exact["perplexity"]["value"] == pytest.approx(
        first["text"]["quality"]["perplexity"]["value"], rel=2e-3
    )
    # llama.cpp keeps its cache in half precision: that is all the difference there is.
    assert exact["divergence"]["kld_mean"]["value"] < 1e-5
    assert near["divergence"]["kld_mean"]["value"] < 1e-5
    assert exact["divergence"]["same_top"]["value"] > 0.99


def test_by_default_it_reads_held_out_dialogues(models):
    result = run(models["F32"], "--chunks", "7")
    assert result.exit_code == 0, result.output
    assert "edgellm held-out dialogues: 7 chunks" in result.stdout and "PPL  " in result.stdout


def test_tasks_of_a_file_and_of_the_suite(models, tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"prompt": "1 + 1 =", "answer": "2"}\n{"prompt": "Tell me a story."}\n')
    table = run(models["F32"], "--tasks", path, "--max-tokens", "4")
    assert table.exit_code == 0, table.output
    assert "| closed tasks | 1 | 0.0% |" in table.stdout and "| open tasks | 1 | - |" in table.stdout
    assert "PPL" not in table.stdout
    both = figures(models["F32"], "--tasks", "facts", "--max-tokens", "1", "-f", models["text"], "-c", "64")
    assert both["tasks"]["totals"][0]["exact"]["n"] == 64 and both["text"]["quality"]["n_tokens"] > 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("F32", "--ref", "other", "-f", "text", "-c", "64"), 2, "different vocabularies"),
        (("F32", "-f", "text", "-c", "4096"), 2, "fewer than one chunk of 4096"),
        (("F32", "--tasks", "nonsense"), 2, "no task named 'nonsense'"),
        (("F32", "--save-ref", "text"), 1, "exists; give --force"),
    ],
)
def test_what_makes_no_sense_is_refused(models, arguments, code, message):
    result = run(*(models.get(argument, argument) for argument in arguments))
    assert result.exception is not None
    assert getattr(result.exception, "exit_code", result.exit_code) == code
    assert message in str(result.exception)
