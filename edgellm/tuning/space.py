"""What is worth trying, as tables: for each engine the settings that change its speed, and their values.

A knob's first choice is where the search starts, the engine's default. Choices that change what the model computes,
if only in the last bits (KV cache types), are `lossy` and tried on request alone. Measures nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgellm.machine import hardware
from edgellm.session import EngineOptions

#: What a visit measures: decoding, a long prompt, and a short one (for when only a factor matters).
DECODE, PREFILL, SHORT_PREFILL = "decode", "prefill", "short prefill"


@dataclass(frozen=True)
class Knob:
    """One thing to turn: its choices, each a set of EngineOptions' fields, and the phase it is judged by."""

    name: str
    choices: tuple[Mapping[str, Any], ...]
    phase: str = DECODE
    lossy: tuple[Mapping[str, Any], ...] = ()

    def variants(self, current: EngineOptions, *, lossy: bool) -> list[EngineOptions]:
        """`current` and its variants in this knob, each once, `current` first."""
        more = self.lossy if lossy else ()
        return list(
            dict.fromkeys([current, *(replace(current, **choice) for choice in (*self.choices, *more))])
        )


def knobs(format_: str) -> tuple[Knob, ...]:
    """The knobs of the engine that runs `format_`, those that matter most first."""
    threads, batch = _threads("n_threads"), _threads("n_threads_batch")
    return tuple(
        knob
        for knob in {
            "gguf": (
                _ATTENTION,
                Knob("threads", threads),
                _REPACKING,
                Knob("prompt threads", batch, PREFILL),
                Knob("prompt batch", _each("n_ubatch", 512, 256, 128), PREFILL),
            ),
            "onnx": (
                Knob("threads", threads),
                Knob("spinning", _each("spin_us", 2000, 0, 10000)),
                Knob("prompt batch", _each("n_ubatch", 256, 128, 512), PREFILL),
            ),
        }[format_]
        if len(knob.choices) > 1
    )


def quick(format_: str) -> tuple[Knob, ...]:
    """The one knob worth a few seconds at a model's first use."""
    return (_ATTENTION,) if format_ == "gguf" else ()


def turned(name: str, options: EngineOptions) -> dict[str, Any]:
    """The fields that the knob called `name` turns, as `options` have them."""
    for knob in (*knobs("gguf"), *knobs("onnx")):
        if knob.name == name:
            names = dict.fromkeys(field for choice in (*knob.choices, *knob.lossy) for field in choice)
            return {field: getattr(options, field) for field in names}
    return {}


def start(format_: str) -> EngineOptions:
    """Where the search starts: what the engine is opened with when nobody says or remembers anything."""
    cores = hardware.default_threads()
    common = EngineOptions(n_threads=cores, n_threads_batch=cores, device="cpu")
    if format_ == "onnx":
        return replace(common, n_ubatch=256, spin_us=2000)
    return replace(common, flash_attn="on", n_ubatch=512, type_k="f16", type_v="f16")


#: Flash attention and the cache's types belong together: quantized values need it, each pair has kernels of its own.
_ATTENTION = Knob(
    "attention",
    ({"flash_attn": "on"}, {"flash_attn": "off"}),
    lossy=(
        {"flash_attn": "off", "type_k": "q8_0"},
        {"flash_attn": "on", "type_k": "q8_0", "type_v": "q8_0"},
        {"flash_attn": "off", "type_k": "bf16", "type_v": "bf16"},
    ),
)
_REPACKING = Knob("repacking", ({"repack": None}, {"repack": False}))


def _each(field: str, *values: Any) -> tuple[Mapping[str, Any], ...]:
    return tuple({field: value} for value in values)


def _threads(field: str) -> tuple[Mapping[str, Any], ...]:
    """The default, all hardware threads, half the cores, one core left to others; at most four, each once."""
    cores, logical = hardware.default_threads(), hardware.cpu().n_logical
    fast = hardware.fast_cores() or cores
    values = dict.fromkeys(n for n in (cores, logical, fast, cores // 2, cores - 1) if n > 0)
    return _each(field, *list(values)[:5])
