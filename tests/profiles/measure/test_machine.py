"""The machine's description and the noise of others, on fake trees and on this machine."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgellm.machine import noise
from edgellm.machine.noise import NoiseWatch
from edgellm.profiles.measure import machine


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_sysfs_facts(tmp_path):
    cpu = "sys/devices/system/cpu"
    tree(
        tmp_path,
        {
            f"{cpu}/cpu0/cpufreq/scaling_governor": "powersave\n",
            f"{cpu}/cpu0/cpufreq/scaling_cur_freq": "1800000\n",
            f"{cpu}/cpu1/cpufreq/scaling_cur_freq": "2200000\n",
            f"{cpu}/cpu0/cpufreq/cpuinfo_max_freq": "4700000\n",
            f"{cpu}/smt/active": "1\n",
            f"{cpu}/cpu0/microcode/version": "0xb4\n",
            f"{cpu}/cpu0/cache/index0/level": "1\n",
            f"{cpu}/cpu0/cache/index0/size": "48K\n",
            f"{cpu}/cpu0/cache/index3/level": "3\n",
            f"{cpu}/cpu0/cache/index3/size": "32768K\n",
            "sys/fs/cgroup/memory.max": "4294967296\n",
            "etc/os-release": 'NAME="X"\nPRETTY_NAME="Some Linux 12"\n',
        },
    )
    here = machine.describe(tmp_path)
    assert (here.governor, here.frequency_mhz, here.frequency_max_mhz) == ("powersave", 2000.0, 4700.0)
    assert (here.smt, here.microcode, here.last_level_cache_bytes) == (True, "0xb4", 32 << 20)
    assert (here.memory_limit_bytes, here.os) == (4 << 30, "Some Linux 12")


def test_what_a_system_does_not_tell_is_none(tmp_path):
    here = machine.describe(tmp_path)
    assert (here.governor, here.frequency_mhz, here.smt, here.memory_limit_bytes) == (None, None, None, None)
    assert here.python.split()[1] == ".".join(map(str, sys.version_info[:3]))
    assert "llama-cpp-python" in here.libraries


def test_a_guest_says_whose(tmp_path):
    tree(tmp_path, {"sys/class/dmi/id/sys_vendor": "QEMU\n", "sys/class/dmi/id/product_name": "KVM Guest\n"})
    assert machine.hypervisor({"hypervisor"}, tmp_path) == "QEMU KVM Guest"
    assert machine.hypervisor({"avx2"}, tmp_path) is None
    assert machine.hypervisor({"hypervisor"}, tmp_path / "bare") == "unknown kind"


def test_throttling_and_quota_are_differences(tmp_path):
    cpu = "sys/devices/system/cpu/cpu0/thermal_throttle"
    files = {
        f"{cpu}/core_throttle_count": "5",
        f"{cpu}/package_throttle_count": "2",
        "sys/fs/cgroup/cpu.stat": "usage_usec 1\nnr_throttled 10\n",
    }
    watch = NoiseWatch(tree(tmp_path, files))
    tree(tmp_path, {f"{cpu}/core_throttle_count": "8", "sys/fs/cgroup/cpu.stat": "nr_throttled 14\n"})
    record = watch.record()
    assert (record.throttle_events, record.quota_throttled) == (3, 4)
    assert NoiseWatch(tmp_path / "none").record().throttle_events is None


def test_a_moment_is_too_short_to_tell(monkeypatch):
    monkeypatch.setattr(noise.time, "perf_counter", lambda: 1.0)
    record = NoiseWatch().record()
    assert (record.foreign_share, record.steal_share) == (None, None)


def test_another_process_is_foreign_load_and_our_own_work_is_not():
    spin = "import time; t = time.time() + 5\nwhile time.time() < t: pass"
    other = subprocess.Popen([sys.executable, "-c", spin])
    try:
        time.sleep(0.2)
        watch, end = NoiseWatch(), time.perf_counter() + 0.8
        while time.perf_counter() < end:
            pass
        share = watch.record().foreign_share
    finally:
        other.kill()
        other.wait()
    import psutil

    assert share is not None
    assert share > 0.25 / (psutil.cpu_count() or 1)  # it had a core, or a fair part of one
    assert share <= 1.0 - 0.02 / (psutil.cpu_count() or 1)  # ours is not in it


@pytest.mark.parametrize("size", ["", "odd", "12M"])
def test_an_odd_cache_size_is_unknown(tmp_path, size):
    cache = "sys/devices/system/cpu/cpu0/cache/index3"
    tree(tmp_path, {f"{cache}/level": "3", f"{cache}/size": size})
    assert machine.last_level_cache(tmp_path / "sys/devices/system/cpu") is None


@pytest.mark.skipif(sys.platform != "linux", reason="psutil reads a folder there")
def test_a_system_that_hides_its_power_supplies_tells_of_none(monkeypatch):
    import psutil._pslinux

    monkeypatch.setattr(psutil._pslinux, "POWER_SUPPLY_PATH", "/nowhere")
    assert machine.power_source() is None
