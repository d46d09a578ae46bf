"""Boards and laptops as data: what a model meets there - memory, bandwidth, arithmetic, power, meters - with sources.

One TOML file a device, found by scanning this folder; `device("rpi5")` gives it. Knows no model and measures nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources
from typing import Any

from edgellm import toml
from edgellm.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class PowerMode:
    """A setting of the board that trades speed for power."""

    name: str
    watts: float  # its budget, by the maker


@dataclass(frozen=True)
class Published:
    """A speed that somebody measured there and published."""

    model: str
    type: str  # llama.cpp's name of the quantization
    n_params: float
    engine: str
    decode: float | None = None  # tokens a second
    prefill: float | None = None
    watts: float | None = None  # of the whole board, while it decoded
    source: str = ""


@dataclass(frozen=True)
class Device:
    """What a device has. Every figure's public source is in `sources`, under the figure's name."""

    name: str
    title: str
    aliases: tuple[str, ...]
    system: str  # "linux" | "darwin" | "android"
    arch: str  # as `uname -m` says it
    cpu: str
    cpu_features: tuple[str, ...]  # as /proc/cpuinfo names them: what the engine's wheel may use
    cores: int  # that are worth a thread; slower ones beside them are in `cpu`
    clock_hz: float
    int8_per_cycle: int  # multiplications and additions of 8-bit numbers, of one core: 2 x lanes x pipes
    ram_gib: tuple[float, ...]  # sizes that are sold
    system_gib: float  # of it, what system and desktop keep
    peak_gb_per_second: float  # memory, by the data sheet
    read_gb_per_second: float  # memory, as programs read it
    types: tuple[str, ...]  # sensible ones, the first by default
    n_ctx: int
    energy: tuple[str, ...]  # sources of profiles/energy that work there
    sources: Mapping[str, str]
    power_modes: tuple[PowerMode, ...] = ()
    published: tuple[Published, ...] = ()

    @property
    def threads(self) -> int:
        """Threads that compute: one a core."""
        return self.cores

    @property
    def read_bytes_per_second(self) -> float:
        """Bytes that all cores together read from memory in a second."""
        return self.read_gb_per_second * 1e9

    @property
    def int8_operations_per_second(self) -> float:
        """The most that the cores' 8-bit products can do: cores x clock x operations a cycle."""
        return self.cores * self.clock_hz * self.int8_per_cycle

    def free_bytes(self, ram_gib: float | None = None) -> int:
        """Bytes a program may have on the size named, or else on the largest that is sold."""
        size = max(self.ram_gib) if ram_gib is None else ram_gib
        return round((size - self.system_gib) * 2**30)


def device(name: str) -> Device:
    """The device called so, by its name or an alias. Raises UsageError, with the nearest name."""
    wanted = name.lower().replace("_", "-").replace(" ", "-")
    names = {alias: found for found in devices() for alias in (found.name, *found.aliases)}
    if wanted in names:
        return names[wanted]
    hint = did_you_mean(wanted, names, f"known are {', '.join(found.name for found in devices())}")
    raise UsageError(f"there is no device {name!r}; {hint}")


@cache
def devices() -> tuple[Device, ...]:
    """All that are known, by name."""
    folder = resources.files(__package__)
    found = [each for each in folder.iterdir() if each.name.endswith(".toml")]
    return tuple(
        read(each.read_text(encoding="utf-8"), each.name.removesuffix(".toml"))
        for each in sorted(found, key=lambda each: each.name)
    )


def read(text: str, name: str) -> Device:
    """A device from its TOML. Raises ValueError for what is missing, unknown, or has no source."""
    plain: dict[str, Any] = {"name": name, **toml.loads(text)}
    plain["power_modes"] = tuple(PowerMode(**mode) for mode in plain.get("power_modes", ()))
    plain["published"] = tuple(Published(**each) for each in plain.get("published", ()))
    known = {field.name for field in fields(Device)}
    if unknown := plain.keys() - known:
        raise ValueError(f"{name}: unknown {', '.join(sorted(unknown))}")
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in plain.items()
    }
    found = Device(**values)
    sourced = ("clock_hz", "int8_per_cycle", "ram_gib", "peak_gb_per_second", "read_gb_per_second")
    if missing := [figure for figure in sourced if not found.sources.get(figure)]:
        raise ValueError(f"{name}: no source for {', '.join(missing)}")
    if missing := [each.model for each in found.published if not each.source]:
        raise ValueError(f"{name}: no source for the published figures of {', '.join(missing)}")
    return found
