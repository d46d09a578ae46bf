"""How long a command takes to say its first word: two installations of edgellm side by side, in turns.

    python bench/startup.py OTHER [ONE] [--rounds 15]

OTHER and ONE are `edgellm` executables (ONE is this environment's by default), say of a checkout from before a change.
Wall and processor seconds of whole processes: `--version`, `--help`, and `run tiny-qwen3 hi -n 1`, which ends with its
first token. Prints medians and the median of the ratios ONE / OTHER, and a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = {
    "version": ("--version",),
    "help": ("--help",),
    "first token": ("run", "tiny-qwen3", "hi", "-n", "1", "-t", "1"),
}


def seconds(executable: Path, arguments: tuple[str, ...]) -> tuple[float, float]:
    """Wall and processor seconds of one process."""
    begin = time.perf_counter()
    process = subprocess.Popen([executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{executable} {' '.join(arguments)} failed with exit code {process.returncode}")
    return time.perf_counter() - begin, used.ru_utime + used.ru_stime


def compare(one: Path, other: Path, arguments: tuple[str, ...], rounds: int) -> dict[str, float]:
    """Medians of both, and of the ratios round by round; the first round warms up."""
    sides = {"one": one, "other": other}
    taken: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    for index in range(rounds + 1):
        for side in sorted(sides, reverse=index % 2 == 1):
            found = seconds(sides[side], arguments)
            if index:
                taken[side].append(found)
    figures = {}
    for i, kind in enumerate(("wall", "cpu")):
        pairs = [(a[i], b[i]) for a, b in zip(taken["one"], taken["other"], strict=True)]
        figures |= {
            f"{kind}_seconds": statistics.median(a for a, _ in pairs),
            f"{kind}_seconds_other": statistics.median(b for _, b in pairs),
            f"{kind}_ratio": statistics.median(a / b for a, b in pairs),
        }
    return {name: round(value, 4) for name, value in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("other", type=Path)
    parser.add_argument("one", type=Path, nargs="?", default=Path(sys.executable).with_name("edgellm"))
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    found = {}
    for name, arguments in COMMANDS.items():
        found[name] = row = compare(given.one, given.other, arguments, given.rounds)
        print(
            f"{name:12}  {row['wall_seconds']:.3f} s, {row['wall_seconds_other']:.3f} s: {row['wall_ratio']:.2f}"
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
