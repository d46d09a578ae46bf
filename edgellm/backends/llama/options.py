"""What llama.cpp is opened with, where the caller left it to us: chosen by looking at the machine and the model."""

from __future__ import annotations

from dataclasses import replace

from edgellm.backends import checkpoints, checks, tuned
from edgellm.backends.llama import canary, memory, memory_estimate, remote
from edgellm.backends.llama import devices as llama_devices
from edgellm.errors import option
from edgellm.formats.artifact import Artifact
from edgellm.machine import devices, hardware
from edgellm.machine.devices import Device
from edgellm.session import EngineOptions
from edgellm.units import format_size

_DEVICE_SHARE = 0.9  # of a device's free memory, at most: drivers and others take some
_COMPUTE_BYTES = 512 << 20  # of a device's memory, kept for the graph's intermediate results


def resolve(
    artifact: Artifact, options: EngineOptions, notes: list[str]
) -> tuple[EngineOptions, Device | None]:
    """The options with nothing left open, and the device beside the CPU; each fallback is noted."""
    device = devices.choose(options.device, llama_devices.offer(), notes)
    if device is None:
        options = tuned.apply(artifact, canary.library_key(), options, notes)
        options = memory.fit(artifact, _checked_repacking(options, notes), notes)
    else:
        if device.kind == devices.RPC:
            device = remote.ask(device)
            options = _checked_repacking(options, notes)  # of the layers that stay here
        n_ctx = options.n_ctx or memory.default_ctx(artifact)
        options = memory_estimate.with_defaults(replace(options, n_ctx=n_ctx))
    checks.note_window(options.n_ctx or 0, artifact.n_ctx_train, notes)
    n_checkpoints = checkpoints.capacity(memory_estimate.state_bytes(artifact))
    options = replace(
        checks.with_threads(options, notes),
        n_checkpoints=n_checkpoints if options.n_checkpoints is None else options.n_checkpoints,
        repack=options.repack is not False,
        device=device.word if device else devices.CPU,
    )
    options = replace(options, n_gpu_layers=_gpu_layers(artifact, options, device, notes))
    if device is not None and device.kind == devices.RPC:
        n_layer = _n_layer(artifact)
        notes.append(
            f"{min(options.n_gpu_layers or 0, n_layer)} of {n_layer} layers lie on {device.name}; "
            "what passes between is not encrypted, and memory and energy are measured on this machine alone"
        )
    return options, device


def _checked_repacking(options: EngineOptions, notes: list[str]) -> EngineOptions:
    """Repacking off where its kernels were found broken; else as it was."""
    if options.repack is not None:
        return options
    verdict = canary.verdict()
    if verdict.note:
        notes.append(verdict.note)
    return options if verdict.repack_works else replace(options, repack=False)


def _n_layer(artifact: Artifact) -> int:
    """Layers as llama.cpp counts them for devices: the output is one."""
    return int(artifact.metadata.get(f"{artifact.architecture}.block_count", 0)) + 1


def _gpu_layers(artifact: Artifact, options: EngineOptions, device: Device | None, notes: list[str]) -> int:
    """Layers for the device: all that fit in its free memory, unless the caller says how many."""
    asked = options.n_gpu_layers
    if device is None:
        if asked:
            notes.append(
                f"{option('n_gpu_layers')} {asked} is without effect: the model runs on the CPU; see: edgellm doctor"
            )
        return 0
    if asked is not None:
        return asked
    n_layer = _n_layer(artifact)
    if device.free_bytes is None:
        return n_layer
    kv_bytes = (memory_estimate.kv_bytes_per_token(artifact, options) or 0) * (options.n_ctx or 0)
    kv_bytes += memory_estimate.state_bytes(artifact) or 0
    if device.kind == devices.RPC:
        return _remote_layers(device.free_bytes, n_layer, artifact.size_bytes + kv_bytes, notes)
    room = _DEVICE_SHARE * device.free_bytes - _COMPUTE_BYTES
    fit = int(room * n_layer / (artifact.size_bytes + kv_bytes))
    if fit >= n_layer:
        return n_layer
    notes.append(
        f"{max(fit, 0)} of {n_layer} layers fit on {device.name}, the rest runs on the CPU; "
        f"set {option('n_gpu_layers')}"
    )
    return max(fit, 0)


def _remote_layers(free_bytes: int, n_layer: int, needed_bytes: float, notes: list[str]) -> int:
    """Layers for other machines: their share of all memory, this machine's included, but one layer at least."""
    here = hardware.available_bytes()
    if needed_bytes > here + free_bytes:
        notes.append(
            f"this model needs {format_size(needed_bytes)}; {format_size(here)} is available here and "
            f"{format_size(free_bytes)} on the servers: expect it to be slow, or add a server"
        )
    return max(1, round(n_layer * free_bytes / (here + free_bytes)))
