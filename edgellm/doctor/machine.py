"""Findings about this machine and the engines on it, each a line with its remedy. Prints nothing."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass

from edgellm import privacy
from edgellm.errors import EdgellmError, EngineError
from edgellm.machine import devices, hardware
from edgellm.machine.devices import Offer
from edgellm.units import count
from edgellm.version import __version__

#: CPU flags (Linux's names) that change how fast quantized models run, by what they bring.
_FEATURES = (
    ("AVX2", ("avx2",)),
    ("FMA", ("fma",)),
    ("F16C", ("f16c",)),
    ("AVX-VNNI", ("avx_vnni",)),
    ("AVX512", ("avx512f", "avx512bw")),
    ("AVX512-VNNI", ("avx512_vnni",)),
    ("AVX512-BF16", ("avx512_bf16",)),
    ("AMX-INT8", ("amx_int8",)),
    ("AMX-BF16", ("amx_bf16",)),
    ("NEON", ("asimd",)),
    ("DOTPROD", ("asimddp",)),
    ("I8MM", ("i8mm",)),
    ("SVE", ("sve",)),
)


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report."""

    section: str
    name: str
    value: str
    ok: bool = True


def examine() -> list[Finding]:
    """Look at everything. Runs the engine's canary if this build was not tried on this CPU before."""
    return [*_machine(), *_llamacpp(), *_onnxruntime(), *_energy()]


def cpu_features() -> list[str]:
    """Names of the features of `_FEATURES` this CPU has."""
    cpu = hardware.cpu()
    return [name for name, flags in _FEATURES if cpu.has(*flags)]


def _machine() -> Iterator[Finding]:
    cpu = hardware.cpu()
    yield Finding(
        "machine",
        "cpu",
        f"{cpu.name}, {count(cpu.n_physical, 'core')}, {count(cpu.n_logical, 'thread')} usable",
    )
    yield Finding("machine", "features", " ".join(cpu_features()) or "unknown on this system")
    fast = hardware.fast_cores()
    cores = f"{fast} fast of {cpu.n_physical} cores" if fast else "cores"
    yield Finding(
        "machine", "threads", f"{hardware.default_threads()} by default ({cores}, affinity, cgroup quota)"
    )
    yield Finding("machine", "memory", f"{hardware.available_bytes() / 2**30:.1f} GiB available")
    if vendors := hardware.gpu_vendors():
        yield Finding("machine", "GPU", " ".join(vendors))
    yield Finding("machine", "system", f"{platform.system()} {platform.release()} {platform.machine()}")
    yield Finding("machine", "edgellm", f"{__version__}, Python {platform.python_version()}")


def _llamacpp() -> Iterator[Finding]:
    from edgellm.backends.llama import canary, lib
    from edgellm.backends.llama import devices as llama_devices

    section = "llama.cpp"
    try:
        yield Finding(section, "library", f"{lib.version()}, {lib.library_file()}")
        yield Finding(section, "built with", lib.system_info())
        verdict = canary.verdict()
    except EdgellmError as error:
        yield Finding(section, "library", str(error), ok=False)
        return
    yield Finding(
        section, "canary", verdict.note or "plain and repacked kernels work and agree", verdict.repack_works
    )
    yield _devices(llama_devices.offer())
    yield from _missing_features()


def _devices(offer: Offer) -> Finding:
    """What the engine can run on, and what to install for a GPU it leaves idle."""
    there = ", ".join(["cpu", *(f"{device.kind}: {device}" for device in offer.devices)])
    idle = None if offer.devices else devices.idle_gpu(offer)
    return Finding(offer.engine, "devices", f"{there}; {idle}" if idle else there)


def _missing_features() -> Iterator[Finding]:
    """Features the CPU has and the library was built without: speed left lying about."""
    from edgellm.backends.llama import lib

    spelled = {"AVX2": "AVX2", "AVX512": "AVX512", "AVX512-VNNI": "AVX512_VNNI", "AVX512-BF16": "AVX512_BF16"}
    spelled |= {"AMX-INT8": "AMX_INT8", "NEON": "NEON", "DOTPROD": "DOTPROD", "I8MM": "MATMUL_INT8"}
    built = lib.system_info()
    lacking = [name for name in cpu_features() if name in spelled and f"{spelled[name]} = 1" not in built]
    if lacking:
        yield Finding(
            "llama.cpp",
            "not built in",
            f"{' '.join(lacking)}; for more speed: {lib.rebuild_command()}",
        )


def _onnxruntime() -> Iterator[Finding]:
    from importlib.metadata import distributions

    found = sorted(
        {name for d in distributions() if (name := d.metadata["Name"] or "").startswith("onnxruntime")}
    )
    engines = [name for name in found if name in ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml")]
    if len(engines) > 1:
        value = f"{' and '.join(engines)} overwrite each other; keep one: pip uninstall {engines[-1]}"
        yield Finding("ONNX Runtime", "library", value, ok=False)
        return
    try:
        onnxruntime = privacy.onnxruntime()
    except EngineError as error:
        yield Finding("ONNX Runtime", "library", str(error), ok=False)
        return
    yield Finding("ONNX Runtime", "library", f"onnxruntime {onnxruntime.__version__}")
    yield Finding("ONNX Runtime", "providers", " ".join(onnxruntime.get_available_providers()))
    from edgellm.backends.ort import devices as ort_devices

    yield _devices(ort_devices.offer())


def _energy() -> Iterator[Finding]:
    from edgellm.profiles import energy

    for meter in energy.meters():
        why = meter.why_not()
        yield Finding("energy", meter.name, f"not measured: {why}" if why else f"works ({meter.scope})")
        if why and "udev" in why:
            yield Finding("energy", "udev rule", meter.recipe)
