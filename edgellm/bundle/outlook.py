"""How a model is opened on a device, and what to expect of it there, by the predictions of `edgellm fit`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgellm.errors import ArtifactError, UsageError
from edgellm.fit import builds, memory, table
from edgellm.fit.memory import Memory
from edgellm.formats.artifact import Artifact
from edgellm.profiles.devices import Device
from edgellm.session import EngineOptions
from edgellm.units import format_size

if TYPE_CHECKING:
    from edgellm.fit.model import Build
    from edgellm.fit.places import Place
    from edgellm.fit.speed import Speed

#: By how much memory may be off: of twelve models that no cache holds the worst was 8.7% (docs/choosing.md).
SPREAD_MEMORY = 0.1
#: The process of `run` beside what its model takes: peak less model, November 2026 (bench/bundle.py).
RUNTIME_BYTES = {"llamacpp": 41_000_000, "onnxruntime": 79_000_000}
#: Tokens in use when a model has just been opened.
_OPENED = 256
#: What is given up, in this order, where the context does not fit otherwise; a shorter context comes last.
_SAVINGS: tuple[dict[str, Any], ...] = (
    {},
    {"use_mmap": False},
    {"use_mmap": False, "n_ubatch": 128},
    {"use_mmap": False, "n_ubatch": 128, "type_k": "q8_0", "type_v": "q8_0"},
)


@dataclass(frozen=True)
class Outlook:
    """One model on one device."""

    options: EngineOptions  # what is set; the engine chooses the rest
    ram_gib: float  # the size of the device that is meant
    opened: int  # bytes, without which the model is not even opened
    full: Memory | None  # with the whole context in use; None: of a kind whose memory is not known
    speed: Speed | None = None  # of a prompt of 512 tokens and 128 after it
    why: tuple[str, ...] = ()  # what the speed rests on, or why there is none

    def plain(self) -> dict[str, Any]:
        """As bundle.json has it: each figure with the ends of its interval."""
        speeds = {
            "decode_tokens_per_second": self.speed and self.speed.decode,
            "prefill_tokens_per_second": self.speed and self.speed.prefill,
        }
        spread = self.speed.spread if self.speed else 0.0
        return {
            "ram_gib": self.ram_gib,
            "n_ctx": self.options.n_ctx,
            "memory_bytes": self.full and _interval(self.full.peak, SPREAD_MEMORY, 0),
            **{name: rate and _interval(rate, spread, 1) for name, rate in speeds.items()},
            "why": list(self.why),
        }


def look(
    artifact: Artifact,
    device: Device,
    n_ctx: int | None = None,
    ram_bytes: int | None = None,
    place: Place | None = None,
) -> Outlook:
    """With `n_ctx` tokens of context, or the device's, within the model's window and memory. Raises UsageError.

    `ram_bytes` is what the device has; by default the least that it is sold with and that is enough. `place` is the
    device as `fit` knows it, without which no speed is told.
    """
    wanted = min(n_ctx or device.n_ctx, artifact.n_ctx_train or device.n_ctx)
    options = EngineOptions(n_threads=device.threads, n_ctx=wanted)
    sizes = sorted(device.ram_gib) if ram_bytes is None else [ram_bytes / 2**30]
    try:
        (build,) = builds.of_artifact(artifact).types.values()
        _memory(build, _OPENED, options)
    except ArtifactError as error:
        runtime = max(RUNTIME_BYTES.values())
        return Outlook(options, sizes[-1], artifact.size_bytes + runtime, None, None, (str(error),))
    options, size = _settle(build, options, device, sizes)
    assert options.n_ctx
    once = replace(options, use_mmap=False)  # pages of the file beside a copy of them can be dropped
    opened = _memory(build, min(_OPENED, options.n_ctx), once).peak
    full = _memory(build, options.n_ctx, options)
    return Outlook(options, size, opened, full, *_speed(artifact, options.n_ctx, place))


def _settle(
    build: Build, options: EngineOptions, device: Device, sizes: list[float]
) -> tuple[EngineOptions, float]:
    """The options with which it fits, and the size of memory: as asked for in any size, else less in the largest."""
    assert options.n_ctx
    for size in sizes:
        if _memory(build, options.n_ctx, options).peak <= device.free_bytes(size):
            return options, size
    free = device.free_bytes(sizes[-1])
    savings = _SAVINGS if build.engine == "llamacpp" else _SAVINGS[:1]
    for saving in savings:
        less = replace(options, **saving)
        if _memory(build, options.n_ctx, less).peak <= free:
            return less, sizes[-1]
    if longest := min(memory.longest_context(build, free, RUNTIME_BYTES[build.engine], less), options.n_ctx):
        return replace(less, n_ctx=longest), sizes[-1]
    need = _memory(build, _OPENED, less).peak
    raise UsageError(
        f"{device.title} with {sizes[-1]:g} GiB leaves a program {format_size(free)}; "
        f"the model needs {format_size(need)}: take a smaller type (edgellm fit MODEL --for {device.name})"
    )


def _memory(build: Build, n_ctx: int, options: EngineOptions) -> Memory:
    return memory.predict(build, n_ctx, RUNTIME_BYTES[build.engine], options)


def _speed(artifact: Artifact, n_ctx: int, place: Place | None) -> tuple[Speed | None, tuple[str, ...]]:
    if place is None:
        return None, ("no speed was asked for",)
    (row,) = table.make(builds.of_artifact(artifact), place, n_ctx=n_ctx).rows
    return row.speed, (row.speed_reason,) if row.speed_reason else place.notes[:1]


def _interval(value: float, spread: float, digits: int) -> dict[str, float]:
    ends = {"least": value / (1 + spread), "expected": value, "most": value * (1 + spread)}
    return {name: round(end, digits) if digits else int(end) for name, end in ends.items()}
