#!/usr/bin/env python3
"""What `edgellm fit` says against what is measured: speed and peak memory of models, types, contexts, engines.

    python bench/fit.py measure POINTS.jsonl MODEL... [--launches 2]   # each at two depths, launches taking turns
    python bench/fit.py table POINTS.jsonl                             # errors of every point, and their distribution
    python bench/fit.py results RESULT.json...                         # the same of profiles made on this machine

MODEL is a GGUF file or an ONNX folder. A point is measured in fresh processes by the profiler's own launch; the
prediction is from the header and what is remembered of this machine's kernels, which are timed first where they are
not known. Of launches and repetitions the best counts, as it does where kernels are timed. Pieces of the work can be
done one after the other: points are added to the file.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

from edgellm.errors import EdgellmError
from edgellm.fit import builds, memory, probe, record, speed
from edgellm.fit.model import Build
from edgellm.formats.artifact import Artifact
from edgellm.profiles.measure import child
from edgellm.profiles.measure.launch import LaunchRequest
from edgellm.profiles.result import result
from edgellm.profiles.result.settings import Workload
from edgellm.session import EngineOptions

#: (prompt, depth): the second looks back on much.
PLACES = ((512, 0), (256, 1700))
N_GEN, N_THREADS = 32, 2


@dataclass(frozen=True)
class Point:
    """One model at one depth: said and seen."""

    model: str
    type: str
    engine: str
    n_expert: int
    prompt: int
    depth: int
    said: dict[str, float]
    seen: dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("points", type=Path)
    measuring.add_argument("models", type=Path, nargs="+")
    measuring.add_argument("--launches", type=int, default=2)
    commands.add_parser("table").add_argument("points", type=Path)
    commands.add_parser("results").add_argument("results", type=Path, nargs="+")
    arguments = parser.parse_args()
    if arguments.command == "measure":
        measure(arguments.points, arguments.models, arguments.launches)
    elif arguments.command == "results":
        show([point for path in arguments.results for point in of_result(path)])
    else:
        lines = arguments.points.read_text(encoding="utf-8").splitlines()
        show([Point(**json.loads(line)) for line in lines])


def measure(points: Path, models: list[Path], launches: int) -> None:
    """Add a point for each model and place."""
    found: dict[tuple[Path, int], tuple[Build, list[dict[str, float]]]] = {}
    for path in models:
        (build,) = builds.of_artifact(Artifact.open(path)).types.values()
        probe.here(build.engine, N_THREADS, {m.kernel for m in build.matrices}, print)
        for place in range(len(PLACES)):
            found[path, place] = (build, [])
    for _ in range(launches):
        for (path, place), (_build, seen) in found.items():
            try:
                seen.append(_seen(path, *PLACES[place]))
            except EdgellmError as error:
                print(f"{path.name}: {error}")
    with points.open("a", encoding="utf-8") as file:
        for (path, place), (build, samples) in found.items():
            if samples:
                seen = {name: max(s[name] for s in samples) for name in samples[0]}
                prompt, depth = PLACES[place]
                point = Point(
                    path.stem, build.type, build.engine, build.numbers.n_expert, prompt, depth,
                    said(build, prompt, depth), seen,
                )  # fmt: skip
                print(json.dumps(asdict(point)), file=file)


def said(build: Build, prompt: int, depth: int) -> dict[str, float]:
    """What `edgellm fit` says of a point, with what is known of the machine now."""
    figures = probe.here(build.engine, N_THREADS, {m.kernel for m in build.matrices}, print)
    fast = speed.predict(build, figures, n_prompt=prompt, n_gen=N_GEN, n_depth=depth, spread=0.0)
    assert fast is not None and figures.beside is not None
    n_ctx = prompt + depth + N_GEN + 1
    return {
        "decode": fast.decode,
        "prefill": fast.prefill,
        "peak": memory.predict(build, n_ctx, figures.beside.runtime_bytes).peak,
    }


def _seen(path: Path, prompt: int, depth: int) -> dict[str, float]:
    workload = Workload(prompt, N_GEN, depth, repetitions=2, launches=1, energy="none")
    options = EngineOptions(n_ctx=workload.n_total + 1, n_threads=N_THREADS)
    launch = child.launch(LaunchRequest(str(path), workload, options), lambda _: None)
    prefill = min(r.prefill_ns for r in launch.repetitions) * 1e-9
    return {
        "decode": 1e9 / min(statistics.median(r.gaps_ns) for r in launch.repetitions),
        "prefill": prompt / prefill,
        "peak": max(phase.peak or 0 for phase in launch.memory.phases),
    }


def of_result(path: Path) -> list[Point]:
    """A profile's runs, held against what is said of them now."""
    found = []
    for run in result.read(path).runs:
        if (held := record.of_run(run)) is None:
            continue
        work, settings = run.workload, run.settings
        name = f"{run.model.name} (-t {settings.n_threads})"
        point = Point(
            name, run.model.quantization, held.engine, 0, work.n_prompt, work.n_depth, held.said, held.seen
        )
        found.append(point)
    return found


def show(read: list[Point]) -> None:
    """All points with what was measured, and the error of what is said."""
    print(
        "| model | engine | prompt @ depth | prefill tok/s | error | decode tok/s | error | peak MB | error |"
    )
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    errors: dict[str, list[float]] = {"prefill": [], "decode": [], "peak": []}
    for point in read:
        cells = []
        for name, own in errors.items():
            error = point.said[name] / point.seen[name] - 1
            own.append(error)
            scale = 1e6 if name == "peak" else 1
            cells += [f"{point.seen[name] / scale:.1f}", f"{error:+.1%}"]
        place = f"{point.prompt} @ {point.depth}"
        print(f"| {point.model} | {point.engine} | {place} | {' | '.join(cells)} |")
    summary = {name: _summary(own, 0.05 if name == "peak" else 0.15) for name, own in errors.items()}
    print(json.dumps({"points": len(read), **summary}))


def _summary(errors: list[float], bound: float) -> dict[str, float]:
    sizes = sorted(map(abs, errors))
    return {
        "median": round(statistics.median(sizes), 4),
        "largest": round(sizes[-1], 4),
        "bias": round(statistics.fmean(errors), 4),
        f"within {bound:.0%}": sum(size <= bound for size in sizes),
    }


if __name__ == "__main__":
    main()
