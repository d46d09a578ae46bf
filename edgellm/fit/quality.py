"""What a type is expected to cost in quality: mean KLD against F16, in nats, without running the model.

The divergence grows with the square of what rounding adds to the outputs, so it is the mean error of the weights, by
the type each tensor really gets - rows that fit no blocks of a type have another one - times a factor. The factor was
about ten on Qwen2.5-Coder-0.5B for four GGUF types of six times the error between them, and eight on Llama 3 8B's
Q4_K_M; it is a fiftieth of that on the bundled models, which know little and are sure of it. So this orders types and
tells their rough size, within a factor of two; `edgellm recommend --measure` measures. Measured models have theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from edgellm import toml
from edgellm.fit.model import Build

_OPEN_TEXT, _SMALL_WORLD = 10.0, 0.2
_SMALL_WEIGHTS = 50e6  # models below were trained on little


@dataclass(frozen=True)
class Loss:
    """Mean KLD in nats, and where it is from."""

    kld: float
    source: str  # "measured" | "predicted"


def expected(build: Build) -> Loss | None:
    """Of a build; None where a type's error is not known."""
    table = _table()
    for model in table["measured"]:
        if _is(model, build) and build.type in model:
            return Loss(float(model[build.type]), "measured")
    errors, sensitivity = table["error"], table["sensitivity"]
    if not build.matrices or any(matrix.type not in errors for matrix in build.matrices):
        return None
    total = sum(matrix.n_weights for matrix in build.matrices)
    error = sum(
        matrix.n_weights * errors[matrix.type] * sensitivity.get(matrix.kind, 1.0)
        for matrix in build.matrices
    )
    factor = _OPEN_TEXT if total >= _SMALL_WEIGHTS else _SMALL_WORLD
    return Loss(factor * error / total, "predicted")


def _is(model: dict[str, Any], build: Build) -> bool:
    """Whether this is the very shape that was measured."""
    numbers = build.numbers
    architecture = build.planned.architecture if build.planned else model["architecture"]
    return (numbers.n_layer, numbers.n_embd, architecture) == (
        model["n_layer"],
        model["n_embd"],
        model["architecture"],
    )


@cache
def _table() -> dict[str, Any]:
    return toml.packaged("edgellm.fit", "losses.toml")
