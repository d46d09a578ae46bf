"""Folders as optimum writes them, whose graphs copy the cache at each step; and optimum itself where it is."""

import os

import numpy as np
import pytest
import tinymodels
from click.testing import CliRunner
from onnx_helpers import nmse, oracle

from edgellm import backends, cli
from edgellm.backends.ort.cache import ConcatCache
from edgellm.convert import optimum
from edgellm.convert.onnx.writer import OnnxRequest, convert_onnx
from edgellm.errors import EngineError, MissingExtraError, UsageError
from edgellm.formats.artifact import Artifact
from edgellm.session import GREEDY, EngineOptions

OPTIONS = EngineOptions(n_ctx=128, n_threads=1, n_ubatch=5)
TOKENS = [5, 17, 260, 40, 41, 42, 7, 9, 11, 100, 200, 150]
needs_optimum = pytest.mark.skipif(
    optimum.PYTHON not in os.environ,
    reason=f"set {optimum.PYTHON} to a Python that has optimum-onnx",
)


@pytest.fixture
def source(tmp_path):
    return tinymodels.write(tinymodels.CASES["llama"], tmp_path / "source")


@pytest.fixture
def folder(source, tmp_path):
    """Our graph without what says that its cache is in place: then it is run as optimum's is."""
    artifact = convert_onnx(OnnxRequest(source, "onnx-fp32", tmp_path / "plain"))
    (artifact.path / "edgellm.json").unlink()
    (artifact.path / "genai_config.json").unlink()
    return artifact.path


def test_a_cache_that_is_copied_gives_the_same_logits(folder, source):
    artifact = Artifact.open(folder)
    assert artifact.quantization == "onnx" and artifact.stop_ids == {300, 304} and artifact.chat_template
    expected = oracle(source, TOKENS)
    with backends.open_session(artifact, OPTIONS) as session:
        assert isinstance(session._cache, ConcatCache) and session.info.add_bos
        assert nmse(session.eval_all(TOKENS), expected) < 1e-8
        session.rewind(4)
        assert nmse(session.eval(TOKENS[4:]), expected[-1]) < 1e-8
        state = session.save_state()
        ids = session.stream([3], GREEDY)
        drawn = [next(ids) for _ in range(6)]
        session.rewind(0)
        session.restore_state(state, TOKENS)
        again = session.stream([3], GREEDY)
        assert [next(again) for _ in range(6)] == drawn


def test_a_copied_cache_is_lengthened_by_what_it_holds(folder, source):
    with backends.open_session(Artifact.open(folder), OPTIONS) as session:
        session.eval(TOKENS[:5])
        session.stretch(13)
        repeated = (TOKENS[:5] * 3)[:13]
        assert list(session.tokens) == repeated
        assert nmse(session.eval([7]), oracle(source, [*repeated, 7])[-1]) < 1e-8


def test_without_optimum_the_pip_line_is_said(monkeypatch):
    monkeypatch.delenv(optimum.PYTHON, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'edgellm\[optimum\]'"):
        optimum.interpreter()


def test_types_optimum_does_not_write_are_refused(source, tmp_path):
    with pytest.raises(UsageError, match="not onnx-int4"):
        optimum.export(source, tmp_path / "out", "onnx-int4")


def test_an_export_that_fails_says_why_and_leaves_nothing(source, tmp_path, monkeypatch):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'no such architecture' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv(optimum.PYTHON, str(broken))
    with pytest.raises(EngineError, match="optimum failed: no such architecture"):
        optimum.export(source, tmp_path / "out", "onnx-fp32")
    assert not (tmp_path / "out").exists()


@needs_optimum
@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3-f32"])
def test_our_graph_agrees_with_optimums(name, tmp_path):
    source = tinymodels.write(tinymodels.CASES[name], tmp_path / name)
    done = CliRunner().invoke(cli.cli, ["parity", str(source)])
    assert done.exit_code == 0 and "same top 100%" in done.output


@needs_optimum
def test_optimums_int8_runs_here(source, tmp_path):
    artifact = optimum.export(source, tmp_path / "int8", "onnx-int8")
    assert artifact.quantization == "onnx-int8"
    with backends.open_session(artifact, OPTIONS) as session:
        assert np.isfinite(session.eval(TOKENS)).all()
