"""Embedding models in their real layout, against what sentence-transformers computed (golden/make_embeddings.py)."""

from __future__ import annotations

import json
from pathlib import Path

import embedders
import numpy as np
import pytest
import tensor_files
import tinymodels
from click.testing import CliRunner
from golden.make_embeddings import CASES, TEXTS, library_vectors, write_case
from places import GOLDEN

import edgellm
from edgellm.catalog import conversion
from edgellm.cli import cli
from edgellm.errors import CheckpointError, EngineError, UsageError
from edgellm.formats.artifact import Artifact
from edgellm.session import EngineOptions

#: Of any number of a vector one long. llama.cpp rounds the inputs of F16 matrices to F16, too: 3e-4 of 64 numbers.
MOST = {"F32": 1e-6, "F16": 4e-4, "onnx-fp32": 1e-6}
WIDE_MOST = 1e-4
QUANTS = tuple(MOST)
EXACT = EngineOptions(n_threads=1, type_k="f32", type_v="f32", flash_attn="off")
#: The cases' options in our words.
ASKED = {
    "last-query": {"prompt_name": "query"},
    "last-task": {"instruct": "Find the answer"},
    "last-cut": {"truncate": True},
    "last-32": {"dimensions": 32},
    "mean-without-prompt": {"prompt_name": "query"},
    "cls-without-prompt": {"prompt_name": "query"},
}


def made(source: Path, quant: str) -> Artifact:
    output = source.parent / ("onnx" if quant.startswith("onnx") else f"tiny-{quant}.gguf")
    return conversion.convert_checkpoint(source, output, quant)


@pytest.mark.parametrize("quant", QUANTS)
@pytest.mark.parametrize("name", CASES)
def test_vectors_are_sentence_transformers(name, quant, tmp_path):
    artifact = made(write_case(name, tmp_path / "source"), quant)
    with edgellm.load(artifact.path, options=EXACT) as model:
        found = model.embed(TEXTS, **ASKED.get(name, {}))
    off = np.abs(found - np.load(GOLDEN / "embeddings" / f"{name}.npy")).max()
    assert off < (WIDE_MOST if name == "wide" else MOST[quant])


@pytest.mark.transformers
@pytest.mark.parametrize("name", CASES)
def test_golden_vectors_are_what_the_library_says_today(name, tmp_path):
    pytest.importorskip("sentence_transformers", reason="pip install sentence-transformers")
    expected = np.load(GOLDEN / "embeddings" / f"{name}.npy")
    np.testing.assert_allclose(library_vectors(name, write_case(name, tmp_path)), expected, atol=1e-5)


def run(*arguments: object) -> list[str]:
    exact = ("-ctk", "f32", "-ctv", "f32", "-fa", "off", "-t", "1")
    result = CliRunner().invoke(cli, ["embed", *exact, *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return [result.stdout, result.stderr]


@pytest.mark.parametrize("quant", QUANTS)
def test_the_command_follows_the_file_and_says_so(quant, tmp_path):
    artifact = made(write_case("last", tmp_path / "source"), quant)
    out, told = run(artifact.path, *TEXTS)
    found = np.array([json.loads(line) for line in out.splitlines()])
    assert np.abs(found - np.load(GOLDEN / "embeddings" / "last.npy")).max() < MOST[quant]
    assert "pooling last, as the model's file says" in told
    out, told = run(artifact.path, "--prompt-name", "query", "--json", *TEXTS)
    answer = json.loads(out)
    found = np.array([entry["embedding"] for entry in answer["data"]])
    assert np.abs(found - np.load(GOLDEN / "embeddings" / "last-query.npy")).max() < MOST[quant]
    assert answer["pooling"] == "last" and "prompt 'Instruct: Given a web search query" in told
    out, _ = run(artifact.path, "--instruct", "Find the answer", *TEXTS)
    found = np.array([json.loads(line) for line in out.splitlines()])
    assert np.abs(found - np.load(GOLDEN / "embeddings" / "last-task.npy")).max() < MOST[quant]
    out, _ = run(artifact.path, "--dimensions", "32", *TEXTS)
    found = np.array([json.loads(line) for line in out.splitlines()])
    assert np.abs(found - np.load(GOLDEN / "embeddings" / "last-32.npy")).max() < MOST[quant]
    _, told = run(artifact.path, "--pooling", "mean", TEXTS[0])
    assert "pooling mean, as asked" in told


def test_a_model_for_text_says_that_it_is_none(tmp_path):
    _, told = run("tiny-qwen3", "hello")
    assert "pooling mean, for the file names none" in told


def test_what_cannot_be_is_refused(tmp_path):
    artifact = made(write_case("last-cut", tmp_path / "source"), "F32")
    with edgellm.load(artifact.path, options=EXACT) as model:
        with pytest.raises(EngineError, match=r"the \d+ tokens of text 3 do not fit the context of 24"):
            model.embed(TEXTS)
        with pytest.raises(UsageError, match="no prompt named 'passage'; there are: query, document"):
            model.embed("a", prompt_name="passage")
        with pytest.raises(UsageError, match="exclude each other"):
            model.embed("a", prompt_name="query", instruct="b")
        with pytest.raises(UsageError, match="65 dimensions of 64"):
            model.embed("a", dimensions=65)


def test_a_query_follows_a_space_where_the_models_own_prompt_has_one(tmp_path):
    prompts = {"query": "Instruct: Do it\nQuery: "}
    artifact = made(embedders.write(tmp_path / "source", prompts=prompts), "F32")
    with edgellm.load(artifact.path, options=EXACT) as model:
        np.testing.assert_array_equal(
            model.embed("what", instruct="Do it"), model.embed("what", prompt_name="query")
        )


def test_the_base_class_needs_no_head(tmp_path):
    """As `save_pretrained` of a fine-tuned SentenceTransformer leaves it: Qwen3Model, and not tied."""
    tiny = tinymodels.variant("qwen3-f32", n_ctx_train=256, extra_config={"architectures": ["Qwen3Model"]})
    source = embedders.write(tmp_path / "source", tiny)
    for name in ("modules.json", "config_sentence_transformers.json"):
        (source / name).unlink()
    with edgellm.load(made(source, "F32").path, options=EXACT) as model:
        found = model.embed(TEXTS, pooling="last")
    assert np.abs(found - np.load(GOLDEN / "embeddings" / "no-head.npy")).max() < MOST["F32"]


def change(folder: Path, name: str, **values: object) -> None:
    path = folder / name
    tensor_files.write_json(path, json.loads(path.read_text(encoding="utf-8")) | values)


def _dense(folder: Path) -> None:
    embedders.write_modules(folder, ["Pooling", "Dense", "Normalize"])


def _elsewhere(folder: Path) -> None:
    text = (folder / "modules.json").read_text(encoding="utf-8")
    (folder / "modules.json").write_text(text.replace('"1_Pooling"', '"../1_Pooling"'), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda f: change(f, "1_Pooling/config.json", pooling_mode_max_tokens=True), "asks for pooling"),
        (lambda f: change(f, "1_Pooling/config.json", pooling_mode="weightedmean"), "'weightedmean'"),
        (_dense, "'Dense', which changes what the model gives"),
        (_elsewhere, "outside the checkpoint"),
        (lambda f: (f / "1_Pooling" / "config.json").unlink(), "whose config.json is not there"),
        (lambda f: (f / "modules.json").write_text("{}"), "holds no JSON list"),
        (lambda f: (f / "modules.json").write_text("[3]"), "is no module"),
        (lambda f: change(f, "config_sentence_transformers.json", default_prompt_name="x"), "none of its"),
    ],
)
@pytest.mark.parametrize("quant", ["F32", "onnx-fp32"])
def test_what_would_change_the_vectors_is_refused_by_name(damage, fault, quant, tmp_path):
    source = embedders.write(tmp_path / "source")
    damage(source)
    with pytest.raises(CheckpointError, match=fault):
        made(source, quant)


def test_files_of_a_cache_are_followed_into_its_folders(tmp_path):
    """A snapshot of a Hugging Face cache: every file a link, those of 1_Pooling one folder deeper."""
    source = embedders.write(tmp_path / "source")
    home = tmp_path / "models--org--name"
    (home / "blobs").mkdir(parents=True)
    for path in [file for file in source.rglob("*") if file.is_file()]:
        inside = path.relative_to(source)
        blob = home / "blobs" / str(inside).replace("/", "-")
        blob.write_bytes(path.read_bytes())
        link = home / "snapshots" / "abc" / inside
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    artifact = conversion.convert_checkpoint(home / "snapshots" / "abc", tmp_path / "tiny.gguf", "F32")
    assert artifact.metadata["qwen3.pooling_type"] == 3
