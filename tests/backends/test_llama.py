"""The llama.cpp session on a real, small random model: what it promises beyond one call."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgellm import backends
from edgellm.backends import worker
from edgellm.backends.llama import canary, canary_child
from edgellm.errors import ArtifactError, EngineCrashError, EngineError
from edgellm.formats.artifact import Artifact
from edgellm.session import GREEDY, EngineOptions

N_VOCAB = 512
OPTIONS = EngineOptions(n_ctx=128, n_threads=1)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory) -> Artifact:
    path = tmp_path_factory.mktemp("model") / "random.gguf"
    canary_child.write_model(path)
    return Artifact(path, "gguf", "llama", "random", "Q4_0", path.stat().st_size, 128, None)


@pytest.fixture
def session(artifact):
    with backends.open_session(artifact, OPTIONS) as session:
        yield session


def first(session, tokens, n, sampling=GREEDY) -> list[int]:
    ids = session.stream(tokens, sampling)
    return [next(ids) for _ in range(n)]


def test_a_prompt_longer_than_an_odd_context_size_does_not_abort(artifact):
    """llama.cpp rounds the context up but cuts its batches to what was asked for."""
    with backends.open_session(artifact, EngineOptions(n_ctx=100, n_threads=1)) as session:
        session.eval([1] * min(session.info.n_ctx, 120))
        assert len(session.tokens) == min(session.info.n_ctx, 120)


def test_a_file_that_is_no_model_is_refused(tmp_path):
    path = tmp_path / "not.gguf"
    path.write_bytes(b"hello, I am not a model")
    with pytest.raises(ArtifactError, match=r"not\.gguf"):
        Artifact.open(path)


def test_a_dead_worker_is_an_error(artifact):
    isolated = worker.WorkerSession(artifact, OPTIONS, None, None)
    isolated._child.send_signal(signal.SIGSEGV)
    with pytest.raises(EngineCrashError, match=r"random\.gguf died of SIGSEGV"):
        isolated.eval([1])


def test_the_call_after_a_crash_opens_the_model_again(artifact):
    """The call that crashed is an error, the next one works, with the same options and an empty sequence."""
    with worker.WorkerSession(artifact, OPTIONS, None, None) as isolated:
        before, info = isolated.eval([1, 2, 3]), isolated.info
        for kill in (signal.SIGSEGV, signal.SIGKILL):
            os.kill(isolated.pid, kill)
            with pytest.raises(EngineCrashError, match="died of"):
                isolated.eval([4])
            assert list(isolated.tokens) == []
            assert isolated.eval([1, 2, 3]).tolist() == before.tolist()
            assert isolated.info == info
        pid = isolated.pid
    with pytest.raises(EngineError, match="closed"):
        isolated.eval([1])
    assert isolated.pid == pid


def test_an_answer_cut_by_a_crash_does_not_go_on_in_the_new_engine(artifact):
    with worker.WorkerSession(artifact, OPTIONS, None, None) as isolated:
        ids = isolated.stream([1, 2, 3], GREEDY)
        next(ids)
        os.kill(isolated.pid, signal.SIGKILL)
        with pytest.raises(EngineCrashError):
            isolated.eval([4])
        assert first(isolated, [1, 2, 3], 3)
        with pytest.raises(EngineError, match="ask again"):
            list(ids)
        ids.close()
        assert len(isolated.tokens) > 0


def test_a_worker_that_hangs_is_stopped(artifact):
    isolated = worker.WorkerSession(artifact, OPTIONS, 5.0, None)
    isolated._child.send_signal(signal.SIGSTOP)
    isolated._timeout = 0.2
    with pytest.raises(EngineCrashError, match=r"did not answer in 0\.2 s"):
        isolated.eval([1])


def test_the_canary_finds_this_build_working():
    verdict = canary.run()
    assert verdict.plain_works
    assert verdict.repack_works, verdict.detail


def child(tmp_path: Path, code: str) -> list[str]:
    script = tmp_path / "child.py"
    script.write_text(code)
    return [sys.executable, str(script)]


def test_a_crash_in_repacked_kernels_turns_them_off(tmp_path):
    code = (
        'import os, signal\nprint(\'{"stage": "plain"}\', flush=True)\nos.kill(os.getpid(), signal.SIGILL)\n'
    )
    verdict = canary.run(child(tmp_path, code))
    assert verdict.plain_works and not verdict.repack_works
    assert verdict.detail == "SIGILL"
    assert "CMAKE_ARGS" in verdict.note


def test_wrong_results_turn_repacking_off(tmp_path):
    code = 'print(\'{"stage": "plain"}\\n{"stage": "repack", "nmse": 0.5}\')\n'
    verdict = canary.run(child(tmp_path, code))
    assert not verdict.repack_works
    assert verdict.detail == "wrong results, error 0.5"


def test_nan_results_turn_repacking_off(tmp_path):
    code = 'print(\'{"stage": "plain"}\\n{"stage": "repack", "nmse": NaN}\')\n'
    assert not canary.run(child(tmp_path, code)).repack_works


def test_a_build_that_always_crashes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path / "cache"))
    dead = canary.run(child(tmp_path, "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"))
    assert not dead.plain_works
    monkeypatch.setattr(canary, "run", lambda: dead)
    canary.verdict.cache_clear()
    with pytest.raises(EngineCrashError, match="crashes on this machine"):
        canary.verdict()
    canary.verdict.cache_clear()


def test_the_verdict_is_remembered(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path / "cache"))
    canary.verdict.cache_clear()
    fresh = canary.verdict()
    canary.verdict.cache_clear()
    monkeypatch.setattr(canary, "run", lambda: pytest.fail("ran again"))
    assert canary.verdict() == fresh
    canary.verdict.cache_clear()


def test_another_library_at_the_same_place_is_tried_anew(tmp_path, monkeypatch):
    """pip, conda and container layers put builds of one size and time in one place."""
    folder = tmp_path / "lib"
    folder.mkdir()
    for name in ("libggml-cpu.so", "libllama.so"):
        (folder / name).write_bytes(b"one build")
    monkeypatch.setattr(canary.lib, "library_file", lambda: folder / "libggml-cpu.so")

    def key() -> str:
        canary.library_key.cache_clear()
        return canary.library_key()

    keys = {key()}
    for name in ("libggml-cpu.so", "libllama.so"):
        old = (folder / name).stat()
        (folder / name).write_bytes(b"two build")
        os.utime(folder / name, ns=(old.st_atime_ns, old.st_mtime_ns))
        keys.add(key())
    assert len(keys) == 3
    canary.library_key.cache_clear()


def test_two_processes_try_the_library_at_the_same_time(tmp_path):
    code = "from edgellm.backends.llama import canary; print(canary.verdict().repack_works)"
    environment = {**os.environ, "EDGELLM_CACHE": str(tmp_path / "cache")}
    (tmp_path / "cache").mkdir()
    both = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [process.communicate(timeout=120)[0] for process in both] == ["True\n"] * 3
