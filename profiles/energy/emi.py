"""Windows 11: the Energy Metering Interface, through which Windows lends the processor's counters to every user.

A device of interface class GUID_DEVICE_ENERGY_METER answers four control codes: version, size of its description,
description, and measurement, which has picowatt-hours and a time in 100 ns for each channel (Windows SDK, emi.h).
On most machines the channels are RAPL's: `RAPL_Package0_PKG`, `..._DRAM` beside it, `..._PP0` and `..._PP1` inside.
Written after the documentation and tested on recorded layouts, never run on Windows.
"""

from __future__ import annotations

import platform
import re
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgellm.machine.vendor_library import RESOLUTION_SECONDS, pace
from edgellm.profiles.energy import EnergyLostError, Reading

#: CTL_CODE(FILE_DEVICE_UNKNOWN, n, METHOD_BUFFERED, FILE_READ_ACCESS) for n of 0 to 3.
GET_VERSION, GET_METADATA_SIZE, GET_METADATA, GET_MEASUREMENT = (0x224000 + 4 * n for n in range(4))
JOULES_PER_PICOWATT_HOUR = 3.6e-9
_TOTAL = re.compile(r"(PKG|DRAM)$")
_UPDATE_SECONDS = 0.001  # as the processor counts; a slower pace is found by watching


class Device(Protocol):
    """An open energy meter."""

    def ioctl(self, code: int, size: int) -> bytes:
        """The device's answer, at most `size` bytes. Raises OSError."""
        ...


@dataclass(frozen=True)
class _Meter:
    device: Device
    channels: tuple[str, ...]

    def joules(self) -> list[float]:
        """Of each channel since some moment in the past."""
        answer = self.device.ioctl(GET_MEASUREMENT, 16 * len(self.channels))
        return [energy * JOULES_PER_PICOWATT_HOUR for energy, _ in struct.iter_unpack("<QQ", answer)]


class Emi:
    """Every channel of every device; those inside a package are kept apart."""

    name = "emi"
    kind = "counter"
    covers = "processor"
    recipe = ""

    def __init__(
        self,
        devices: Callable[[], Sequence[Device]],
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._devices, self._sleep, self._clock = devices, sleep, clock
        self.update_period_seconds = _UPDATE_SECONDS
        self._meters: list[_Meter] = []
        self._first: dict[str, float] = {}

    @property
    def parts(self) -> frozenset[str]:
        """Channels inside a package's."""
        names = [name for meter in self._meters for name in meter.channels]
        return frozenset(name for name in names if len(names) > 1 and not _TOTAL.search(name))

    @property
    def scope(self) -> str:
        """What is counted, and what is left out."""
        names = sorted({name for meter in self._meters for name in meter.channels} - self.parts)
        return f"{', '.join(names) or 'packages'} for all processes; without disk, display, GPU card"

    def why_not(self) -> str | None:
        """Look for devices, for channels that make a total, and for life."""
        try:
            self._meters = [_described(device) for device in self._devices()]
            if not self._meters:
                return "Windows lends no energy meter here (Windows 10, virtual machines, some processors)"
            names = tuple(self._now())
            found = pace(lambda: sum(self._now().values()), self._clock, self._sleep)
        except (OSError, ValueError, struct.error) as error:
            return str(error)
        if not set(names) - self.parts:
            return f"none of the channels {', '.join(names)} is known to hold the others"
        if found is None:
            return "the energy meter's counters do not move"
        self.update_period_seconds = _UPDATE_SECONDS if found < RESOLUTION_SECONDS else found
        return None

    def read(self) -> Reading:
        """Joules of each channel since the first call."""
        if not self._meters and (why := self.why_not()):
            raise EnergyLostError(why)
        try:
            now = self._now()
        except (OSError, struct.error) as error:
            raise EnergyLostError(f"Windows' energy meter can no longer be read: {error}") from error
        for name, value in now.items():
            if value < self._first.setdefault(name, value):
                raise EnergyLostError(f"the counter of {name} went backwards")
        return Reading(time.perf_counter(), {name: value - self._first[name] for name, value in now.items()})

    def _now(self) -> dict[str, float]:
        return {
            name: joules
            for meter in self._meters
            for name, joules in zip(meter.channels, meter.joules(), strict=True)
        }


def find(root: Path = Path("/")) -> Emi:
    """The meter of this machine; a folder tree has no devices."""
    if platform.system() != "Windows" or root != Path("/"):
        return Emi(_not_windows)
    return Emi(_windows_devices)


def _not_windows() -> Sequence[Device]:
    raise OSError("not Windows")


def _described(device: Device) -> _Meter:
    (version,) = struct.unpack("<H", device.ioctl(GET_VERSION, 2))
    (size,) = struct.unpack("<I", device.ioctl(GET_METADATA_SIZE, 4))
    return _Meter(device, tuple(parse_metadata(version, device.ioctl(GET_METADATA, size))))


def parse_metadata(version: int, data: bytes) -> list[str]:
    """Names of a device's channels, in order. Raises ValueError, struct.error.

    Version 1: unit (4 bytes), maker and model (16 UTF-16 characters each), revision, size of the name, name.
    Version 2: maker, model, revision, number of channels; for each unit (4 bytes), size of the name, name.
    """
    if version == 1:
        unit, size = struct.unpack_from("<I64x2xH", data)
        return [_channel(unit, data[72 : 72 + size])]
    if version != 2:
        raise ValueError(f"Windows' energy meter speaks version {version}, known are 1 and 2")
    (count,) = struct.unpack_from("<H", data, 66)
    at, found = 68, []
    for _ in range(count):
        unit, size = struct.unpack_from("<IH", data, at)
        found.append(_channel(unit, data[at + 6 : at + 6 + size]))
        at += 6 + size  # not aligned: EMI_CHANNEL_V2_NEXT_CHANNEL adds just this
    return found


def _channel(unit: int, name: bytes) -> str:
    if unit != 0:
        raise ValueError(f"Windows' energy meter counts in unit {unit}; only 0, picowatt-hours, is known")
    return name.decode("utf-16-le").rstrip("\0")


def _windows_devices() -> Sequence[Device]:
    """Open every energy meter. Raises OSError."""
    import ctypes

    windows: Any = ctypes
    guid = bytes.fromhex("448bd345d67ecf49a440c276c933b053")  # 45bd8344-7ed6-49cf-a440-c276c933b053
    setup, length = windows.WinDLL("cfgmgr32"), ctypes.c_ulong()
    setup.CM_Get_Device_Interface_List_SizeW(ctypes.byref(length), guid, None, 0)
    names = ctypes.create_unicode_buffer(length.value)
    setup.CM_Get_Device_Interface_ListW(guid, None, names, length, 0)
    return [_WindowsDevice(path) for path in ctypes.wstring_at(names, length.value).split("\0") if path]


class _WindowsDevice:
    """A device by its path."""

    def __init__(self, path: str) -> None:
        import ctypes

        windows: Any = ctypes
        self._kernel = windows.WinDLL("kernel32", use_last_error=True)
        self._kernel.CreateFileW.restype = ctypes.c_void_p
        generic_read, share, open_existing = 0x80000000, 3, 3
        handle = self._kernel.CreateFileW(path, generic_read, share, None, open_existing, 0, None)
        if handle in (None, ctypes.c_void_p(-1).value):
            raise windows.WinError(windows.get_last_error())
        self._handle = ctypes.c_void_p(handle)

    def ioctl(self, code: int, size: int) -> bytes:
        """The answer to a control code."""
        import ctypes

        windows: Any = ctypes
        answer, length = ctypes.create_string_buffer(size), ctypes.c_ulong()
        done = self._kernel.DeviceIoControl(
            self._handle, code, None, 0, answer, size, ctypes.byref(length), None
        )
        if not done:
            raise windows.WinError(windows.get_last_error())
        return answer.raw[: length.value]
