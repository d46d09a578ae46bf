"""What a shared laptop does to measurements, as a program: for tests and for bench/aa.py.

Each launch has luck of its own (memory layout, placement), the machine's pace wanders slowly from launch to
launch, repetitions inside a launch resemble their neighbours, now and then one is hit by something else, and
the whole run may drift. All of it is multiplicative, and all of it is shared by what is measured in one launch.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from edgellm.profiles.result.result import Measurement


@dataclass(frozen=True)
class Noise:
    """Standard deviations as fractions; the defaults are what a shared 2-core virtual machine showed."""

    launch: float = 0.02  # each process's own luck
    machine: float = 0.03  # the machine's pace, shared by launches near one another ...
    machine_memory: float = 0.8  # ... with this autocorrelation from one launch to the next
    repetition: float = 0.01
    repetition_memory: float = 0.5
    outlier_chance: float = 0.03  # of a repetition
    outlier_factor: float = 1.6  # how much longer it then takes, at most
    drift: float = 0.0  # of time per launch position
    memory: float = 0.0005  # of a peak


#: Speeds share the launch's luck only in part: load, prefill and decode are different work.
TIMED = ("load_seconds", "ttft_seconds", "prefill_tokens_per_second", "decode_tokens_per_second")


def measure(
    rng: random.Random,
    order: Sequence[tuple[int, int]],
    slowdown: Sequence[float],
    *,
    repetitions: int = 3,
    noise: Noise = Noise(),
) -> list[dict[str, Measurement]]:
    """One run of `len(slowdown)` models in `order` ((launch, model) pairs): their measurements by name.

    `slowdown[m]` multiplies every time of model m.
    """
    samples: list[dict[str, list[tuple[int, float]]]] = [{} for _ in slowdown]
    pace = {name: rng.gauss(0, noise.machine) for name in TIMED}
    for position, (launch, model) in enumerate(order):
        shared = rng.gauss(0, noise.launch / math.sqrt(2))
        for name in TIMED:
            kick = rng.gauss(0, noise.machine * math.sqrt(1 - noise.machine_memory**2))
            pace[name] = noise.machine_memory * pace[name] + kick
            own = shared + rng.gauss(0, noise.launch / math.sqrt(2))
            level = slowdown[model] * math.exp(pace[name] + own) * (1 + noise.drift * position)
            count = 1 if name == "load_seconds" else repetitions
            times = _repetitions(rng, level, count, noise)
            values = [1 / t if name.endswith("per_second") else t for t in times]
            samples[model].setdefault(name, []).extend((launch, value) for value in values)
        peak = 1e9 * (1 + rng.gauss(0, noise.memory))
        samples[model].setdefault("peak_bytes", []).append((launch, peak))
    return [{name: _measurement(name, pairs) for name, pairs in own.items()} for own in samples]


def _repetitions(rng: random.Random, level: float, count: int, noise: Noise) -> list[float]:
    times, state = [], rng.gauss(0, noise.repetition)
    for _ in range(count):
        kick = rng.gauss(0, noise.repetition * math.sqrt(1 - noise.repetition_memory**2))
        state = noise.repetition_memory * state + kick
        hit = rng.uniform(1, noise.outlier_factor) if rng.random() < noise.outlier_chance else 1.0
        times.append(level * math.exp(state) * hit)
    return times


def _measurement(name: str, pairs: Sequence[tuple[int, float]]) -> Measurement:
    return Measurement(name, "", tuple(v for _, v in pairs), tuple(launch for launch, _ in pairs))
