"""Numbers that are none: NaN in a model's weights must be an error, never an answer of `!!!!!`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tinymodels

from edgellm import backends
from edgellm.backends import checks, worker
from edgellm.catalog import conversion
from edgellm.errors import EngineError
from edgellm.formats import onnx_folder
from edgellm.formats.artifact import Artifact
from edgellm.formats.gguf.reader import read_header
from edgellm.generation import scoring
from edgellm.generation.constraints import Grammar
from edgellm.generation.speculative import Lookup
from edgellm.session import GREEDY, EngineOptions, Sampling

OPTIONS = EngineOptions(n_ctx=128, n_threads=1, repack=False)
QUANTS = {"llama": "F16", "ort": "onnx-fp32"}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return tinymodels.write(tinymodels.CASES["llama"], tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module", params=backends.names())
def sound(request, source, tmp_path_factory) -> Artifact:
    quant = QUANTS[request.param]
    output = tmp_path_factory.mktemp(request.param) / (quant if quant.startswith("onnx") else "tiny.gguf")
    return conversion.convert_checkpoint(source, output, quant)


def damage(path: Path) -> None:
    """Overwrite in place: a GGUF file's last norm, all of an ONNX folder's weights, with NaN."""
    if path.is_dir():
        names = onnx_folder.external_files(path / "model.onnx")
        spans = [(path / name, 0, (path / name).stat().st_size) for name in names]
    else:
        norm = read_header(path).tensors["output_norm.weight"]
        spans = [(path, norm.offset, norm.nbytes)]
    for file, start, size in spans:
        with file.open("r+b") as handle:
            handle.seek(start)
            handle.write(b"\xff" * size)  # a NaN in every float type


@pytest.fixture(scope="module")
def damaged(sound, tmp_path_factory) -> Artifact:
    path = tmp_path_factory.mktemp("damaged") / sound.path.name
    (shutil.copytree if sound.path.is_dir() else shutil.copy)(sound.path, path)
    damage(path)
    return Artifact.open(path)


CALLS = {
    "eval": lambda s: s.eval([1, 2, 3]),
    "eval_all": lambda s: s.eval_all([1, 2, 3]),
    "hidden": lambda s: s.hidden([1, 2, 3]),
    "greedy": lambda s: next(s.stream([1, 2, 3], GREEDY)),
    "sampled": lambda s: next(s.stream([1, 2, 3], Sampling(seed=1))),
    "draft tokens": lambda s: next(s.stream([1, 2, 3], GREEDY, drafter=Lookup())),
    "constraint": lambda s: next(
        s.stream([1, 2, 3], GREEDY, constraint=Grammar.json_schema({"type": "integer"}).start(s, 9))
    ),
    "scoring": lambda s: scoring.score(s, "a text to score"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_model_that_gives_nan_is_an_error_in_one_line(damaged, call):
    with (
        backends.open_session(damaged, OPTIONS) as session,
        pytest.raises(EngineError, match=r"NaN or infinite .* convert or download it again") as caught,
    ):
        call(session)
    assert "\n" not in str(caught.value)


def test_the_worker_says_the_same(damaged):
    with (
        worker.open_isolated(damaged, OPTIONS) as session,
        pytest.raises(EngineError, match="NaN or infinite"),
    ):
        next(session.stream([1, 2, 3], GREEDY))


@pytest.mark.parametrize("drafter", [None, Lookup()], ids=["one by one", "draft tokens"])
@pytest.mark.skipif(sys.platform != "linux", reason="a mapped file is overwritten while it is open")
def test_a_file_overwritten_while_it_is_mapped_ends_the_answer(sound, tmp_path, drafter):
    if sound.format == "onnx":
        pytest.skip("ONNX Runtime has copied these weights")
    path = shutil.copy(sound.path, tmp_path / "open.gguf")
    options = EngineOptions(n_ctx=128, n_threads=1, repack=False, use_mmap=True, device="cpu")
    with backends.open_session(Artifact.open(path), options) as session:
        ids = session.stream([1, 2, 3], GREEDY, drafter=drafter)
        assert [next(ids) for _ in range(3)]
        damage(path)
        with pytest.raises(EngineError, match="overwritten while open"):
            list(ids)


@pytest.mark.parametrize("command", [("run", "--raw"), ("embed",), ("eval",)], ids=lambda c: c[0])
def test_commands_print_one_line_and_no_answer(damaged, command, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("A text that is long enough to be looked at. " * 20)
    tail = {"run": ["hello", "-n", "5"], "embed": ["hello"], "eval": ["-f", str(text), "-c", "64"]}
    name, *flags = command
    done = subprocess.run(
        [sys.executable, "-m", "edgellm", name, *flags, str(damaged.path), *tail[name]],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "EDGELLM_CACHE": str(tmp_path / "cache")},
    )
    assert done.returncode == 1 and "NaN or infinite" in done.stderr and "Traceback" not in done.stderr
    assert "!!" not in done.stdout and "nan" not in done.stdout.lower()


def test_bytes_are_judged_as_numpy_judges_floats():
    """Every kind of float32 by its bits: NaN of all signs, infinities, the largest, subnormals."""
    info = _Info()
    patterns = [
        0x7F800000,
        0xFF800000,
        0x7FC00000,
        0xFFFFFFFF,
        0x7F800001,
        0x7F7FFFFF,
        0xFF7FFFFF,
        1,
        0,
        1 << 31,
    ]
    patterns += [int(i) for i in np.random.default_rng(0).integers(0, 1 << 32, 3000)]
    for bits in patterns:
        values = np.zeros(7, np.uint32)
        values[3] = bits
        floats = values.view(np.float32)
        assert _refused(checks.check_finite_bytes, values.tobytes(), info) != np.isfinite(floats).all()
        assert _refused(checks.check_finite, floats, info) != np.isfinite(floats).all()


class _Info:
    backend, device = "llamacpp", "cpu"


def _refused(check, values, info) -> bool:
    try:
        check(values, info)
    except EngineError:
        return True
    return False
