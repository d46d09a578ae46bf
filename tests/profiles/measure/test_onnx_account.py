"""Where an ONNX model's memory goes, drawn up by ourselves: every part checked against files, shapes and the kernel."""

import sys
from dataclasses import replace

import profile_samples as samples
import pytest
import tinymodels
from places import HELPERS

from edgellm.convert.onnx.writer import OnnxRequest, convert_onnx
from edgellm.profiles.measure import buffers, child
from edgellm.profiles.measure.launch import LaunchRequest
from edgellm.profiles.result.result import MemoryPhase, MemoryRecord
from edgellm.profiles.result.settings import Workload
from edgellm.session import EngineInfo, EngineOptions

SMALL = Workload(n_prompt=32, n_gen=8, repetitions=2, launches=1)
KIB = 1024


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    source = tinymodels.write(tinymodels.CASES["llama-256"], folder / "source")
    return convert_onnx(OnnxRequest(source, "onnx-fp32", folder / "out"))


def data_bytes(artifact) -> int:
    return sum(path.stat().st_size for path in artifact.path.glob("model.onnx*"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_launch_is_taken_apart(artifact, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", str(HELPERS))
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path))
    options = EngineOptions(n_threads=1)
    launch = child.launch(LaunchRequest(str(artifact.path), SMALL, options), lambda text: None)
    tiny = tinymodels.CASES["llama-256"]
    per_token = 2 * tiny.n_layer * tiny.n_head_kv * tiny.head_size * 4  # keys and values in float32
    found, split = launch.memory.engine, launch.memory.split
    assert found and split and found.source == "own accounting"
    assert found.kv == per_token * (32 + 8)
    top = max(launch.memory.phases, key=lambda phase: phase.peak or 0)
    assert split.weights + split.kv + split.compute + split.rest == top.peak
    assert min(split.weights, split.kv, split.compute, split.rest) >= 0
    mapped = next(p for p in launch.memory.phases if p.phase == "repetitions").weights_mapped
    assert found.weights == (mapped or data_bytes(artifact))
    told = buffers.foretell(artifact, options, launch)
    assert told.memory.predicted is None
    assert told.memory.split_reason == "ONNX Runtime's scratch memory is not foretold"


def account(artifact, phases, per_token: float | None = 100.0):
    info = EngineInfo(
        "ort", "1", "", EngineOptions(n_ctx=64, n_threads=1), 64, 384, frozenset({1}), add_bos=False
    )
    info = replace(info, kv_bytes_per_token=per_token)
    return buffers.account(artifact, info, SMALL, MemoryRecord(tuple(phases), "phase"))


def phases(mapped: int | None) -> list[MemoryPhase]:
    """peak, resident, anonymous, file, weights mapped, swap, pss."""
    return [
        MemoryPhase("load", 9_000 * KIB, 8_000 * KIB, 3_000 * KIB, 5_000 * KIB, mapped, 0, 0),
        MemoryPhase("prefill", 9_500 * KIB, 9_000 * KIB, 3_700 * KIB, 5_100 * KIB, mapped, 0, 0),
        MemoryPhase("repetitions", 9_200 * KIB, 9_000 * KIB, 3_600 * KIB, 5_100 * KIB, mapped, 0, 0),
    ]


def test_what_is_mapped_is_weights_and_the_rest_of_the_file_was_copied(artifact):
    on_disk = data_bytes(artifact)
    found = account(artifact, phases(on_disk - 700 * KIB)).engine
    assert found and (found.weights, found.repacked) == (on_disk - 700 * KIB, 700 * KIB)
    assert found.kv == 100 * 40
    # The most private memory was 9,500 - 5,100 KiB in prefill; loading left 3,000 of it; the cache is not scratch.
    assert found.compute == (4_400 - 3_000) * KIB - 4_000
    found = account(artifact, phases(on_disk - 4_000 * KIB)).engine
    assert found and found.repacked == 3_000 * KIB, "no more was copied than there is private memory"
    read = account(artifact, phases(0)).engine
    assert read and (read.weights, read.repacked) == (on_disk, 0), "read into memory, not mapped"


@pytest.mark.parametrize(
    ("made", "per_token"),
    [(phases(None), 100.0), (phases(5), None), (phases(5)[1:], 100.0), (phases(5)[:1], 100.0)],
)
def test_what_the_system_does_not_tell_is_not_guessed(artifact, made, per_token):
    found = account(artifact, made, per_token)
    assert found.engine is None and found.split is None
    assert found.split_reason == "neither the engine nor this system tells what its memory is for"


def test_a_prediction_needs_a_header_that_tells_enough(artifact):
    launch = samples.launch(0)
    told = buffers.foretell(artifact, EngineOptions(), launch)
    assert told.memory.split_reason == "ONNX Runtime's scratch memory is not foretold"
    kept = replace(launch, memory=replace(launch.memory, split_reason="the first reason"))
    assert buffers.foretell(artifact, EngineOptions(), kept).memory.split_reason == "the first reason"
