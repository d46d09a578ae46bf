"""What a process may use: affinity and cgroup limits count, not the host's size."""

import os

import pytest

from edgellm import hardware


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "_CGROUP", tmp_path)
    return tmp_path


def test_cores_are_counted_within_affinity():
    cpu = hardware.cpu()
    assert 1 <= cpu.n_physical <= cpu.n_logical == len(os.sched_getaffinity(0))


def test_a_quota_of_one_and_a_half_cpus_means_one_thread(cgroup):
    (cgroup / "cpu.max").write_text("150000 100000\n")
    assert hardware.default_threads() == 1


def test_no_quota_means_all_cores(cgroup):
    (cgroup / "cpu.max").write_text("max 100000\n")
    assert hardware.default_threads() == hardware.cpu().n_physical


def test_a_quota_below_one_still_gives_a_thread(cgroup):
    (cgroup / "cpu.max").write_text("20000 100000\n")
    assert hardware.default_threads() == 1


def test_the_cgroup_limit_bounds_memory(cgroup):
    (cgroup / "memory.max").write_text("1000000\n")
    (cgroup / "memory.current").write_text("400000\n")
    assert hardware.available_bytes() == 600000


def test_an_unlimited_cgroup_leaves_the_machine(cgroup):
    (cgroup / "memory.max").write_text("max\n")
    (cgroup / "memory.current").write_text("400000\n")
    assert hardware.available_bytes() > 10**6
