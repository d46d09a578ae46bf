#!/usr/bin/env python3
"""What `edgellm fit` says against what is measured: speed and peak memory of models, types, contexts, engines.

    python bench/fit.py measure POINTS.jsonl MODEL... [-t 1,2] [--places 512@0,256@1700] [--launches 2]
    python bench/fit.py table POINTS.jsonl                             # errors of every point, and their distribution
    python bench/fit.py results RESULT.json...                         # the same of profiles made on this machine

MODEL is a GGUF file or an ONNX folder. A point is measured in fresh processes by the profiler's own launch; the
prediction is from the header and what is remembered of this machine's kernels, which are timed first where they are
not known (a fresh EDGELLM_CACHE knows none), or once more with --again. Launches of all points take turns. Of
launches and repetitions the best counts, as it does where kernels are timed: what else runs on a machine only takes.
Work can be done in pieces: points are added to the file, and a point that is in it already keeps the better of both.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from edgellm import files
from edgellm.errors import EdgellmError
from edgellm.fit import builds, memory, probe, record, speed
from edgellm.fit.model import Build
from edgellm.formats.artifact import Artifact
from edgellm.profiles.measure import child
from edgellm.profiles.measure.launch import LaunchRequest
from edgellm.profiles.result import result
from edgellm.profiles.result.settings import Workload
from edgellm.session import EngineOptions

N_GEN = 32


@dataclass(frozen=True)
class Point:
    """One model at one depth: said and seen."""

    model: str
    type: str
    engine: str
    n_expert: int
    n_threads: int
    prompt: int
    depth: int
    said: dict[str, float]
    seen: dict[str, float]

    @property
    def key(self) -> tuple[str, str, int, int, int]:
        """What makes it another point."""
        return self.model, self.type, self.n_threads, self.prompt, self.depth

    def with_better_of(self, other: Point | None) -> Point:
        """The faster of both, and the smaller memory: a first launch prepares weights, which others find."""
        if other is None:
            return self
        better = {"decode": max, "prefill": max, "peak": min}
        return replace(self, seen={n: best(self.seen[n], other.seen[n]) for n, best in better.items()})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("points", type=Path)
    measuring.add_argument("models", type=Path, nargs="+")
    measuring.add_argument("-t", "--threads", default="2", help="numbers of threads, with commas between")
    measuring.add_argument("--places", default="512@0,256@1700", help="PROMPT@DEPTH, with commas between")
    measuring.add_argument(
        "--launches", type=int, default=2, help="0: what is said now of points that are there"
    )
    measuring.add_argument(
        "--again", action="store_true", help="time kernels once more, the better of both counts"
    )
    commands.add_parser("table").add_argument("points", type=Path)
    commands.add_parser("results").add_argument("results", type=Path, nargs="+")
    arguments = parser.parse_args()
    if arguments.command == "measure":
        n_threads = [int(text) for text in arguments.threads.split(",")]
        places = [_place(text) for text in arguments.places.split(",")]
        measure(
            arguments.points, arguments.models, n_threads, places, arguments.launches, again=arguments.again
        )
    elif arguments.command == "results":
        show([point for path in arguments.results for point in of_result(path)])
    else:
        show(_read(arguments.points))


def _place(text: str) -> tuple[int, int]:
    prompt, _, depth = text.partition("@")
    return int(prompt), int(depth or 0)


def measure(
    points: Path,
    models: list[Path],
    n_threads: list[int],
    places: list[tuple[int, int]],
    launches: int,
    *,
    again: bool,
) -> None:
    """Add a point for each model, number of threads and place."""
    made = {path: next(iter(builds.of_artifact(Artifact.open(path)).types.values())) for path in models}
    for engine, n in itertools.product(sorted({build.engine for build in made.values()}), n_threads):
        wanted = {m.kernel for build in made.values() if build.engine == engine for m in build.matrices}
        probe.here(engine, n, wanted, print, again=again)
    seen: dict[tuple[Path, int, tuple[int, int]], list[dict[str, float]]] = {
        key: [] for key in itertools.product(models, n_threads, places)
    }
    for _ in range(launches):
        for key, samples in seen.items():
            try:
                samples.append(_seen(*key))
            except EdgellmError as error:
                print(f"{key[0].name}: {error}")
            print(f"{key[0].name}, {key[1]} threads, {key[2]}: {samples[-1:]}", flush=True)
    found = {point.key: point for point in _read(points)}
    for (path, n, (prompt, depth)), samples in seen.items():
        build, name = made[path], path.stem if path.is_file() else path.name
        foretold = said(build, n, prompt, depth)
        for sample in samples:
            point = Point(
                name, build.type, build.engine, build.numbers.n_expert, n, prompt, depth, foretold, sample
            )  # fmt: skip
            found[point.key] = point.with_better_of(found.get(point.key))
        if known := found.get((name, build.type, n, prompt, depth)):
            found[known.key] = replace(known, said=foretold)
    with files.atomic_path(points, force=True) as temporary:
        temporary.write_text("".join(f"{json.dumps(asdict(point))}\n" for point in found.values()))


def _read(points: Path) -> list[Point]:
    if not points.exists():
        return []
    return [Point(**json.loads(line)) for line in points.read_text(encoding="utf-8").splitlines()]


def said(build: Build, n_threads: int, prompt: int, depth: int) -> dict[str, float]:
    """What `edgellm fit` says of a point, with what is known of the machine now."""
    figures = probe.here(build.engine, n_threads, {m.kernel for m in build.matrices}, print)
    fast = speed.predict(build, figures, n_prompt=prompt, n_gen=N_GEN, n_depth=depth, spread=0.0)
    assert fast is not None and figures.beside is not None
    n_ctx = prompt + depth + N_GEN + 1
    return {
        "decode": fast.decode,
        "prefill": fast.prefill,
        "peak": memory.predict(build, n_ctx, figures.beside.runtime_bytes).peak,
    }


def _seen(path: Path, n_threads: int, place: tuple[int, int]) -> dict[str, float]:
    prompt, depth = place
    workload = Workload(prompt, N_GEN, depth, repetitions=2, launches=1, energy="none")
    options = EngineOptions(n_ctx=workload.n_total + 1, n_threads=n_threads)
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
        point = Point(
            run.model.name, run.model.quantization or "", held.engine, 0, settings.n_threads or 0,
            work.n_prompt, work.n_depth, held.said, held.seen,
        )  # fmt: skip
        found.append(point)
    return found


def show(read: list[Point]) -> None:
    """All points with what was measured, and the error of what is said."""
    print(
        "| model | engine | threads | prompt @ depth | prefill tok/s | error | decode tok/s | error | peak MB | error |"
    )
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    errors: dict[str, list[float]] = {"prefill": [], "decode": [], "peak": []}
    for point in read:
        cells = []
        for name, own in errors.items():
            error = point.said[name] / point.seen[name] - 1
            own.append(error)
            scale = 1e6 if name == "peak" else 1
            cells += [f"{point.seen[name] / scale:.1f}", f"{error:+.1%}"]
        place = f"{point.prompt} @ {point.depth}"
        print(f"| {point.model} | {point.engine} | {point.n_threads} | {place} | {' | '.join(cells)} |")
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
