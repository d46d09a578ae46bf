"""Which device a model runs on: the words of `--device`, what an engine offers for them, and what to install for more.

Knows no engine: a backend lists the devices its library sees, and `choose` applies one rule for all of them.
A device named explicitly must be there; `auto` takes the best that is, and says what it left lying about.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgellm.errors import EngineError, UsageError, option
from edgellm.machine import hardware

AUTO, CPU, RPC = "auto", "cpu", "rpc"
_SCHEME = "rpc://"

#: Kinds `auto` takes, best first. The rest (remote machines, drivers that are slower than the CPU) must be named.
_PREFERRED = ("cuda", "rocm", "metal", "musa", "sycl", "vulkan")

#: The kinds that drive a GPU of each vendor, best first. Integrated GPUs are left out: whether they beat the CPU
#: is for the user to find out, not for every start to tell.
_DRIVES = {"NVIDIA": ("cuda", "vulkan"), "Apple": ("metal",)}


@dataclass(frozen=True)
class Device:
    """One device as an engine sees it. Sizes are None where the engine does not tell."""

    kind: str  # what --device calls it: cpu, cuda, metal, vulkan, ...
    name: str  # the engine's own name: CUDA0, CUDAExecutionProvider
    description: str = ""
    free_bytes: int | None = None
    total_bytes: int | None = None
    integrated: bool = False  # shares the machine's memory

    @property
    def word(self) -> str:
        """What --device calls it."""
        return self.name if self.kind == RPC and servers(self.name) else self.kind

    def __str__(self) -> str:
        return f"{self.name} ({self.description})" if self.description else self.name


@dataclass(frozen=True)
class Offer:
    """What one engine has: its devices beside the CPU, and the shell line that installs support for a kind."""

    engine: str  # as people call it
    devices: tuple[Device, ...]
    install: Callable[[str], str | None]  # None: this engine has no support for the kind
    remote: bool = False  # whether it can spread a model over servers on other machines


def choose(wanted: str, offer: Offer, notes: list[str]) -> Device | None:
    """The device for `wanted` (auto, cpu, a kind, an engine's own name, servers); None is the CPU.

    Servers are one device, which is asked for nothing here. Adds a note when `auto` falls back. Raises EngineError
    when what was asked for is not there, UsageError for an address that is none.
    """
    wanted = wanted.lower()
    if there := servers(wanted):
        return _spread(there, offer)
    if wanted == CPU:
        return None
    if wanted != AUTO:
        return _named(wanted, offer)
    usable = [device for device in offer.devices if device.kind in _PREFERRED]
    if usable:
        return min(usable, key=lambda device: (device.integrated, _PREFERRED.index(device.kind)))
    if note := idle_gpu(offer):
        notes.append(note)
    return None


def servers(wanted: str) -> tuple[str, ...]:
    """The servers, each host:port, that `wanted` names (rpc://host:port,...); none where it names no server.

    Raises UsageError for an address that is none.
    """
    if not wanted.lower().startswith(_SCHEME):
        return ()
    found = tuple(one.strip().removeprefix(_SCHEME) for one in wanted.lower().split(","))
    for one in found:
        host, _, port = one.rpartition(":")
        if not host or ":" in host or "/" in host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
            raise UsageError(
                f"{option('device')} {wanted}: {one!r} is no server; write rpc://HOST:PORT,rpc://HOST:PORT"
            )
    if len(set(found)) < len(found):
        raise UsageError(f"{option('device')} {wanted} names a server twice; leave one of them out")
    return found


def spelled(there: Sequence[str]) -> str:
    """What --device calls these servers."""
    return ",".join(_SCHEME + one for one in there)


def _spread(there: tuple[str, ...], offer: Offer) -> Device:
    """Several machines as one device."""
    if offer.remote:
        return Device(RPC, spelled(there))
    line = offer.install(RPC)
    remedy = f"build one that can: {line}" if line else "convert the model to GGUF for llama.cpp, which can"
    raise EngineError(
        f"{option('device')} {spelled(there)} needs an engine that spreads a model over machines, and the installed "
        f"{offer.engine} cannot; {remedy}"
    )


def idle_gpu(offer: Offer) -> str | None:
    """One line about a GPU of this machine that the engine cannot drive, with the remedy; None where there is none."""
    for vendor in hardware.gpu_vendors():
        for kind in _DRIVES.get(vendor, ()):
            if line := offer.install(kind):
                return (
                    f"running on the CPU: the installed {offer.engine} cannot use this machine's {vendor} GPU; "
                    f"to use it: {line} (or {option('device')} cpu)"
                )
    return None


def _named(wanted: str, offer: Offer) -> Device:
    for device in offer.devices:
        if wanted in (device.kind, device.name.lower()):
            return device
    there = ", ".join([CPU, *dict.fromkeys(device.kind for device in offer.devices)])
    line = offer.install(wanted)
    remedy = f"install it with: {line}" if line else f"choose one of: {there}"
    raise EngineError(
        f"{option('device')} {wanted} is not there: the installed {offer.engine} has {there}; {remedy}"
    )
