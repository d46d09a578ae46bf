"""A cache that cannot be written is no reason to stop: said in one line, and the work goes on."""

import errno
import json
import os
import subprocess
import sys

import fault_rows
import faults
import pytest

RUN = [sys.executable, "-m", "edgellm", "run", "--no-stats", "--temp", "0", "-n", "4"]
QUESTION = "What is the capital of France?"
MODELS = ["tiny-qwen3", "tiny-qwen3:onnx-int4"]
SLOW = [
    pytest.param(code, marks=[pytest.mark.slow, pytest.mark.fault(2)]) for code in (errno.ENOSPC, errno.EIO)
]


def notes(errors: str) -> list[str]:
    return [line for line in errors.splitlines() if "going on without the cache" in line]


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return request.param


@pytest.fixture(scope="module")
def answer(model) -> str:
    return subprocess.run([*RUN, model, QUESTION], capture_output=True, text=True, check=True).stdout


def faulty(model, cache, nth, code, *, stays=False) -> faults.Run:
    """A run from whatever is in the cache; files are tried, too."""
    cache.mkdir(exist_ok=True)
    fault = faults.Fault(cache, nth, code, stays=stays)
    return faults.run([*RUN, model, QUESTION], fault, EDGELLM_CACHE=str(cache), EDGELLM_NO_TRIAL="")


def test_a_cache_that_cannot_be_made_stops_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path / "file" / "cache"))
    done = subprocess.run([*RUN, "--json", MODELS[0], QUESTION], capture_output=True, text=True)
    assert (done.returncode, len(notes(done.stderr))) == (0, 1)
    assert json.loads(done.stdout)["text"].startswith("The capital")


@pytest.mark.wide
@faults.needed
@pytest.mark.fault(2)
@pytest.mark.parametrize("code", [errno.EROFS, *SLOW])
def test_a_read_only_or_full_cache_stops_nothing(tmp_path, model, answer, code):
    done = faulty(model, tmp_path / "cache", 1, code, stays=True)
    assert (done.code, done.out, len(notes(done.errors))) == (0, answer, 1), done.errors
    assert "Traceback" not in done.errors


@faults.needed
@pytest.mark.slow
@pytest.mark.fault(2, 0)
def test_any_one_call_that_fails_in_the_cache_stops_nothing(tmp_path, model, answer, request):
    """Each in turn, from an empty cache: canary, conversion, the record of the trial."""
    total = faulty(model, tmp_path / "0", 0, errno.EIO).n_calls
    numbers = range(1, total + 1, max(1, total // fault_rows.trials(total, 3)))
    for nth in numbers:
        run = faulty(model, tmp_path / f"{nth}", nth, errno.EIO)
        assert (run.code, run.out) == (0, answer), run.errors
        assert "Traceback" not in run.errors
    request.node.user_properties.append(("fault", (2, len(numbers))))


@pytest.mark.wide
@faults.needed
def test_a_cache_that_may_only_be_read_is_read(tmp_path, model, answer):
    cache = tmp_path / "cache"
    environment = {**os.environ, "EDGELLM_CACHE": str(cache), "EDGELLM_NO_TRIAL": ""}
    subprocess.run([*RUN, model, QUESTION], check=True, capture_output=True, env=environment)
    done = faulty(model, cache, 1, errno.EROFS, stays=True)
    assert (done.code, done.out, done.errors) == (0, answer, "")
