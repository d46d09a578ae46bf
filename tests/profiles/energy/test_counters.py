"""perf's and Windows' roads to the processor's counters: fake trees, recorded layouts, one real system call."""

import os
import struct
from pathlib import Path

import pytest

from edgellm.profiles.energy import EnergyLostError
from edgellm.profiles.energy.emi import GET_MEASUREMENT, GET_METADATA, GET_METADATA_SIZE, GET_VERSION, Emi
from edgellm.profiles.energy.perf import Perf, open_event, parse_cpus

SCALE = 2.0**-32
JOULE = round(1 / SCALE)


def tree(root: Path, *events: str, cpumask: str = "0") -> Path:
    folder = root / "sys/bus/event_source/devices/power"
    (folder / "events").mkdir(parents=True)
    (folder / "type").write_text("9\n")
    (folder / "cpumask").write_text(f"{cpumask}\n")
    for number, event in enumerate(events, 1):
        (folder / "events" / event).write_text(f"event=0x{number:02x}\n")
        (folder / "events" / f"{event}.scale").write_text("2.3283064365386962890625e-10\n")
    return folder


class Counting:
    """The kernel's side: each read of an event's file descriptor gives its next count, eight bytes."""

    def __init__(self, *rounds: dict[tuple[int, int], int]) -> None:
        self._rounds = rounds  # (config, cpu) -> count
        self.opened: dict[tuple[int, int], int] = {}

    def __call__(self, kind: int, config: int, cpu: int) -> int:
        assert kind == 9
        reading, self.opened[config, cpu] = os.pipe()
        for counts in self._rounds:
            os.write(self.opened[config, cpu], struct.pack("<Q", counts[config, cpu]))
        return reading

    def close(self) -> None:
        for writing in self.opened.values():
            os.close(writing)


def perf(root: Path, kernel: Counting) -> Perf:
    return Perf(root, kernel, sleep=lambda seconds: None)


def test_perf_counts_packages_and_their_memory_and_not_psys(tmp_path):
    tree(tmp_path, "energy-cores", "energy-pkg", "energy-ram", "energy-psys", cpumask="0,32")
    rounds = [
        {(2, 0): n * JOULE, (2, 32): 2 * n * JOULE, (3, 0): n * JOULE // 2, (3, 32): n * JOULE // 4}
        for n in (1, 2, 6)
    ]
    kernel = Counting(*rounds)
    meter = perf(tmp_path, kernel)
    assert meter.why_not() is None
    assert meter.read().channels == pytest.approx(
        {"package-0": 6, "package-1": 12, "package-0/dram": 3, "package-1/dram": 1.5}
    )
    assert {config for config, _ in kernel.opened} == {2, 3}
    assert "without disk" in meter.scope
    kernel.close()


def test_perf_takes_psys_only_where_there_is_no_package(tmp_path):
    tree(tmp_path, "energy-psys", cpumask="0-1")
    kernel = Counting({(1, 0): 0}, {(1, 0): JOULE}, {(1, 0): 3 * JOULE})
    meter = perf(tmp_path, kernel)
    assert meter.why_not() is None and meter.read().channels == {"psys": pytest.approx(3)}
    kernel.close()


def test_perf_dead_forbidden_and_absent(tmp_path):
    assert "is missing" in str(perf(tmp_path, Counting()).why_not())
    tree(tmp_path, "energy-pkg")
    dead = Counting({(1, 0): JOULE}, {(1, 0): JOULE})
    assert "do not move" in str(perf(tmp_path, dead).why_not())
    dead.close()
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/perf_event_paranoid").write_text("2\n")

    def forbidden(kind: int, config: int, cpu: int) -> int:
        raise PermissionError(13, "Permission denied")

    why = str(Perf(tmp_path, forbidden).why_not())
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
        first = struct.unpack("<Q", os.read(fd, 8))[0]
        for _ in range(200_000):
            pass
        assert struct.unpack("<Q", os.read(fd, 8))[0] > first
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
    return Emi(lambda: devices, sleep=lambda seconds: None)


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
