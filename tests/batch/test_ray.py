"""A batch over a real Ray cluster on this machine: three nodes of one processor, processes that are really killed.

The authority is one session that answers one prompt after the other. The command is a program of its own.
"""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import batches
import pytest
import rack
from batches import asked, batch, stopped, texts
from fault_rows import trials
from plain import check, edgellm

from edgellm import files
from edgellm.batch.journal import part_of
from edgellm.catalog import first_use

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="clusters as Linux has them"),
    pytest.mark.wide,
]
N = trials(2000, 120)
deadly_worker = Path(__file__).parents[1] / "helpers" / "deadly_worker.py"


@pytest.fixture(scope="module")
def nodes():
    with rack.rack("a", "b", "c") as running:
        yield running


@pytest.fixture(scope="module")
def alone():
    return batches.alone(N)


def by_node(said):
    """How many rows each node answered, as the command tells."""
    (line,) = re.findall("rows by node: (.*)", said)
    return {name: int(n.replace(",", "")) for name, n in re.findall(r"(\w+) ([\d,]+)", line)}


def wait_for(child, output, n):
    part, deadline = part_of(output), time.monotonic() + 10 * batches.SECONDS
    while child.poll() is None and (not part.exists() or part.read_bytes().count(b"\n") < n):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.fault(18, N)
def test_a_node_that_is_killed_loses_nothing_and_one_that_is_added_is_used(nodes, tmp_path, alone):
    """Row 18."""
    source, output = asked(tmp_path / "rows.jsonl", N), tmp_path / "answers.jsonl"
    with batches.running(source, output, "--slots", "4", "--ray", nodes.address) as child:
        wait_for(child, output, N // 3)
        nodes.kill("a")
        wait_for(child, output, 2 * N // 3)
        nodes.add("d")
        _, said = child.communicate(timeout=10 * batches.SECONDS)
    assert child.returncode == 0, said
    assert texts(output) == alone
    counts = by_node(said.decode())
    assert sum(counts.values()) == N and counts["b"] and counts["c"]
    assert N < 500 or counts["d"]  # before that the rest may be over before it has joined


@pytest.mark.fault(18, N)
def test_a_driver_that_is_killed_goes_on(nodes, tmp_path, alone):
    """Row 18."""
    source, output = asked(tmp_path / "rows.jsonl", N), tmp_path / "answers.jsonl"
    more = ("--slots", "4", "--ray", nodes.address)
    assert stopped(source, output, signal.SIGKILL, N // 3, *more)[0] == -signal.SIGKILL
    done = batch(source, output, "--resume", *more)
    assert done.returncode == 0, done.stderr
    assert "that were there" in check(done.stdout)
    assert texts(output) == alone


def test_a_model_that_is_only_here_travels_once(nodes, tmp_path, alone):
    """Its path means another folder to every process; what the nodes keep of it is the file, under its digest."""
    model = first_use.resolve("tiny-qwen3").path
    shutil.copyfile(model, tmp_path / "only-here.gguf")
    source = asked(tmp_path / "rows.jsonl", 12)
    written = []
    for name in ("first", "again"):
        arguments = ["batch", "/proc/self/cwd/only-here.gguf", "-i", source, "-o", tmp_path / f"{name}.jsonl"]
        done = edgellm(*arguments, *batches.ENGINE, "--ray", nodes.address, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert texts(tmp_path / f"{name}.jsonl") == {f"r{i}": alone[f"r{i}"] for i in range(12)}
        (kept,) = files.cache_dir("shipped").glob("*/*")
        assert kept.read_bytes() == model.read_bytes()
        written.append(kept.stat().st_mtime_ns)
    assert written[0] == written[1]


def test_a_row_that_ends_its_worker_twice_is_an_error_row_and_no_other(nodes, tmp_path, alone):
    asked = [
        {"custom_id": f"r{i}", "prompt": p, **batches.SETTINGS} for i, p in enumerate(batches.prompts(24))
    ]
    asked[3]["user"], asked[13]["user"] = "deadly", "deadly once"
    path = batches.write(tmp_path / "rows.jsonl", asked)
    command = [sys.executable, deadly_worker, nodes.address, path, tmp_path]
    done = subprocess.run([*map(str, command)], capture_output=True, timeout=4 * batches.SECONDS)
    assert done.returncode == 0, done.stderr.decode()
    expected = {**{f"r{i}": alone[f"r{i}"] for i in range(24)}, "r3": "engine_crashed"}
    assert json.loads(done.stdout) == expected


def test_a_cluster_that_is_not_there_is_said(tmp_path):
    done = batch(asked(tmp_path / "rows.jsonl", 1), tmp_path / "answers.jsonl", "--ray", "127.0.0.1:9")
    assert done.returncode == 1 and "no Ray cluster at 127.0.0.1:9" in check(done.stderr)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl"]
