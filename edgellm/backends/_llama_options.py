"""What llama.cpp is opened with, where the caller left it to us: chosen by looking at the machine and the model."""

from __future__ import annotations

from dataclasses import replace

from edgellm import devices, hardware
from edgellm.artifact import Artifact
from edgellm.backends import _canary, _llama_devices, _llama_lib
from edgellm.devices import Device
from edgellm.session import EngineOptions
from edgellm.tuning import store

DEFAULT_CTX = 4096  # what a chat needs; a model's full window may ask for more memory than there is
_KV_SHARE = 0.5  # of available memory, at most, for the KV cache chosen by default
_DEVICE_SHARE = 0.9  # of a device's free memory, at most: drivers and others take some
_COMPUTE_BYTES = 512 << 20  # of a device's memory, kept for the graph's intermediate results

#: What llama.cpp itself defaults to.
DEFAULTS = EngineOptions(n_batch=2048, n_ubatch=512, type_k="f16", type_v="f16", use_mmap=True)


def resolve(
    artifact: Artifact, options: EngineOptions, notes: list[str]
) -> tuple[EngineOptions, Device | None]:
    """The options with nothing left open, and the device beside the CPU; each fallback is noted."""
    device = devices.choose(options.device, _llama_devices.offer(), notes)
    if device is None:
        options = store.apply(artifact, _canary.library_key(), options, notes)
    options = with_defaults(options)
    threads = options.n_threads or hardware.default_threads()
    options = replace(
        options,
        n_threads=threads,
        n_threads_batch=options.n_threads_batch or threads,
        n_ctx=options.n_ctx or _fitting_ctx(artifact, options, notes),
        repack=_repack(options, notes),
        device=device.kind if device else devices.CPU,
    )
    return replace(options, n_gpu_layers=_gpu_layers(artifact, options, device, notes)), device


def with_defaults(options: EngineOptions) -> EngineOptions:
    """llama.cpp's own defaults in the places left open that do not depend on machine or model."""
    names = ("n_batch", "n_ubatch", "type_k", "type_v", "use_mmap")
    missing = {name: getattr(DEFAULTS, name) for name in names if getattr(options, name) is None}
    return replace(options, **missing)


def _repack(options: EngineOptions, notes: list[str]) -> bool:
    if options.repack is not None:
        return options.repack
    verdict = _canary.verdict()
    if verdict.note:
        notes.append(verdict.note)
    return verdict.repack_works


def _fitting_ctx(artifact: Artifact, options: EngineOptions, notes: list[str]) -> int:
    """The model's window, at most the default, halved until its KV cache fits in available memory."""
    n_ctx = min(artifact.n_ctx_train or DEFAULT_CTX, DEFAULT_CTX)
    budget = _KV_SHARE * hardware.available_bytes()
    wanted = n_ctx
    while n_ctx > 512 and n_ctx * kv_bytes_per_token(artifact, options) > budget:
        n_ctx //= 2
    if n_ctx < wanted:
        notes.append(f"context reduced from {wanted} to {n_ctx} tokens to fit in memory; set it with -c")
    return n_ctx


def _gpu_layers(artifact: Artifact, options: EngineOptions, device: Device | None, notes: list[str]) -> int:
    """Layers for the device: all that fit in its free memory, unless the caller says how many."""
    asked = options.n_gpu_layers
    if device is None:
        if asked:
            notes.append(f"-ngl {asked} is without effect: the model runs on the CPU; see: edgellm doctor")
        return 0
    if asked is not None:
        return asked
    n_layer = (
        int(artifact.metadata.get(f"{artifact.architecture}.block_count", 0)) + 1
    )  # and the output layer
    if device.free_bytes is None:
        return n_layer
    kv_bytes = kv_bytes_per_token(artifact, options) * (options.n_ctx or 0)
    room = _DEVICE_SHARE * device.free_bytes - _COMPUTE_BYTES
    fit = int(room * n_layer / (artifact.size_bytes + kv_bytes))
    if fit >= n_layer:
        return n_layer
    notes.append(
        f"{max(fit, 0)} of {n_layer} layers fit on {device.name}, the rest runs on the CPU; set -ngl"
    )
    return max(fit, 0)


def kv_bytes_per_token(artifact: Artifact, options: EngineOptions) -> float:
    """Bytes of KV cache one token takes: n_layer * n_head_kv * head_dim * (bytes of K + bytes of V)."""
    meta, prefix = artifact.metadata, artifact.architecture
    heads = meta.get(f"{prefix}.attention.head_count", 1)
    heads_kv = meta.get(f"{prefix}.attention.head_count_kv", heads)
    head_dim = meta.get(f"{prefix}.embedding_length", 0) // heads
    dim_k = meta.get(f"{prefix}.attention.key_length", head_dim)
    dim_v = meta.get(f"{prefix}.attention.value_length", head_dim)
    options = with_defaults(options)
    assert options.type_k and options.type_v
    per_layer = (
        dim_k * _llama_lib.kv_type(options.type_k).bytes_per_value
        + dim_v * _llama_lib.kv_type(options.type_v).bytes_per_value
    )
    return float(meta.get(f"{prefix}.block_count", 1) * heads_kv * per_layer)
