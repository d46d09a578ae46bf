"""Findings about another machine by its profile: what it has, what is ready here for it, how it would run a model."""

from __future__ import annotations

from collections.abc import Iterator

from edgellm.bundle import engine, outlook, wheels
from edgellm.doctor.machine import Finding
from edgellm.errors import EdgellmError
from edgellm.formats.artifact import Artifact
from edgellm.profiles.devices import Device
from edgellm.units import format_size


def examine(device: Device) -> list[Finding]:
    """The device, and how models come to it. Nothing of it is measured; the profile has the sources."""
    return [*_device(device), *_here(device)]


def explain(artifact: Artifact, device: Device, n_ctx: int | None) -> list[Finding]:
    """How a bundle opens `artifact` there, and what is expected of it. Raises UsageError where it does not fit."""
    return list(_model(artifact, device, n_ctx))


def _device(device: Device) -> Iterator[Finding]:
    def found(name: str, value: str) -> Finding:
        return Finding(device.title, name, value)

    yield found("cpu", f"{device.cpu}; {device.threads} threads by default")
    yield found("features", " ".join(device.cpu_features))
    sizes = ", ".join(f"{size:g}" for size in device.ram_gib)
    yield found("memory", f"{sizes} GiB are sold, of which the system keeps about {device.system_gib:g}")
    rates = f"{device.read_gb_per_second:g} GB/s as programs read it, {device.peak_gb_per_second:g} by the data sheet"
    yield found("bandwidth", rates)
    if device.power_modes:
        yield found("power", ", ".join(f"{mode.name} {mode.watts:g} W" for mode in device.power_modes))
    yield found("energy", ", ".join(device.energy) or "no meter is known")
    yield found("types", f"{', '.join(device.types)}; {device.n_ctx} tokens of context")
    for name, source in sorted(device.sources.items()):
        yield found("source", f"{name}: {source}")


def _here(device: Device) -> Iterator[Finding]:
    try:
        wheels.platforms(device)
        target = engine.of_device(device)
    except EdgellmError as error:
        yield Finding("bundles", "bundle", str(error))
        return
    yield Finding("bundles", "ONNX", "needs no compiler")
    try:
        wheel = engine.kept(target)
        engine.arguments(target)
        command = f"edgellm wheel --for {device.name}"
        yield Finding("bundles", "GGUF", f"built for {target.name}: {wheel or f'not yet, {command}'}")
    except EdgellmError as error:
        yield Finding("bundles", "GGUF", str(error))


def _model(artifact: Artifact, device: Device, n_ctx: int | None) -> Iterator[Finding]:
    found = outlook.look(artifact, device, n_ctx)
    chosen = found.options
    cache = f", {chosen.type_k}/{chosen.type_v} cache" if chosen.type_k else ""
    batch = f", {chosen.n_ubatch} tokens a batch" if chosen.n_ubatch else ""
    settings = f"{chosen.n_threads} threads, {chosen.n_ctx} tokens of context{cache}{batch}"
    yield Finding(artifact.name, "settings", settings)
    if found.full is None:
        yield Finding(
            artifact.name, "memory", f"{found.why[0]}; the file is {format_size(artifact.size_bytes)}"
        )
    else:
        taken = f"{format_size(found.opened)} when it is opened, {format_size(found.full.peak)} with a full context"
        yield Finding(artifact.name, "memory", f"{taken}; fits {device.title} with {found.ram_gib:g} GiB")
    ceiling = device.read_bytes_per_second / artifact.size_bytes
    speed = f"at most {ceiling:.1f} tok/s of decode; edgellm fit MODEL --for {device.name} foretells it"
    yield Finding(artifact.name, "speed", speed)
