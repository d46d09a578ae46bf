"""Our one pass against the two-step way, side by side: wall time, peak memory, bytes written.

    python bench/convert.py [FOLDER ...] [--types Q4_K_M,Q8_0] [-r 3] [--reference-converter convert_hf_to_gguf.py]

FOLDER is a checkpoint; without one, checkpoints of the shapes of Qwen2.5-0.5B and Llama-3.2-1B are made
(bench/shapes.py). The two-step way is a bf16 GGUF file and then llama.cpp's own quantizer on it, with the same
number of threads; its first step is our conversion to bf16, or llama.cpp's converter where one is given. Every
run is a fresh process, the ways take turns, and a run ends when its output is on the disk (fsync), for both.
Our pass is `edgellm convert --no-verify`: the checks that it makes by default have no counterpart there.
Ends with one JSON line.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from shapes import write_checkpoint

SHAPES = ("qwen2.5-0.5b", "llama-3.2-1b")
_POLL_SECONDS = 0.02


def ours(source: str, target: str, quant: str, threads: int, max_ram: int | None = None) -> None:
    from edgellm.convert.gguf.convert import ConvertRequest, convert

    convert(ConvertRequest(Path(source), quant, Path(target), n_threads=threads, max_ram=max_ram, force=True))


def llama_quantize(source: str, target: str, quant: str, threads: int) -> None:
    from llama_cpp import llama_cpp as lib

    from edgellm.formats.gguf.types import FILE_TYPES

    quiet = lib.llama_log_callback(lambda *_: None)
    lib.llama_log_set(quiet, ctypes.c_void_p(0))
    params = lib.llama_model_quantize_default_params()
    params.ftype, params.nthread = FILE_TYPES[quant], threads
    if lib.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(params)):
        sys.exit(f"llama.cpp could not quantize {source} to {quant}")
    fd = os.open(target, os.O_RDONLY)
    os.fsync(fd)


def child(way: str, arguments: list[str]) -> None:
    """Runs in the measured process: do one job, then say what it took of memory and disk."""
    source, target, quant, threads, *more = arguments
    if way == "ours":
        ours(source, target, quant, int(threads), *(int(n) for n in more))
    else:
        llama_quantize(source, target, quant, int(threads))
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    io = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    print(json.dumps({"peak": int(status["VmHWM"].split()[0]) * 1024, "written": int(io["wchar"])}))


def measure(command: list[str]) -> dict[str, Any]:
    """Run a process; its wall time, and its peaks of anonymous and file-backed memory by sampling."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    anonymous = file = total = written = 0
    while process.poll() is None:
        fields = _status(process.pid)
        anonymous, file = max(anonymous, fields.get("RssAnon", 0)), max(file, fields.get("RssFile", 0))
        total = max(total, fields.get("VmHWM", 0))
        written = max(written, fields.get("wchar", 0))
        time.sleep(_POLL_SECONDS)
    seconds = time.monotonic() - started
    out, error = process.communicate()
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{error}")
    said = json.loads(out.splitlines()[-1]) if out.strip().endswith("}") else {}
    peaks = {"peak": total, "peak_anonymous": anonymous, "peak_file": file}
    return {"seconds": seconds, "written": written} | peaks | said


def _status(pid: int) -> dict[str, int]:
    """A running process's memory and the bytes it has written; nothing once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        written = Path(f"/proc/{pid}/io").read_text().splitlines()[1]
    except OSError:
        return {}
    wanted = ("RssAnon", "RssFile", "VmHWM")
    fields = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith(wanted)}
    return fields | {"wchar": int(written.removeprefix("wchar: "))}


def run_way(way: str, *arguments: object) -> dict[str, Any]:
    return measure([sys.executable, __file__, "--child", way, *map(str, arguments)])


def first_step(folder: Path, target: Path, options: argparse.Namespace) -> dict[str, Any]:
    if options.reference_converter is None:
        return run_way("ours", folder, target, "BF16", options.threads)
    program = (options.reference_python, options.reference_converter)
    command = [*program, folder, "--outtype", "bf16", "--outfile", target]
    return measure([str(part) for part in command])


def compare(folder: Path, quant: str, options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Both ways in turn, `options.repeat` times, on one checkpoint and type."""
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "bf16": [], "quantize": []}
    outputs = {name: work / f"{name}.gguf" for name in runs}
    for _ in range(options.repeat):
        runs["ours"].append(run_way("ours", folder, outputs["ours"], quant, options.threads))
        outputs["bf16"].unlink(missing_ok=True)
        runs["bf16"].append(first_step(folder, outputs["bf16"], options))
        runs["quantize"].append(
            run_way("llama.cpp", outputs["bf16"], outputs["quantize"], quant, options.threads)
        )
    result = {
        "model": folder.name,
        "type": quant,
        "output_bytes": outputs["ours"].stat().st_size,
        "bf16_bytes": outputs["bf16"].stat().st_size,
        **{name: _summary(found) for name, found in runs.items()},
    }
    seconds = {name: result[name]["seconds"] for name in runs}
    result["ratio_to_quantize_step"] = seconds["ours"] / seconds["quantize"]
    result["ratio_to_two_steps"] = seconds["ours"] / (seconds["bf16"] + seconds["quantize"])
    for path in outputs.values():
        path.unlink()
    return result


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Median time with its samples, largest memory, bytes written."""
    return {
        "seconds": statistics.median(run["seconds"] for run in runs),
        "samples": [round(run["seconds"], 2) for run in runs],
        **{
            key: max(run.get(key, 0) for run in runs)
            for key in ("peak", "peak_anonymous", "peak_file", "written")
        },
    }


def show(result: dict[str, Any]) -> None:
    print(f"\n{result['model']}, {result['type']}: output {result['output_bytes']:,} bytes")
    print(f"{'':34}{'seconds':>9} {'peak MB':>8} {'anon MB':>8} {'file MB':>8} {'written MB':>11}")
    rows = {"ours, one pass": "ours", "two-step: bf16": "bf16", "two-step: llama_model_quantize": "quantize"}
    for title, name in rows.items():
        row = result[name]
        sizes = (row[key] / 1e6 for key in ("peak", "peak_anonymous", "peak_file", "written"))
        print(f"  {title:32}{row['seconds']:9.2f} " + "{:8.0f} {:8.0f} {:8.0f} {:11.0f}".format(*sizes))
    print(
        f"  ours takes {result['ratio_to_quantize_step']:.2f} of the quantizing step, "
        f"{result['ratio_to_two_steps']:.2f} of both steps"
    )


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        return child(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--types", default="Q4_K_M,Q8_0")
    parser.add_argument("-r", "--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--reference-converter", type=Path, help="llama.cpp's convert_hf_to_gguf.py (needs torch)"
    )
    parser.add_argument("--reference-python", default=sys.executable, help="the Python that has torch")
    parser.add_argument("--work", type=Path, help="folder for large files (default: a temporary one)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        folders = options.folders or [write_checkpoint(name, Path(work) / name) for name in SHAPES]
        results = []
        for folder in folders:
            for quant in options.types.split(","):
                results.append(compare(folder, quant, options, Path(work)))
                show(results[-1])
    print(json.dumps({"bench": "convert", "threads": options.threads, "results": results}))
    return None


if __name__ == "__main__":
    main()
