"""Where a model is to run: this machine by its measured kernels, or another by what is known of it.

Of a device that only its memory's bandwidth and its arithmetic are known, each kernel takes the longer of two times:
its bytes at that bandwidth, and what it computes here, by the two machines' int8 arithmetic. So the order of types
carries over as far as kernels are alike, and no further: the interval is wide, and the result says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgellm.errors import UsageError
from edgellm.fit import figures, probe
from edgellm.fit.figures import Beside, Figures, Kernel
from edgellm.fit.model import Build
from edgellm.formats.gguf.types import GGML_TYPES_BY_NAME
from edgellm.machine import hardware
from edgellm.profiles.measure.machine import describe

if TYPE_CHECKING:
    from edgellm.profiles.result.result import Report

ENGINES = ("llamacpp", "onnxruntime")
SPREAD_HERE, SPREAD_RESULT, SPREAD_DEVICE = 0.15, 0.3, 0.5
_REACHED = 0.8  # of a memory's published bandwidth, that reading weights gets to
_REACHED_ARITHMETIC = (
    0.35  # of a core's 8-bit peak that products reach: an estimate, from one AMD core whose peak is assumed
)


@dataclass(frozen=True)
class Place:
    """A machine, as far as predictions go."""

    name: str
    ram: int  # bytes that a model may take
    n_threads: int
    figures: Mapping[str, Figures]  # by engine
    spread: float
    notes: tuple[str, ...] = ()
    joules_per_byte: float | None = None  # to decode, of weights read
    joules_per_operation: float | None = None  # of a prompt
    cache_bytes: int = 0  # its last-level cache, where it is known


def here(
    builds: Iterable[Build], tell: Callable[[str], None], *, measure: bool = True, again: bool = False
) -> Place:
    """This machine, kernels of `builds` timed where they are not known and `measure` is set, or once more `again`."""
    n_threads = hardware.default_threads()
    found = {}
    for engine in ENGINES:
        kernels = {m.kernel for build in builds if build.engine == engine for m in build.matrices}
        if not kernels:
            continue
        known = (
            probe.here(engine, n_threads, kernels, tell, again=again)
            if measure
            else figures.read(engine, n_threads, probe.build(engine))
        )
        if known is not None:
            found[engine] = known
    cache = describe().last_level_cache_bytes or 0
    return Place("this machine", hardware.available_bytes(), n_threads, found, SPREAD_HERE, cache_bytes=cache)


def named(local: Place, name: str) -> Place:
    """The machine of a device profile, or of a result file. Raises UsageError, ResultError."""
    from pathlib import Path

    from edgellm.profiles.devices import device
    from edgellm.profiles.result.result import read

    if name.endswith(".json"):
        return measured_elsewhere(local, read(Path(name)), Path(name).stem)
    found = device(name)
    place = elsewhere(
        local,
        found.title,
        found.free_bytes(),
        found.read_bytes_per_second,
        _REACHED_ARITHMETIC * found.int8_operations_per_second,
        found.threads,
    )
    sizes = ", ".join(f"{size:g}" for size in found.ram_gib)
    return replace(
        place,
        notes=(*place.notes, f"sold with {sizes} GiB; the largest is assumed, --ram SIZE says otherwise"),
    )


def elsewhere(
    local: Place,
    name: str,
    ram: int,
    read_bytes_per_second: float,
    operations_per_second: float | None,
    n_threads: int,
) -> Place:
    """A device by its figures, with this machine's kernels for a measure. Raises UsageError where that has none."""
    found = {
        engine: _carried(own, read_bytes_per_second, operations_per_second)
        for engine, own in local.figures.items()
    }
    note = (
        f"{name}: from its memory's bandwidth and its arithmetic, by this machine's kernels; "
        "nothing was measured there"
    )
    return Place(name, ram, n_threads, found, SPREAD_DEVICE, (note,))


def measured_elsewhere(local: Place, report: Report, name: str) -> Place:
    """A machine that a result is from: its ceilings, and how its runs compare with them. Raises UsageError."""
    machine = report.machine
    ceiling = max(machine.ceilings, key=lambda c: c.n_threads, default=None)
    if ceiling is None or not ceiling.read_bytes_per_second:
        raise UsageError(f"{name} holds no ceilings of its machine; measure it again without --no-roofline")
    operations = (ceiling.operations_per_second or {}).get("int8")
    ram = machine.memory_limit_bytes or machine.memory_bytes or 0
    place = elsewhere(local, name, ram, ceiling.read_bytes_per_second, operations, ceiling.n_threads)
    note = f"{name}: from the ceilings measured there, by this machine's kernels"
    by_byte, by_operation = _joules(report)
    return replace(
        place, spread=SPREAD_RESULT, notes=(note,), joules_per_byte=by_byte, joules_per_operation=by_operation
    )


def _joules(report: Report) -> tuple[float | None, float | None]:
    """What a byte of weights and an operation cost there, over all runs that tell."""
    by_byte, by_operation = [], []
    for run in report.runs:
        means = {m.name: sum(m.samples) / len(m.samples) for m in run.measurements if m.samples}
        if run.limits.bytes_per_token and "decode_joules_per_token" in means:
            by_byte.append(means["decode_joules_per_token"] / run.limits.bytes_per_token)
        if run.limits.operations_per_token and "prefill_joules_per_token" in means:
            by_operation.append(means["prefill_joules_per_token"] / run.limits.operations_per_token)
    first, second = (sum(v) / len(v) if v else None for v in (by_byte, by_operation))
    return first, second


def _carried(own: Figures, bandwidth: float, operations: float | None) -> Figures:
    slower = own.operations_per_second / operations if own.operations_per_second and operations else 1.0
    kernels = {
        name: Kernel(
            max(kernel.decode * slower, _bytes(name) / (_REACHED * bandwidth)),
            kernel.decode_output * slower,
            kernel.prefill * slower,
            kernel.prefill_output * slower,
        )
        for name, kernel in own.kernels.items()
    }
    return replace(own, kernels=kernels, beside=own.beside and _slower(own.beside, slower))


def _slower(beside: Beside, by: float) -> Beside:
    times = ("token", "layer", "row", "head", "head_value", "prefill_head", "prefill_head_value")
    return replace(beside, **{name: getattr(beside, name) * by for name in times})


def _bytes(kernel: str) -> float:
    """Of a weight."""
    type_ = kernel.partition("/")[0].removeprefix("experts ")
    if type_ in GGML_TYPES_BY_NAME:
        return GGML_TYPES_BY_NAME[type_].bits_per_weight / 8
    return {"fp32": 4.0, "w8a8": 1.0}.get(type_, 0.54 if type_.startswith("int4") else 1.1)
