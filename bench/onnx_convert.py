#!/usr/bin/env python3
"""Converting to int4 ONNX: ours against onnxruntime-genai's builder, wall time and peak memory.

    python bench/onnx_convert.py CHECKPOINT --genai-python /path/to/genai-venv/bin/python [--rounds 3] [--verify]

Both write int4 in blocks of 32 with accuracy level 4 (our head is int8, the builder's int4). Each conversion is
a fresh process, the sides take turns; ours flushes to disk and hashes its files, and with --verify proves the
result as `edgellm convert` does by default. Peak memory is that of the process and its children. Ends with one
JSON line.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from edgellm import privacy

_POLL_SECONDS = 0.02


def measure(command: list[str]) -> dict[str, float]:
    """Seconds and peak resident bytes, children included."""
    with tempfile.TemporaryFile("w+") as errors:  # not a pipe: the builder says more than one holds
        start = time.perf_counter()
        child = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        peak = 0
        while child.poll() is None:
            try:
                family = [child, *child.children(recursive=True)]
                peak = max(peak, sum(process.memory_info().rss for process in family))
            except psutil.Error:
                pass  # a process ended between two looks
            time.sleep(_POLL_SECONDS)
        seconds = time.perf_counter() - start
        if child.returncode:
            errors.seek(0)
            sys.exit(f"{command[:4]} failed: {errors.read()[-2000:]}")
    return {"seconds": seconds, "peak_bytes": peak}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint")
    parser.add_argument("--genai-python", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--verify", action="store_true")
    args = parser.parse_args()
    samples: dict[str, list[dict[str, float]]] = {"edgellm": [], "genai": []}
    with tempfile.TemporaryDirectory() as scratch:
        out = {name: str(Path(scratch) / name) for name in samples}
        ours = [
            sys.executable,
            "-m",
            "edgellm",
            "convert",
            args.checkpoint,
            "-q",
            "onnx-int4",
            "-o",
            out["edgellm"],
        ]
        privacy.refuse_telemetry()
        builder = [args.genai_python, "-m", "onnxruntime_genai.models.builder", "-i", args.checkpoint]
        builder += ["-o", out["genai"], "-p", "int4", "-e", "cpu", "-c", str(Path(scratch) / "cache")]
        builder += ["--extra_options", "int4_accuracy_level=4", "int4_block_size=32"]
        commands = {"edgellm": ours + ([] if args.verify else ["--no-verify"]), "genai": builder}
        for number in range(args.rounds):
            for name in commands if number % 2 == 0 else reversed(commands):
                shutil.rmtree(out[name], ignore_errors=True)
                samples[name].append(measure(commands[name]))
    for name, rows in samples.items():
        seconds = statistics.median(row["seconds"] for row in rows)
        peak = max(row["peak_bytes"] for row in rows)
        print(f"{name:8} {seconds:7.1f} s   peak {peak / 1e6:7.0f} MB")
    print(json.dumps({"checkpoint": Path(args.checkpoint).name, "verify": args.verify, "samples": samples}))


if __name__ == "__main__":
    main()
