"""A batch over a real Ray cluster on this machine: three nodes of one processor, processes that are really killed.

The authority is one session that answers one prompt after the other. The command is a program of its own.
"""

import re
import signal
import sys
import time

import batches
import pytest
import rack
from batches import asked, batch, stopped, texts
from fault_rows import trials
from plain import check

from edgellm.batch.journal import part_of

pytest.importorskip("ray")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="clusters as Linux has them")
N = trials(2000, 120)


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


def test_a_cluster_that_is_not_there_is_said(tmp_path):
    done = batch(asked(tmp_path / "rows.jsonl", 1), tmp_path / "answers.jsonl", "--ray", "127.0.0.1:9")
    assert done.returncode == 1 and "no Ray cluster at 127.0.0.1:9" in check(done.stderr)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl"]
