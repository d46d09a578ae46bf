"""What a process may use: affinity and cgroup limits count, not the host's size."""

import os

import psutil
import pytest

from edgellm.machine import hardware


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "_CGROUP", tmp_path)
    monkeypatch.setattr(hardware, "_MEMBERSHIP", tmp_path / "membership")
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
    assert hardware.available_bytes() == pytest.approx(psutil.virtual_memory().available, rel=0.2)


def test_the_tightest_group_on_the_way_to_the_root_counts(cgroup):
    (cgroup / "membership").write_text("0::/user/app\n")
    inner = cgroup / "user/app"
    inner.mkdir(parents=True)
    (inner / "cpu.max").write_text("max 100000\n")
    (cgroup / "user/cpu.max").write_text("100000 100000\n")
    (inner / "memory.max").write_text("9000000\n")
    (inner / "memory.current").write_text("8000000\n")
    (inner / "memory.stat").write_text("anon 5\ninactive_file 500000\n")
    assert hardware.default_threads() == 1
    assert hardware.available_bytes() == 1500000  # pages of files nobody reads would be dropped


def test_version_one_groups_limit_too(cgroup):
    (cgroup / "membership").write_text("5:cpu,cpuacct:/box\n4:memory:/box\n")
    for folder, values in {
        "cpu/box": {"cpu.cfs_quota_us": "150000", "cpu.cfs_period_us": "100000"},
        "memory/box": {"memory.limit_in_bytes": "7000000", "memory.usage_in_bytes": "4000000"},
        "memory": {"memory.limit_in_bytes": f"{(1 << 63) - 4096}", "memory.usage_in_bytes": "1"},
    }.items():
        (cgroup / folder).mkdir(parents=True, exist_ok=True)
        for name, value in values.items():
            (cgroup / folder / name).write_text(value + "\n")
    assert hardware.default_threads() == 1
    assert hardware.available_bytes() == 3000000


def test_a_group_without_a_quota_of_version_one(cgroup):
    (cgroup / "cpu").mkdir()
    (cgroup / "cpu/cpu.cfs_quota_us").write_text("-1\n")
    (cgroup / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert hardware.default_threads() == (hardware.fast_cores() or hardware.cpu().n_physical)


def test_efficient_cores_are_left_out_where_sysfs_tells(tmp_path):
    usable = frozenset(range(4))
    assert hardware._fast(usable, tmp_path) is None
    (tmp_path / "cpu_core").mkdir()
    (tmp_path / "cpu_atom").mkdir()
    (tmp_path / "cpu_core/cpus").write_text("0-1\n")
    assert hardware._fast(frozenset({0, 2, 3}), tmp_path) == 1
    assert hardware._fast(frozenset({2, 3}), tmp_path) is None  # only slow ones may be used: all are alike


def test_big_and_little_cores_are_told_by_capacity(tmp_path):
    for index, capacity in enumerate((1024, 446, 446, 446)):
        (tmp_path / f"system/cpu/cpu{index}").mkdir(parents=True)
        (tmp_path / f"system/cpu/cpu{index}/cpu_capacity").write_text(f"{capacity}\n")
    assert hardware._fast(frozenset(range(4)), tmp_path) == 1
    assert hardware._fast(frozenset({1, 2, 3}), tmp_path) is None
