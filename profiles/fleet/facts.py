"""What a node is, in the few facts that people choose boards by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgellm.version import __version__


@dataclass(frozen=True)
class Facts:
    """One machine as it is now. Sizes are bytes; None: the system does not tell."""

    edgellm: str  # versions
    python: str
    engines: Mapping[str, str]
    cpu: str | None
    cores: int | None  # physical
    threads: int | None  # logical, that may be used
    memory_bytes: int | None
    available_bytes: int
    os: str
    energy: tuple[str, ...]  # meters that work
    models: Mapping[str, int]  # that need no download: bytes by name


def here(models: Mapping[str, int]) -> Facts:
    """This machine's."""
    from edgellm.machine import hardware
    from edgellm.profiles import energy
    from edgellm.profiles.measure import machine

    found = machine.describe()
    return Facts(
        edgellm=__version__,
        python=found.python,
        engines={
            name: found.libraries[name]
            for name in ("llama-cpp-python", "onnxruntime")
            if name in found.libraries
        },
        cpu=found.cpu_model,
        cores=found.physical_cores,
        threads=found.usable_cores,
        memory_bytes=found.memory_bytes,
        available_bytes=hardware.available_bytes(),
        os=found.os,
        energy=tuple(meter.name for meter in energy.meters() if meter.why_not() is None),
        models=models,
    )
