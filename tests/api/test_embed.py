"""Embeddings against the hidden states that transformers computed (tests/golden/make_hidden_states.py)."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tinymodels
from click.testing import CliRunner
from golden.make_hidden_states import CASES, TOKENS
from places import GOLDEN

from edgellm import backends
from edgellm.catalog import conversion
from edgellm.cli import cli
from edgellm.errors import EngineError, UsageError
from edgellm.generation import embedding
from edgellm.session import EngineOptions

FOLDER = GOLDEN / "hidden"
OPTIONS = EngineOptions(n_ctx=128, n_threads=1)
EXACT = EngineOptions(n_ctx=128, n_threads=1, type_k="f32", type_v="f32", flash_attn="off")
TEXTS = ["The cat sleeps in the garden.", "A cat is sleeping.", "17 + 25 = 42"]


@pytest.mark.parametrize("quant", ["F32", "onnx-fp32"])
@pytest.mark.parametrize("name", CASES)
def test_pooled_states_are_transformers(name, quant, tmp_path):
    source = tinymodels.write(tinymodels.CASES[name], tmp_path / "source")
    output = tmp_path / ("onnx" if quant.startswith("onnx") else "tiny.gguf")
    artifact = conversion.convert_checkpoint(source, output, quant)
    with backends.open_session(artifact, EXACT) as session:
        for pooling, expected in zip(("mean", "last"), np.load(FOLDER / f"{name}.npy"), strict=True):
            found = embedding.pooled(session, TOKENS, pooling)
            assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.fixture(scope="module")
def session():
    from edgellm.catalog import first_use

    with backends.open_session(first_use.resolve("tiny-qwen3"), OPTIONS) as session:
        yield session


def embed(session, texts, *, pooling=None, **options):
    return embedding.embed(session, texts, embedding.manner_of(session.artifact, pooling=pooling), **options)


@pytest.mark.parametrize("pooling", embedding.POOLINGS)
def test_vectors_are_one_long_and_do_not_depend_on_their_neighbours(session, pooling):
    several = embed(session, TEXTS, pooling=pooling)
    np.testing.assert_allclose(np.linalg.norm(several, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(embed(session, TEXTS[1:2], pooling=pooling)[0], several[1])
    raw = embed(session, TEXTS, pooling=pooling, normalize=False)
    np.testing.assert_allclose(
        raw / np.linalg.norm(raw, axis=1, keepdims=True), several, rtol=1e-4, atol=1e-6
    )


def test_what_means_the_same_is_nearer(session):
    near, other = (embed(session, TEXTS) @ embed(session, TEXTS)[0])[1:]
    assert near > other


def test_nothing_and_too_much_are_refused(session):
    with pytest.raises(UsageError, match="no text"):
        embed(session, [])
    with pytest.raises(UsageError, match="nothing to embed"):
        embed(session, [""])
    with pytest.raises(EngineError, match="tokens of text 1 do not fit the context"):
        embed(session, ["word " * 500])
    with pytest.raises(UsageError, match="there is no pooling 'max'; there are: mean, cls, last"):
        embed(session, TEXTS, pooling="max")


def run(*arguments, **more):
    return CliRunner().invoke(
        cli, ["embed", "tiny-qwen3", "-t", "1", *arguments], catch_exceptions=False, **more
    )


def test_the_command_prints_a_line_for_each_text():
    rows = [json.loads(line) for line in run(*TEXTS).stdout.splitlines()]
    assert np.array(rows).shape[0] == 3
    result = json.loads(run("--json", TEXTS[0]).stdout)
    assert result["data"][0]["embedding"] == rows[0]


def test_lines_of_standard_input_become_an_array(tmp_path, session):
    command = [
        sys.executable,
        "-m",
        "edgellm",
        "embed",
        "tiny-qwen3",
        "-t",
        "1",
        "--npy",
        str(tmp_path / "v.npy"),
    ]
    done = subprocess.run(command, input="\n".join(TEXTS), text=True, capture_output=True, check=True)
    found = np.load(tmp_path / "v.npy")
    assert done.stdout.strip().endswith(f"3 x {found.shape[1]} float32")
    np.testing.assert_allclose(found, embed(session, TEXTS), atol=1e-5)
    again = subprocess.run(command, input="x", text=True, capture_output=True)
    assert again.returncode == 1 and "exists; give --force" in again.stderr
    empty = subprocess.run([*command[:-2]], input="a\n\nb", text=True, capture_output=True)
    assert empty.returncode == 2 and "line 2 of standard input is empty" in empty.stderr
