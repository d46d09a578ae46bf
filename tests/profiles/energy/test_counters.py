"""perf's and Windows' roads to the processor's counters: fake trees, recorded layouts, one real system call."""

import os
import struct
from pathlib import Path

import pytest
from fake_vendors import FakeClock

from edgellm.profiles.energy import EnergyLostError
from edgellm.profiles.energy.emi import GET_MEASUREMENT, GET_METADATA, GET_METADATA_SIZE, GET_VERSION, Emi
from edgellm.profiles.energy.perf import Perf, open_event, parse_cpus, read_count

SCALE = 2.0**-32


def tree(root: Path, *events: str, cpumask: str = "0") -> Path:
    folder = root / "sys/bus/event_source/devices/power"
    (folder / "events").mkdir(parents=True)
    (folder / "type").write_text("9\n")
    (folder / "cpumask").write_text(f"{cpumask}\n")
    for number, event in enumerate(events, 1):
        (folder / "events" / event).write_text(f"event=0x{number:02x}\n")
        (folder / "events" / f"{event}.scale").write_text("2.3283064365386962890625e-10\n")
    return folder


class Kernel:
    """The kernel's side: counts of each event that rise with its power, every `period` of the clock."""

    def __init__(self, watts: dict[tuple[int, int], float], period: float = 0.001) -> None:
        self.clock, self.watts, self.period = FakeClock(), watts, period  # by (config, cpu)
        self.opened: dict[int, tuple[int, int]] = {}

    def open(self, kind: int, config: int, cpu: int) -> int:
        assert kind == 9
        fd = os.open(os.devnull, os.O_RDONLY)
        self.opened[fd] = (config, cpu)
        return fd

    def count(self, fd: int) -> int:
        updates = int(self.clock() / self.period)
        return round(updates * self.period * self.watts[self.opened[fd]] / SCALE)

    def meter(self, root: Path) -> Perf:
        return Perf(root, self.open, self.count, self.clock.sleep, self.clock)


def test_perf_counts_packages_and_their_memory_and_not_psys(tmp_path):
    tree(tmp_path, "energy-cores", "energy-pkg", "energy-ram", "energy-psys", cpumask="0,32")
    kernel = Kernel({(2, 0): 40.0, (2, 32): 60.0, (3, 0): 5.0, (3, 32): 2.5})
    meter = kernel.meter(tmp_path)
    assert meter.why_not() is None and meter.update_period_seconds == 0.001
    before = meter.read().channels
    kernel.clock.sleep(10)
    seen = {name: joules - before[name] for name, joules in meter.read().channels.items()}
    expected = {"package-0": 400, "package-1": 600, "package-0/dram": 50, "package-1/dram": 25}
    assert seen == pytest.approx(expected, rel=1e-3)
    assert {config for config, _ in kernel.opened.values()} == {2, 3}
    assert "without disk" in meter.scope


def test_perf_takes_psys_only_where_there_is_no_package(tmp_path):
    tree(tmp_path, "energy-psys", cpumask="0-1")
    meter = Kernel({(1, 0): 9.0}).meter(tmp_path)
    assert meter.why_not() is None and set(meter.read().channels) == {"psys"}


@pytest.mark.parametrize("period", [0.1, 0.5])
def test_perf_counters_that_move_seldom_are_slow_and_not_dead(tmp_path, period):
    tree(tmp_path, "energy-pkg")
    meter = Kernel({(1, 0): 20.0}, period).meter(tmp_path)
    assert meter.why_not() is None and meter.update_period_seconds == pytest.approx(period, rel=0.05)


def test_perf_dead_forbidden_and_absent(tmp_path):
    assert "is missing" in str(Kernel({}).meter(tmp_path).why_not())
    tree(tmp_path, "energy-pkg")
    assert "do not move" in str(Kernel({(1, 0): 0.0}).meter(tmp_path).why_not())
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/perf_event_paranoid").write_text("2\n")

    def forbidden(kind: int, config: int, cpu: int) -> int:
        raise PermissionError(13, "Permission denied")

    why = str(Perf(tmp_path, forbidden, read_count).why_not())
    assert "perf_event_paranoid is 2" in why and "CAP_PERFMON" in why


def test_perf_lists_of_processors():
    assert parse_cpus("0,32") == [0, 32] and parse_cpus("0-2,5") == [0, 1, 2, 5]


def test_the_system_call_counts_for_real():
    """The kernel's own clock event (type 1, config 0), in place of an energy counter this machine may not have."""
    try:
        fd = open_event(1, 0, 0)
    except OSError as error:
        pytest.skip(f"perf events are closed here: {error}")
    try:
        first = read_count(fd)
        for _ in range(200_000):
            pass
        assert read_count(fd) > first
    finally:
        os.close(fd)


class FakeDevice:
    """An EMI device with the byte layouts of emi.h."""

    def __init__(self, version: int, channels: dict[str, int], unit: int = 0) -> None:
        self.version, self.channels, self.unit = version, channels, unit  # picowatt-hours
        self.step = 10**9

    def ioctl(self, code: int, size: int) -> bytes:
        answers = {
            GET_VERSION: struct.pack("<H", self.version),
            GET_METADATA_SIZE: struct.pack("<I", len(self._metadata())),
            GET_METADATA: self._metadata(),
        }
        if code == GET_MEASUREMENT:
            self.channels = {name: energy + self.step for name, energy in self.channels.items()}
            return b"".join(struct.pack("<QQ", energy, 0) for energy in self.channels.values())[:size]
        return answers[code][:size]

    def _metadata(self) -> bytes:
        names = [f"{name}\0".encode("utf-16-le") for name in self.channels]
        maker = "Microsoft".encode("utf-16-le").ljust(32, b"\0") * 2
        if self.version == 1:
            return struct.pack("<I", self.unit) + maker + struct.pack("<HH", 1, len(names[0])) + names[0]
        channels = b"".join(struct.pack("<IH", self.unit, len(name)) + name for name in names)
        return maker + struct.pack("<HH", 1, len(names)) + channels


def emi(*devices: FakeDevice) -> Emi:
    clock = FakeClock()
    return Emi(lambda: devices, clock.sleep, clock)


def test_windows_channels_inside_a_package_are_kept_apart():
    names = ("RAPL_Package0_PKG", "RAPL_Package0_PP0", "RAPL_Package0_PP1", "RAPL_Package0_DRAM")
    meter = emi(FakeDevice(2, dict.fromkeys(names, 0)))
    assert meter.why_not() is None
    before = meter.read().channels
    after = meter.read().channels
    assert set(after) == set(names) and meter.parts == {"RAPL_Package0_PP0", "RAPL_Package0_PP1"}
    assert after[names[0]] - before[names[0]] == pytest.approx(3.6), "10^9 picowatt-hours are 3.6 J"


def test_a_version_1_device_has_one_channel():
    meter = emi(FakeDevice(1, {"SoC": 5}))
    assert meter.why_not() is None and set(meter.read().channels) == {"SoC"} and not meter.parts


def test_windows_without_meter_dead_unknown_and_lost():
    assert "lends no energy meter" in str(emi().why_not())
    dead = FakeDevice(1, {"SoC": 5})
    dead.step = 0
    assert "do not move" in str(emi(dead).why_not())
    assert "none of the channels A, B" in str(emi(FakeDevice(2, {"A": 0, "B": 0})).why_not())
    assert "version 3" in str(emi(FakeDevice(3, {"A": 0})).why_not())
    assert "unit 7" in str(emi(FakeDevice(2, {"A": 0}, unit=7)).why_not())
    device = FakeDevice(1, {"SoC": 10**12})
    meter = emi(device)
    meter.read()
    device.channels = {"SoC": 0}
    with pytest.raises(EnergyLostError, match="went backwards"):
        meter.read()
