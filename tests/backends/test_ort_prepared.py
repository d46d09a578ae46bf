"""Prepared weights, and a second graph for prompts: what starts faster must not compute anything else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tinymodels
from click.testing import CliRunner
from onnx_helpers import nmse, oracle

from edgellm import backends, cli
from edgellm.backends.ort import prepacked
from edgellm.convert.onnx.options import OnnxOptions
from edgellm.convert.onnx.writer import OnnxRequest, convert_onnx
from edgellm.formats.artifact import Artifact
from edgellm.session import GREEDY, EngineOptions

OPTIONS = EngineOptions(n_ctx=128, n_threads=1, n_ubatch=24)
TOKENS = [(11 * i) % 256 for i in range(60)]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return tinymodels.write(tinymodels.CASES["llama-256"], tmp_path_factory.mktemp("source"))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(prepacked, "MIN_BYTES", 0)
    return tmp_path / "cache" / "prepacked"


def logits(artifact, tokens=TOKENS, options=OPTIONS):
    with backends.open_session(artifact, options) as session:
        return session.eval(tokens).copy(), session.info.notes


@pytest.mark.parametrize("quant", ["onnx-int4", "onnx-w8a8"])
def test_a_prepared_copy_is_made_once_and_gives_the_same_logits(quant, source, tmp_path, cache):
    artifact = convert_onnx(OnnxRequest(source, quant, tmp_path / "model"))
    plain, _ = logits(artifact, options=EngineOptions(n_ctx=128, n_threads=1, n_ubatch=24, repack=False))
    assert not cache.exists()
    first, notes = logits(artifact)
    assert "prepared model's weights" in notes[0]
    again, notes = logits(artifact)
    assert not notes
    np.testing.assert_array_equal(first, plain)
    np.testing.assert_array_equal(again, plain)
    (item,) = prepacked.kept()
    assert item.model == str(artifact.path / "model.onnx") and item.size_bytes > artifact.size_bytes
    assert prepacked.clear() == item.size_bytes and not prepacked.kept()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_open_model_holds_no_page_of_weights_before_it_runs(source, tmp_path, cache):
    artifact = convert_onnx(OnnxRequest(source, "onnx-int4", tmp_path / "model"))
    logits(artifact)
    with backends.open_session(artifact, OPTIONS) as session:
        assert resident("weights.bin") == 0
        session.eval(TOKENS)
        assert resident("weights.bin") > 0


def resident(name: str) -> int:
    """Kilobytes of a mapped file that count as this process's memory."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(maxsplit=1)[0]:
            inside = line.endswith(name)
        elif inside and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total


def test_another_model_at_the_same_place_gets_its_own_copy(source, tmp_path, cache):
    request = OnnxRequest(source, "onnx-int4", tmp_path / "model")
    logits(convert_onnx(request))
    changed = convert_onnx(OnnxRequest(source, "onnx-int8", tmp_path / "model", force=True))
    found, notes = logits(changed)
    assert "prepared" in notes[0]
    assert nmse(found, oracle(source, TOKENS)[-1]) < 2e-3


def test_other_weights_of_the_same_size_and_times_get_their_own_copy(source, tmp_path, cache):
    """As `cp -p`, rsync and container layers leave them: path, size and time of modification say nothing."""
    first = convert_onnx(OnnxRequest(source, "onnx-int8", tmp_path / "model"))
    logits(first)
    seeded = tinymodels.write(tinymodels.variant("llama-256", seed=2), tmp_path / "other source")
    other = convert_onnx(OnnxRequest(seeded, "onnx-int8", tmp_path / "other"))
    for file in other.path.iterdir():
        old = (first.path / file.name).stat()
        shutil.copyfile(file, first.path / file.name)
        os.utime(first.path / file.name, ns=(old.st_atime_ns, old.st_mtime_ns))
        assert file.suffix != ".data" or file.stat().st_size == old.st_size
    found, notes = logits(first)
    assert "prepared" in notes[0]
    assert nmse(found, oracle(seeded, TOKENS)[-1]) < 0.05 < nmse(found, oracle(source, TOKENS)[-1])


def test_the_same_model_elsewhere_shares_the_copy(source, tmp_path, cache):
    artifact = convert_onnx(OnnxRequest(source, "onnx-int4", tmp_path / "model"))
    whole, _ = logits(artifact)
    shutil.copytree(artifact.path, tmp_path / "copy")
    found, notes = logits(Artifact.open(tmp_path / "copy"))
    assert not notes and len(prepacked.kept()) == 1
    np.testing.assert_array_equal(found, whole)


def test_copies_of_models_that_are_gone_are_deleted_after_a_day(source, tmp_path, cache):
    gone, moved = (
        convert_onnx(OnnxRequest(source, quant, tmp_path / name))
        for quant, name in (("onnx-int4", "gone"), ("onnx-w8a8", "moved"))
    )
    logits(gone)
    (old,) = prepacked.kept()
    os.utime(old.path / prepacked.ABOUT, (0, 0))
    logits(moved)
    assert len(prepacked.kept()) == 2  # long unused, but its model is there
    shutil.rmtree(gone.path)
    moved.path.rename(tmp_path / "elsewhere")
    logits(convert_onnx(OnnxRequest(source, "onnx-int8", tmp_path / "third")))
    names = {Path(item.model).parent.name for item in prepacked.kept()}
    assert names == {"moved", "third"}  # the one just used is kept: it may have been moved


def test_two_processes_prepare_once(source, tmp_path, cache):
    artifact = convert_onnx(OnnxRequest(source, "onnx-int4", tmp_path / "model"))
    code = (
        "import sys; from edgellm import backends; from edgellm.backends.ort import prepacked\n"
        "from edgellm.formats.artifact import Artifact; prepacked.MIN_BYTES = 0\n"
        "print(len(backends.open_session(Artifact.open(sys.argv[1])).info.notes), flush=True)"
    )
    command = [sys.executable, "-c", code, str(artifact.path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert sorted(process.communicate(timeout=120)[0].strip() for process in both) == ["0", "1"]


def test_a_damaged_copy_is_dropped_and_said(source, tmp_path, cache):
    artifact = convert_onnx(OnnxRequest(source, "onnx-int4", tmp_path / "model"))
    whole, _ = logits(artifact)
    (item,) = prepacked.kept()
    (item.path / "model.onnx").write_bytes(b"not a graph")
    found, notes = logits(artifact)
    assert "could not be prepared" in notes[0]
    np.testing.assert_array_equal(found, whole)
    assert not prepacked.kept()


def test_both_graphs_are_prepared(source, tmp_path, cache):
    options = OnnxOptions.parse(["prefill=w8a8"])
    artifact = convert_onnx(OnnxRequest(source, "onnx-int4", tmp_path / "both", options))
    first, notes = logits(artifact)
    assert len(notes) == len(prepacked.kept()) == 2
    again, notes = logits(artifact)
    assert not notes
    np.testing.assert_array_equal(first, again)


def test_prompts_go_through_their_own_graph_into_the_same_cache(source, tmp_path):
    options = OnnxOptions.parse(["prefill=w8a8", "head=fp32"])
    artifact = convert_onnx(OnnxRequest(source, "onnx-int8", tmp_path / "both", options))
    assert {"prefill.onnx", "prefill.onnx.data"} <= {file.name for file in artifact.path.iterdir()}
    expected = oracle(source, TOKENS)
    with backends.open_session(artifact, OPTIONS) as session:
        whole = session.eval(TOKENS).copy()
        assert nmse(whole, expected[-1]) < 2e-3
        assert list(session.tokens) == TOKENS
        session.rewind(0)
        parts = [session.eval(TOKENS[start : start + 10]).copy() for start in range(0, 60, 10)]
        assert not np.array_equal(parts[-1], whole)  # short pieces do not: they take the main graph
        assert nmse(parts[-1], expected[-1]) < 2e-3
        session.rewind(20)
        ids = session.stream(TOKENS[20:], GREEDY)
        assert [next(ids) for _ in range(3)] and len(session.tokens) == 62


def test_the_command_line_shows_and_clears_what_is_prepared(source, tmp_path, cache):
    artifact = convert_onnx(OnnxRequest(source, "onnx-int4", tmp_path / "model"))
    logits(artifact)
    shown = CliRunner().invoke(cli.cli, ["cache"])
    assert shown.exit_code == 0 and str(artifact.path / "model.onnx") in shown.output
    assert "prepacked" in shown.output and "locks" in shown.output  # all that is kept, with its size
    assert "freed" in CliRunner().invoke(cli.cli, ["cache", "--clear"]).output
    assert not prepacked.kept()
    inspected = CliRunner().invoke(cli.cli, ["inspect", str(artifact.path)])
    assert "onnx-int4" in inspected.output and "not verified" in inspected.output
