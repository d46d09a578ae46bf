"""What profiling itself costs, and whether its clock is right.

    python bench/profile_overhead.py MODEL [-p 32] [-n 64] [-t 1] [--rounds 200] [--watched 10]

One engine session, taking turns (A B, B A, ...): the bare loop - draw n tokens and read the clock at both ends -
and the profiler's repetition with everything it does (a stamp for every token, phase boundaries, the energy log,
frequency, other programs' load). Overhead is the paired ratio of decode rates; passes are short and many, because
a machine's speed wanders more than the overhead is, and of medians an interval is given. (After all that the first
token of a very small model comes from cold caches, a fraction of a millisecond late.) The clock: the process writes
a byte into a pipe when the prompt is handed over, at the first token and at the last; another process, on its own
clock, reads the pipe and stamps what arrives. Its TTFT and tok/s against the profiler's. The last line is one JSON
object; ratios are the profiler's over the other's.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from edgellm import backends
from edgellm.formats.artifact import Artifact
from edgellm.machine.noise import NoiseWatch
from edgellm.profiles import energy
from edgellm.profiles.measure import speed
from edgellm.profiles.measure.energy_log import EnergyLog
from edgellm.profiles.measure.machine import frequency_mhz
from edgellm.profiles.measure.prompt import Prompt, make_prompt
from edgellm.profiles.result.result import Repetition
from edgellm.session import GREEDY, EngineOptions, Session

#: The observer: a stamp of its own monotonic clock for every byte that comes through the pipe.
OBSERVER = (
    "import os, sys, time\n"
    "stamps = []\n"
    "while os.read(0, 1):\n"
    "    stamps.append(time.monotonic_ns())\n"
    "print(*stamps)\n"
)


def bare(session: Session, prompt: Prompt, n_gen: int) -> tuple[float, float]:
    """(TTFT seconds, decode tok/s) of nothing but the loop."""
    session.rewind(0)
    begin = time.perf_counter()
    session.tokenize(prompt.text, special=False)
    stream = session.stream(prompt.tokens, GREEDY)
    next(stream)
    first = time.perf_counter()
    for _ in range(n_gen - 1):
        next(stream)
    last = time.perf_counter()
    speed.close_stream(stream)
    return first - begin, (n_gen - 1) / (last - first)


def rates(repetition: Repetition) -> tuple[float, float]:
    """(TTFT seconds, decode tok/s) as the profiler tells them."""
    gaps = repetition.gaps_ns
    return (repetition.tokenize_ns + repetition.prefill_ns) / 1e9, len(gaps) / (sum(gaps) / 1e9)


def profiled(session: Session, prompt: Prompt, n_gen: int, log: EnergyLog) -> tuple[float, float]:
    """The same with all that a launch does around a repetition."""
    marks: list[object] = []
    watch = NoiseWatch()
    repetition = speed.repetition(session, prompt, n_gen, GREEDY, lambda: marks.append(log.mark()))
    frequency_mhz()
    watch.record()
    return rates(repetition)


def in_turns(
    rounds: int, a: Callable[[], tuple[float, float]], b: Callable[[], tuple[float, float]]
) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Pairs of (a, b), the order turned around each time; the first pair warms up and is left out."""
    pairs = []
    for index in range(rounds + 1):
        if index % 2:
            second, first = b(), a()
        else:
            first, second = a(), b()
        pairs.append((first, second))
    return pairs[1:]


class Watched:
    """A repetition that another process watches through a pipe."""

    def __init__(self, session: Session, prompt: Prompt, n_gen: int) -> None:
        self._session, self._prompt, self._n_gen = session, prompt, n_gen

    def run(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """((TTFT, tok/s) of the profiler, the same of the observer)."""
        observer = subprocess.Popen(
            [sys.executable, "-c", OBSERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert observer.stdin and observer.stdout
        pipe = observer.stdin.fileno()
        time.sleep(0.3)  # until the observer reads
        repetition = speed.repetition(
            self._session, self._prompt, self._n_gen, GREEDY, lambda: os.write(pipe, b".") and None
        )
        observer.stdin.close()
        start, first, end = map(int, observer.stdout.read().split())
        observer.stdout.close()
        observer.wait()
        n_gaps = len(repetition.gaps_ns)
        outside = (repetition.tokenize_ns + first - start) / 1e9, n_gaps / ((end - first) / 1e9)
        return rates(repetition), outside


def median_interval(values: list[float]) -> tuple[float, float]:
    """95% interval of the median by order statistics, whatever the distribution."""
    ordered, n = sorted(values), len(values)
    half = 0.98 * math.sqrt(n)
    return ordered[max(0, math.floor(n / 2 - half))], ordered[min(n - 1, math.ceil(n / 2 + half))]


def compare(args: argparse.Namespace) -> dict[str, object]:
    options = EngineOptions(n_ctx=args.prompt + args.gen + 1, n_threads=args.threads)
    artifact = Artifact.open(args.model)
    with (
        backends.open_session(artifact, options) as session,
        EnergyLog(energy.choose(energy.AUTO), 0.0) as log,
    ):
        prompt = make_prompt(session, args.prompt)
        pairs = in_turns(
            args.rounds,
            lambda: profiled(session, prompt, args.gen, log),
            lambda: bare(session, prompt, args.gen),
        )
        watched = [Watched(session, prompt, args.gen).run() for _ in range(args.watched)]
    found: dict[str, object] = {"model": args.model.name, "threads": args.threads, "rounds": args.rounds}
    for name, both in (("over_bare", pairs), ("over_observer", watched)):
        if not both:
            continue
        for index, figure in enumerate(("ttft", "decode")):
            ratios = [ours[index] / theirs[index] for ours, theirs in both]
            middle, (low, high) = statistics.median(ratios), median_interval(ratios)
            found[f"{figure}_{name}"] = {"median": middle, "interval95": [low, high], "n": len(ratios)}
            print(f"{figure:6} {name:13} median {middle:.4f}  95% {low:.4f} to {high:.4f}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("-p", "--prompt", type=int, default=32)
    parser.add_argument("-n", "--gen", type=int, default=64)
    parser.add_argument("-t", "--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--watched", type=int, default=10)
    print(json.dumps(compare(parser.parse_args())))


if __name__ == "__main__":
    main()
