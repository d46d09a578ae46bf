"""The profiler's memory figures against the kernel's and the engine's own.

    python bench/profile_memory.py MODEL... [-p 512] [-n 32] [-t 2] [--rounds 3]

Peak: the highest phase of a profiled launch against what the kernel tells of the whole process (ru_maxrss by
wait4, as a process outside sees it) in launches whose mark is never set back, in turns. Split: weights, repacked
copies, KV cache and scratch memory as foretold from the header against the engine's log. The last line is one
JSON object; every ratio in it is ours over theirs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from edgellm.formats.artifact import Artifact
from edgellm.profiles.measure import buffers, child
from edgellm.profiles.measure.launch import LaunchRequest
from edgellm.profiles.result.codec import to_plain
from edgellm.profiles.result.result import Launch
from edgellm.profiles.result.settings import Workload
from edgellm.session import EngineOptions

UNRESET = (
    "from edgellm.profiles.measure import launch, memory\n"
    "memory.MemoryWatch._reset = lambda watch: False\n"
    "launch.main()\n"
)
#: A small process of its own: a child's maximum begins with that of the process that forked it.
OBSERVER = (
    "import os, subprocess, sys\n"
    f"child = subprocess.Popen([sys.executable, '-c', {UNRESET!r}], stdin=sys.stdin, stdout=sys.stderr)\n"
    "print(os.wait4(child.pid, 0)[2].ru_maxrss)\n"
)
PARTS = ("weights", "repacked", "kv", "compute", "total")


def kernel_peak(request: LaunchRequest) -> int:
    """Bytes, of the same launch without resets."""
    told = subprocess.run(
        [sys.executable, "-c", OBSERVER],
        input=json.dumps(to_plain(request)),
        capture_output=True,
        text=True,
        check=True,
    )
    return int(told.stdout) * 1024


def our_peak(launch: Launch) -> int:
    return max(phase.peak or 0 for phase in launch.memory.phases)


def split_ratios(launch: Launch) -> dict[str, float] | None:
    """Foretold over logged, by part; parts that the engine does not have are left out."""
    logged, predicted = launch.memory.engine, launch.memory.predicted
    if logged is None or predicted is None:
        return None
    return {part: getattr(predicted, part) / getattr(logged, part) for part in PARTS if getattr(logged, part)}


def measure(path: Path, args: argparse.Namespace) -> dict[str, object]:
    artifact = Artifact.open(path)
    workload = Workload(n_prompt=args.prompt, n_gen=args.gen, repetitions=2)
    options = EngineOptions(n_ctx=workload.n_total + 1, n_threads=args.threads)
    request = LaunchRequest(str(path), workload, options)
    ours, kernel = [], []
    for _ in range(args.rounds):
        launch = child.launch(request, lambda text: None)
        ours.append(our_peak(launch))
        kernel.append(kernel_peak(request))
    launch = buffers.foretell(artifact, options, launch)
    ratio, split = statistics.median(ours) / statistics.median(kernel), split_ratios(launch)
    print(
        f"{path.name}: peak {statistics.median(ours) / 1e6:.1f} MB, kernel's {statistics.median(kernel) / 1e6:.1f} MB"
    )
    print(f"  ratio {ratio:.4f}; foretold over logged: " + (_spelled(split) if split else "not foretold"))
    taken = launch.memory.split
    return {
        "model": path.name,
        "peak_bytes": ours,
        "kernel_peak_bytes": kernel,
        "peak_ratio": ratio,
        "foretold_over_logged": split,
        "split": asdict(taken) if taken else None,
    }


def _spelled(split: dict[str, float]) -> str:
    return ", ".join(f"{part} {value:.3f}" for part, value in split.items())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("-p", "--prompt", type=int, default=512)
    parser.add_argument("-n", "--gen", type=int, default=32)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    results = [measure(path, args) for path in args.models]
    worst = max(abs(float(str(r["peak_ratio"])) - 1) for r in results)
    print(json.dumps({"results": results, "worst_peak_error": worst}))


if __name__ == "__main__":
    main()
