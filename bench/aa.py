"""How often `edgellm compare` is wrong: python bench/aa.py [--trials 2000] [--model NAME] [--no-real]

Simulated: seeded runs of equal models, of models one of which is 10% slower, and of equals on a machine that drifts,
with the noise of tests/noise_model.py. Each trial is a whole comparison: all axes, judged together, in the order in
which launches really take turns. Real: a bundled model against itself, measured here in turns; its blocks are then
relabelled at random, so that each relabelling is one more A/A comparison made of this machine's own noise, and once
more with every time of one side stretched by 10%. Ends with one JSON line.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "helpers"))

import noise_model
from noise_model import Noise

from edgellm.profiles.compare.verdict import AXES, Verdict, judge
from edgellm.profiles.result.result import Measurement, Report, read
from edgellm.profiles.study.order import schedule

SLOWDOWN = 1.1
WORLDS = {
    "shared laptop": Noise(),
    "quiet machine": Noise(launch=0.003, machine=0.005, outlier_chance=0.0),
    "wandering pace": Noise(machine=0.1, machine_memory=0.95),
    "heavy outliers": Noise(launch=0.05, outlier_chance=0.1, outlier_factor=3.0),
}
DRIFTS = (0.01, 0.03, -0.02)
SPEEDS = ("prefill_tokens_per_second", "decode_tokens_per_second")

Found = Sequence[Verdict]
Measured = dict[str, Measurement]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--launches", type=int, default=8)
    parser.add_argument("--real-launches", type=int, default=16)
    parser.add_argument("--model", default="tiny-qwen3")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-real", action="store_true", help="simulations only")
    options = parser.parse_args()
    figures = {"launches": options.launches, "simulated": simulated(options.trials, options.launches)}
    if not options.no_real:
        figures["real"] = real(options.model, options.real_launches, options.threads, options.trials)
    print(json.dumps(figures))


def share(
    seed: int,
    trials: int,
    slowdown: Sequence[float],
    launches: int,
    noise: Noise,
    claim: Callable[[Found], bool],
) -> float:
    """Of `trials` simulated comparisons, the share of which `claim` holds."""
    rng, hits = random.Random(seed), 0
    for trial in range(trials):
        taken = schedule(len(slowdown), launches, seed=trial)
        hits += claim(judge(AXES, noise_model.measure(rng, taken, slowdown, noise=noise), paired=True))
    return hits / trials


def any_difference(found: Found) -> bool:
    return any(pair.differs for verdict in found for pair in verdict.pairs)


def any_winner(found: Found) -> bool:
    return any(verdict.winner is not None for verdict in found)


def decode_winner(found: Found) -> int | None:
    return next(v.winner for v in found if v.axis.metric == "decode_tokens_per_second")


def simulated(trials: int, launches: int) -> dict[str, object]:
    figures: dict[str, object] = {"trials": trials}
    false = {
        name: share(1, trials, (1.0, 1.0), launches, noise, any_difference) for name, noise in WORLDS.items()
    }
    false["three equal models"] = share(2, trials // 2, (1.0, 1.0, 1.0), launches, Noise(), any_difference)
    figures["false_differences"] = false
    figures["winners_by_drift"] = {
        f"{drift:+.0%} a launch": share(3, trials, (1.0, 1.0), launches, Noise(drift=drift), any_winner)
        for drift in DRIFTS
    }
    figures["slowdown_found"] = {
        name: share(4, trials // 2, (1.0, SLOWDOWN), launches, noise, lambda found: decode_winner(found) == 0)
        for name, noise in WORLDS.items()
    }
    for name, value in figures.items():
        print(f"simulated {name}: {value}")
    return figures


def real(model: str, launches: int, threads: int, trials: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "aa.json"
        command = [
            sys.executable,
            "-m",
            "edgellm",
            "compare",
            model,
            model,
            "-p",
            "128",
            "-n",
            "64",
            "-r",
            "3",
        ]
        command += ["--launches", str(launches), "-t", str(threads), "--energy", "none", "--save", str(path)]
        print(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        report = read(path)
    sides = measured(report)
    once = judge(AXES, sides, paired=True)
    rng = random.Random(5)
    false = (
        sum(any_difference(judge(AXES, relabelled(rng, sides), paired=True)) for _ in range(trials)) / trials
    )
    found = sum(
        decode_winner(judge(AXES, slowed(relabelled(rng, sides)), paired=True)) == 0 for _ in range(trials)
    )
    figures = {
        "model": model,
        "launches": launches,
        "differences": [v.axis.metric for v in once if any(pair.differs for pair in v.pairs)],
        "ratios": {v.axis.metric: round(v.pairs[0].ratio.value, 4) for v in once},
        "relabelled_false_differences": false,
        "relabelled_slowdown_found": found / trials,
    }
    for name, value in figures.items():
        print(f"real {name}: {value}")
    return figures


def measured(report: Report) -> list[Measured]:
    """The axes of two equal models; bytes follow from tokens and are left out, as `compare` does."""
    names = {axis.metric for axis in AXES if axis.per != "byte"}
    return [{m.name: m for m in run.measurements if m.name in names and m.samples} for run in report.runs]


def relabelled(rng: random.Random, sides: Sequence[Measured]) -> list[Measured]:
    """In each block it is tossed which launch is called A and which B, for all axes alike."""
    blocks = sorted({launch for m in sides[0].values() for launch in m.launches})
    turned = {launch for launch in blocks if rng.random() < 0.5}
    new: list[Measured] = [{}, {}]
    for name in sides[0].keys() & sides[1].keys():
        pairs: list[list[tuple[int, float]]] = [[], []]
        for side, own in enumerate(sides):
            for sample, launch in zip(own[name].samples, own[name].launches, strict=True):
                pairs[side ^ (launch in turned)].append((launch, sample))
        for side in (0, 1):
            launches, samples = zip(*sorted(pairs[side], key=lambda pair: pair[0]), strict=True)
            new[side][name] = replace(sides[side][name], samples=samples, launches=launches)
    return new


def slowed(sides: Sequence[Measured]) -> list[Measured]:
    """The second one's speeds 10% worse."""
    first, second = sides
    worse = {n: replace(second[n], samples=tuple(s / SLOWDOWN for s in second[n].samples)) for n in SPEEDS}
    return [first, second | worse]


if __name__ == "__main__":
    main()
