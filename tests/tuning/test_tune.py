"""Tuning on a real, small model: the child process measures, both engines lengthen a cache, the command remembers."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tiny_gguf
import tinymodels
from click.testing import CliRunner

from edgellm import backends
from edgellm.backends import tuned
from edgellm.backends.llama.sequence import state as llama_state
from edgellm.cli import tune
from edgellm.cli.shared import model_argument, open_model
from edgellm.convert.onnx.writer import OnnxRequest, convert_onnx
from edgellm.errors import EngineCrashError, EngineError
from edgellm.formats.artifact import Artifact
from edgellm.machine import hardware, others
from edgellm.profiles.study.plan import Grid
from edgellm.session import EngineOptions
from edgellm.tuning import first_look, probe, space
from edgellm.tuning import tune as tuning
from edgellm.tuning.space import DECODE, PREFILL, SHORT_PREFILL

DEPTH = 300
FAST = {DECODE: 0.005, PREFILL: 0.01, SHORT_PREFILL: 0.005}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory) -> Artifact:
    return Artifact.open(tiny_gguf.write(tmp_path_factory.mktemp("model") / "random.gguf", n_embd=256))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")  # one for all: every new one has child processes run the canary


@pytest.fixture
def cache(folder, monkeypatch):
    monkeypatch.setenv("EDGELLM_CACHE", str(folder))
    monkeypatch.delenv("EDGELLM_NO_TUNE", raising=False)
    shutil.rmtree(folder / "tuned", ignore_errors=True)


def test_settings_are_numbered_as_they_are_opened_and_share_what_weights_they_can(artifact, monkeypatch):
    loaded: list[EngineOptions] = []
    honest = backends.open_session

    def open_session(artifact, options):
        loaded.append(options)
        return honest(artifact, options)

    monkeypatch.setattr(backends, "open_session", open_session)
    prober = probe.Prober()
    asked = [{"flash_attn": "on"}, {"flash_attn": "off"}, {"flash_attn": "auto"}, {"use_mmap": False}]
    same = {"n_ctx": 128, "n_threads": 1, "device": "cpu"}
    assert [prober.open(str(artifact.path), same | each) for each in asked] == [0, 1, 2, 3]
    assert [options.use_mmap for options in loaded] == [None, False], (
        "the others read the first one's weights"
    )
    said = [session.info.options for session in prober._sessions]
    assert [options.flash_attn for options in said[:2]] == ["on", "off"] and not said[3].use_mmap


@pytest.mark.parametrize(
    "settings", [{"flash_attn": "on"}, {"flash_attn": "off"}, {"type_k": "q8_0"}], ids=str
)
def test_a_lengthened_cache_is_as_long_and_holds_the_same_beginning(artifact, settings):
    options = EngineOptions(n_ctx=512, n_threads=1, device="cpu", **settings)
    with backends.open_session(artifact, options) as session:
        expected = session.eval([*range(1, 9), 5]).copy()
        session.rewind(8)
        session.stretch(DEPTH)
        assert len(session.tokens) == DEPTH
        assert np.isfinite(session.eval([5])).all()
        session.rewind(8)
        np.testing.assert_allclose(session.eval([5]), expected, atol=2e-2 * np.abs(expected).max())


def test_a_state_of_an_unknown_layout_is_refused(artifact):
    with backends.open_session(artifact, EngineOptions(n_ctx=64, n_threads=1, device="cpu")) as session:
        session.eval([1, 2, 3])
        state, _ = llama_state.unpack(session.info.version, session.save_state())
    assert len(llama_state.stretch(state, 3)) == len(state)
    for bad in (state[:-1], state + b"x", b"\xff" * len(state), b""):
        with pytest.raises(EngineError, match="layout that is not known"):
            llama_state.stretch(bad, 9)


def test_a_sibling_shares_the_weights_and_outlives_nothing(artifact):
    options = EngineOptions(n_ctx=64, n_threads=1, device="cpu")
    with backends.open_session(artifact, options) as session:
        expected = session.eval([1, 2, 3]).copy()
        sibling = session.sibling(replace(options, flash_attn="off", repack=False))
        assert sibling.info.options.repack == session.info.options.repack
        np.testing.assert_allclose(sibling.eval([1, 2, 3]), expected, atol=2e-2 * np.abs(expected).max())
        sibling.close()
        session.eval([4])


def test_the_probe_visits_settings_side_by_side(artifact):
    start = replace(space.start("gguf"), n_threads=1, n_threads_batch=1)
    broken = replace(start, flash_attn="off", type_v="q8_0")
    with probe.Probe(artifact, (0, DEPTH), FAST) as bench:
        bench.start([start, replace(start, flash_attn="off"), replace(start, repack=False), broken])
        for options in (start, replace(start, flash_attn="off"), replace(start, repack=False)):
            assert bench.why_not(options) is None
            assert all(bench.visit(options, phase, depth) > 0 for phase in FAST for depth in (0, DEPTH))
        assert "cannot make a context" in bench.why_not(broken)


def test_a_probe_that_dies_or_is_closed_is_an_error(artifact):
    start = space.start("gguf")
    bench = probe.Probe(artifact, (8,), FAST)
    bench.start([start])
    bench._child.kill()
    with pytest.raises(EngineCrashError, match="died of SIGKILL"):
        bench.visit(start, DECODE, 8)
    bench.stop()
    with pytest.raises(EngineError, match="is over"):
        bench.visit(start, DECODE, 8)


def test_a_model_that_cannot_be_opened_is_told(artifact, tmp_path):
    path = tmp_path / "missing.gguf"
    with (
        probe.Probe(replace(artifact, path=path), (8,), FAST) as bench,
        pytest.raises(EngineError, match="missing"),
    ):
        bench.start([space.start("gguf")])


def run(*arguments: str) -> str:
    result = CliRunner().invoke(tune.command, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_the_command_finds_shows_and_forgets(cache, artifact, monkeypatch):
    monkeypatch.setattr(model_argument, "resolve", lambda *_, **__: artifact)
    monkeypatch.setattr(probe, "VISIT_SECONDS", FAST)
    monkeypatch.setattr(tuning, "_CONFIRM_ROUNDS", 2)
    model = str(artifact.path)
    monkeypatch.setattr(others, "busy_share", lambda: 0.4)
    table = run(model, "--depth", "16,64", "--budget", "2")
    assert "attention" in table and "s of search" in table
    record = json.loads(run(model, "--show", "--json"))
    assert record["how"] == "full" and record["depths"] == [16, 64]
    assert "random, full" in run(model, "--show")
    assert "other programs used 40% of the processors" in run(model, "--show")
    assert run(model, "--forget") == "forgotten\n"
    assert "nothing is remembered" in run(model, "--show")


def test_settings_found_are_those_a_session_opens_with(cache, artifact):
    build = backends.build("gguf")
    tuned.write(artifact, build, tuned.Record("m", {"flash_attn": "off", "n_ubatch": 64}, "full", "now"))
    with backends.open_session(artifact, EngineOptions(n_ctx=64, n_threads=1, tuned=True)) as session:
        assert (session.info.options.flash_attn, session.info.options.n_ubatch) == ("off", 64)
        assert "tuned for this machine: -fa off -ub 64 (edgellm tune --show)" in session.info.notes
    with backends.open_session(artifact, EngineOptions(n_ctx=64, n_threads=1)) as session:
        assert session.info.options.n_ubatch == 512


def test_a_profile_uses_and_records_them(cache, artifact):
    tuned.write(
        artifact,
        backends.build("gguf"),
        tuned.Record("m", {"flash_attn": "off", "n_threads": 3}, "full", "now"),
    )

    def settings(**given: object) -> tuple[str, int]:
        (spec,) = Grid(**given).specs([artifact])
        return spec.settings.flash_attn, spec.settings.n_threads

    assert settings() == ("off", hardware.threads(3))
    assert settings(n_threads=(1,), flash_attn=("on",)) == ("on", 1)
    assert settings(tuned=False) == ("auto", hardware.default_threads())


def test_a_first_look_is_for_models_it_pays_for_and_once(cache, artifact, monkeypatch):
    options = EngineOptions(tuned=True, device="cpu")
    assert not first_look.due(artifact, options)  # tiny
    large = replace(artifact, size_bytes=500 << 20)
    monkeypatch.setattr(others, "busy_share", lambda: 0.5)
    monkeypatch.setattr(others, "load", lambda: 0.0)
    assert not first_look.due(large, options)  # what is found beside others may not hold without them
    monkeypatch.setattr(others, "busy_share", lambda: None)
    assert first_look.due(large, options)
    monkeypatch.setattr(others, "load", lambda: 1.5)
    assert not first_look.due(large, options)
    monkeypatch.setattr(others, "load", lambda: 0.0)
    assert not first_look.due(large, replace(options, tuned=False))
    assert not first_look.due(large, replace(options, flash_attn="on"))
    assert not first_look.due(replace(large, size_bytes=8 << 30), options)
    monkeypatch.setenv("EDGELLM_NO_TUNE", "1")
    assert not first_look.due(large, options)
    monkeypatch.delenv("EDGELLM_NO_TUNE")
    monkeypatch.setattr(first_look, "WORTH_BYTES", (0, 1 << 30))
    monkeypatch.setattr(first_look, "_VISIT_SECONDS", FAST)
    monkeypatch.setattr(first_look, "_DEADLINE_SECONDS", 60.0)
    with open_model.session(artifact, replace(options, n_ctx=64)):
        assert tuned.read(artifact, backends.build("gguf")).how == "quick"
    assert not first_look.due(artifact, options)


def test_a_look_that_takes_too_long_is_given_up_for_good(cache, artifact, monkeypatch):
    monkeypatch.setattr(first_look, "_DEADLINE_SECONDS", 0.0)
    record = first_look.look(artifact)
    assert record.how.startswith("given up") and not record.settings
    assert tuned.read(artifact, backends.build("gguf")) == record


def test_a_model_of_onnx_is_tuned_too(cache, tmp_path):
    source = tinymodels.write(tinymodels.CASES["llama-256"], tmp_path / "source")
    artifact = convert_onnx(OnnxRequest(source, "onnx-int4", tmp_path / "model", hash_sources=False))
    start = replace(space.start("onnx"), n_threads=1, n_threads_batch=1)
    sleepy = replace(start, spin_us=0)
    with probe.Probe(artifact, (0, 64), FAST) as bench:
        bench.start([start, sleepy])
        assert all(bench.visit(options, phase, 64) > 0 for options in (start, sleepy) for phase in FAST)
    tuned.write(artifact, backends.build("onnx"), tuned.Record("m", {"spin_us": 0}, "full", "now"))
    with backends.open_session(artifact, EngineOptions(n_ctx=64, n_threads=1, tuned=True)) as session:
        assert session.info.options.spin_us == 0
        session.eval([1, 2, 3])
        session.stretch(40)
        assert len(session.tokens) == 40 and np.isfinite(session.eval([5])).all()
