"""One reading for several types beside a conversion each: time, bytes read, peak memory.

    python bench/convert_many.py CHECKPOINT [--types Q4_K_M,Q8_0,Q4_0,IQ4_NL] [--rounds 3] [--threads 2]

Each way runs in a process of its own, by turns, without the proofs (those are one a file either way); outputs are
removed after each round. Bytes are the kernel's count of what the process asked to read (/proc/self/io, Linux), less
those of its imports; memory is the highest resident size. The last line is JSON with medians and their ratio.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

CHILD = """
import dataclasses, json, resource, sys, time
from pathlib import Path
from edgellm.convert.gguf import ggml
from edgellm.convert.gguf.convert import ConvertRequest, convert_all
source, folder, threads, *types = sys.argv[1:]
requests = [ConvertRequest(Path(source), t, Path(folder) / f"{t}.gguf", n_threads=int(threads)) for t in types]
def read(): return int(dict(line.split(": ") for line in open("/proc/self/io").read().splitlines())["rchar"])
before, start = read(), time.monotonic()
convert_all(requests)
took, peak = time.monotonic() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps([took, read() - before, peak]))
"""


def once(source: Path, types: list[str], threads: int) -> tuple[float, int, int]:
    """Seconds, bytes read and peak bytes of one process that makes `types`."""
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        command = [sys.executable, "-c", CHILD, str(source), folder, str(threads), *types]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, read, peak = json.loads(done.stdout.splitlines()[-1])
    return seconds, read, peak


def main(argv: list[str] | None = None) -> int:
    """Print a line for each round, then JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--types", default="Q4_K_M,Q8_0,Q4_0,IQ4_NL")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args(argv)
    types = given.types.split(",")
    once(given.checkpoint, types[:1], given.threads)  # the file cache is warm for both
    together, apart = [], []
    for number in range(given.rounds):
        together.append(once(given.checkpoint, types, given.threads))
        each = [once(given.checkpoint, [name], given.threads) for name in types]
        apart.append((sum(e[0] for e in each), sum(e[1] for e in each), max(e[2] for e in each)))
        print(
            f"round {number + 1}: together {together[-1][0]:.2f} s, one by one {apart[-1][0]:.2f} s",
            flush=True,
        )
    names = ("seconds", "bytes_read", "peak_bytes")
    found = {
        way: {name: statistics.median(row[i] for row in rows) for i, name in enumerate(names)}
        for way, rows in (("together", together), ("one_by_one", apart))
    }
    ratios = {name: found["together"][name] / found["one_by_one"][name] for name in names}
    print(
        json.dumps(
            {"types": types, "threads": given.threads, "rounds": given.rounds, **found, "ratios": ratios}
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
