"""What this machine can do at most, measured, and how near to it the engines come.

    python bench/limits.py MODEL... [-t 2] [-p 256] [-n 32]

MODEL is a GGUF file, an ONNX folder or whatever else `edgellm run` takes. First the machine: bytes read and operations
done a second by one thread and by `-t` (the profiler's own ceilings: edgellm/profiles/measure/ceilings.py says how),
and what starting Python, numpy and llama-cpp-python takes. Then each model: the
bytes that a decoded token reads and the operations that a token of a prompt takes, by its header (roofline.py), what
the ceilings make of these, and how much of that one launch of the profiler reaches; and its loading: the bytes of the
files, and what mapping every page of those takes. The ceilings are measured before and after, and the most counts.
Nothing else should run. Prints two tables as Markdown and a line of JSON; half a minute, and ten seconds for each model
of half a billion weights.
"""

from __future__ import annotations

import argparse
import json
import mmap
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from startup import seconds

from edgellm.catalog import first_use
from edgellm.formats.artifact import Artifact
from edgellm.profiles.measure import ceilings, child
from edgellm.profiles.measure.launch import LaunchRequest
from edgellm.profiles.measure.machine import describe
from edgellm.profiles.result import roofline
from edgellm.profiles.result.bounds import Ceiling
from edgellm.profiles.result.model_files import model_record, weight_files
from edgellm.profiles.result.settings import Workload
from edgellm.session import EngineOptions

STARTS = {"Python": "pass", "numpy": "import numpy", "numpy and llama_cpp": "import numpy, llama_cpp"}


def map_seconds(path: Path) -> float:
    """Seconds until every page of a file in the page cache is part of this process: a byte of each is read."""
    taken = []
    with path.open("rb") as file:
        for _ in range(3):
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                begin = time.perf_counter()
                _ = mapped[:: mmap.PAGESIZE]
                taken.append(time.perf_counter() - begin)
    return min(taken)


def start_seconds(program: str) -> float:
    """Median wall seconds of a whole process of Python that runs `program`."""
    return statistics.median(seconds([sys.executable, "-c", program])[0] for _ in range(7))


def ceiling_of(n_threads: int, cache_bytes: int | None, before: Ceiling | None = None) -> Ceiling:
    """Measured now, with what was measured before. Ends the program where it cannot be."""
    found = ceilings.best(before, ceilings.measure(n_threads, cache_bytes))
    if found.reason is not None:
        raise SystemExit(found.reason)
    return found


def reached(artifact: Artifact, given: argparse.Namespace) -> tuple[Workload, Any]:
    """One launch of the profiler, with the settings that a user of `-t` gets."""
    workload = Workload(given.prompt, given.gen, repetitions=3, launches=1, energy="none")
    n_ctx = given.prompt + given.gen + 16
    options = EngineOptions(n_ctx=n_ctx, n_threads=given.threads, n_threads_batch=given.threads)
    return workload, child.launch(LaunchRequest(str(artifact.path), workload, options), lambda _: None)


def of_model(
    artifact: Artifact, workload: Workload, launch: Any, ceiling: Ceiling, cache: int | None
) -> dict[str, Any]:
    """A model's row: limits, what was reached, and loading."""
    record = model_record(artifact, artifact.name)
    record = replace(record, cache_resident=roofline.cache_resident(record, cache))
    limits = roofline.limits(record, workload, ceiling, launch.engine.kv_bytes_per_token)
    passes = launch.repetitions
    prefill = workload.n_prompt * 1e9 / min(one.prefill_ns for one in passes)
    decode = 1e9 / min(statistics.mean(one.gaps_ns) for one in passes)
    bounds = limits.decode_tokens_per_second, limits.prefill_tokens_per_second
    return {
        "bytes_per_token": limits.bytes_per_token,
        "decode_limit": bounds[0],
        "decode": decode,
        "decode_share": decode / bounds[0] if bounds[0] else None,
        "operations_per_token": limits.operations_per_token,
        "prefill_limit": bounds[1],
        "prefill": prefill,
        "prefill_share": prefill / bounds[1] if bounds[1] else None,
        "load_bytes": artifact.size_bytes,
        "map_seconds": sum(map(map_seconds, weight_files(artifact))),
        "load_seconds": launch.load_ns / 1e9,
        "no_limit_because": limits.reason,
    }


def machine_rows(found: list[Ceiling], starts: dict[str, float]) -> list[str]:
    """The machine's ceilings as Markdown."""
    lines = ["| ceiling | measured |", "|---|---:|"]
    for one in found:
        rates = one.operations_per_second or {}
        threads = f"{one.n_threads} thread{'s' * (one.n_threads > 1)}"
        lines += [
            f"| read, {threads} | {(one.read_bytes_per_second or 0) / 1e9:.1f} GB/s |",
            *(f"| {kind}, {threads} | {rate / 1e9:.0f} Gop/s |" for kind, rate in rates.items()),
        ]
    return [*lines, *(f"| a process that imports {name} | {taken:.3f} s |" for name, taken in starts.items())]


def model_row(name: str, row: dict[str, Any]) -> str:
    """A model's row as Markdown."""

    def share(kind: str) -> str:
        if row[f"{kind}_limit"] is None:
            return f"{row[kind]:.1f} of -"
        return f"{row[kind]:.1f} of {row[f'{kind}_limit']:.1f} ({row[f'{kind}_share']:.0%})"

    cells = (
        name,
        f"{(row['bytes_per_token'] or 0) / 1e6:.0f}",
        share("decode"),
        f"{(row['operations_per_token'] or 0) / 1e9:.2f}",
        share("prefill"),
        f"{row['load_bytes'] / 1e6:.0f}",
        f"{row['load_seconds']:.2f} ({row['map_seconds']:.2f})",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", metavar="MODEL", nargs="+")
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("-p", "--prompt", type=int, default=256)
    parser.add_argument("-n", "--gen", type=int, default=32)
    given = parser.parse_args()
    artifacts = [first_use.resolve(model) for model in given.models]
    cache = describe().last_level_cache_bytes
    numbers = sorted({1, given.threads})
    before = {n: ceiling_of(n, cache) for n in numbers}
    starts = {name: start_seconds(text) for name, text in STARTS.items()}
    launches = [reached(artifact, given) for artifact in artifacts]
    found = [ceiling_of(n, cache, before[n]) for n in numbers]
    print("\n".join(machine_rows(found, starts)), end="\n\n")
    heads = ("MB read a token", "decode, tok/s of limit", "Gop a prompt's token", "prefill, tok/s of limit")
    print(f"| model | {' | '.join(heads)} | MB of files | load, s (mapping alone) |\n|---|{'---:|' * 6}")
    figures = {}
    for artifact, (workload, launch) in zip(artifacts, launches, strict=True):
        row = of_model(artifact, workload, launch, found[-1], cache)
        figures[artifact.path.name] = row
        print(model_row(artifact.path.name, row))
    ceilings_found = {
        one.n_threads: {"read": one.read_bytes_per_second, **(one.operations_per_second or {})}
        for one in found
    }
    machine = {"ceilings": ceilings_found, "starts": starts}
    print(json.dumps({"threads": given.threads, "machine": machine, "models": figures}))


if __name__ == "__main__":
    main()
