"""Context, cache types, mmap and repacking so that a model fits in the memory there is; everything counted.

What a model takes is weights, the copy its CPU kernels want in another order, KV cache and scratch memory
(memory_estimate.py). A mapped file and its repacked copy are both resident at first, though the kernel may drop the
mapped pages. What the user set is not touched. Of what is open, that goes first which costs the user least.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from edgellm.backends import checkpoints
from edgellm.backends.llama import memory_estimate
from edgellm.errors import EdgellmError, option
from edgellm.formats.artifact import Artifact
from edgellm.machine import hardware
from edgellm.session import EngineOptions
from edgellm.units import format_size

DEFAULT_CTX = 4096  # what a chat needs; a model's full window may ask for more memory than there is
MIN_CTX = 512
_SHARE = 0.9  # of available memory, at most: others start too
_ROOM_FACTOR, _ROOM_BYTES = 2.5, 1 << 30  # a model that leaves this much is not looked at more closely


def fit(artifact: Artifact, options: EngineOptions, notes: list[str]) -> EngineOptions:
    """`options` with context, cache types and mmap settled so that all fits; what had to give is noted.

    `repack` is settled by the caller but may be turned off here when it was left open (`None`).
    """
    available = hardware.available_bytes()
    first = memory_estimate.with_defaults(replace(options, n_ctx=options.n_ctx or default_ctx(artifact)))
    if first.n_checkpoints is None:
        first = replace(first, n_checkpoints=checkpoints.capacity(memory_estimate.state_bytes(artifact)))
    per_token = memory_estimate.kv_bytes_per_token(artifact, first)
    if per_token is None:
        if artifact.size_bytes > available:
            notes.append(
                f"this model's file alone is {format_size(artifact.size_bytes)} and {format_size(available)} is "
                "available: expect it to be slow; use fewer bits"
            )
        return first
    kv_bytes = (first.n_ctx or 0) * per_token + (memory_estimate.state_bytes(artifact) or 0)
    kv_bytes += memory_estimate.checkpoint_bytes(artifact, first) or 0
    if _ROOM_FACTOR * artifact.size_bytes + kv_bytes + _ROOM_BYTES < available:
        return first
    budget = _SHARE * available
    least, least_bytes = first, float("inf")
    for candidate, words in _ladder(options, first):
        needed = peak_bytes(artifact, candidate)
        if needed is None:
            return first
        if needed <= budget:
            notes.extend(words)
            return candidate
        if needed < least_bytes:
            least, least_bytes = candidate, needed
    notes.append(
        f"this model needs {format_size(least_bytes)} and {format_size(available)} is available: expect it to be "
        f"slow; use fewer bits, or a smaller {option('n_ctx')}"
    )
    return least


def default_ctx(artifact: Artifact) -> int:
    """The model's window, at most what a chat needs."""
    return min(artifact.n_ctx_train or DEFAULT_CTX, DEFAULT_CTX)


def peak_bytes(artifact: Artifact, options: EngineOptions) -> float | None:
    """What the process holds when loaded, mapped pages included; None when the header does not tell."""
    try:
        buffers = memory_estimate.predict(artifact, options)
    except (EdgellmError, KeyError):
        return None
    both = options.use_mmap and buffers.repacked
    return buffers.total + (max(0, artifact.size_bytes - buffers.weights) if both else 0)


def _ladder(options: EngineOptions, first: EngineOptions) -> Iterator[tuple[EngineOptions, list[str]]]:
    """What to try, the least painful first, each with what to tell the user."""
    yield first, []
    lean: list[str] = []
    if options.n_checkpoints is None and (first.n_checkpoints or 0) > checkpoints.LEAST:
        lean = [
            "fewer states are kept to go back to, for want of memory: editing old turns evaluates more again"
        ]
        first = replace(first, n_checkpoints=checkpoints.LEAST)
        yield first, lean
    unmapped = first
    if options.use_mmap is None and first.repack is not False:
        lean = [
            *lean,
            "reading the model into memory instead of mapping it: mapped and repacked copies do not fit both",
        ]
        unmapped = replace(first, use_mmap=False)
        yield unmapped, lean
    asked = first.n_ctx or 0
    small: list[tuple[dict[str, object], str]] = []
    if options.n_ctx is None:
        while (n_ctx := asked >> (len(small) + 1)) >= MIN_CTX:
            small.append(
                (
                    {"n_ctx": n_ctx},
                    f"context reduced from {asked} to {n_ctx} tokens to fit in memory; set it with {option('n_ctx')}",
                )
            )
    elif options.type_k is None and options.type_v is None and options.flash_attn != "off":
        types: dict[str, object] = {"type_k": "q8_0", "type_v": "q8_0"}
        small = [
            (
                types,
                f"KV cache in q8_0, so that {asked} tokens fit in memory; {option('type_k')} f16 "
                f"{option('type_v')} f16 insists",
            )
        ]
    for change, words in small:
        yield replace(unmapped, **change), [*lean, words]  # type: ignore[arg-type]
    if options.repack is None and first.repack is not False:
        plain = replace(first, repack=False)
        off = "weights are not repacked, slower: the copy does not fit in memory"
        yield plain, [off]
        for change, words in small:
            yield replace(plain, **change), [off, words]  # type: ignore[arg-type]
