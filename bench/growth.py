"""How costs grow: converting with layers, attending with depth, chatting with turns; curves and their exponents.

    python bench/growth.py convert [--shape qwen2.5-7b] [--layers 2,4,8] [--types Q4_K_M,onnx-int4] [--max-ram 300M]
    python bench/growth.py depth MODEL... [--depths 1024,4096,16384,32000] [--kv f16,q8_0] [-t 2]
    python bench/growth.py turns MODEL... [--turns 200] [-t 2]

`convert` writes a checkpoint of the shape with so many layers and random weights (bench/shapes.py), converts it in a
fresh process without proof, and removes both; with --max-ram the largest GGUF file once more in that much memory.
Peaks are the kernel's own mark. `depth` lengthens a short sequence to each depth by repeating what is cached -
attention costs the same whatever it attends to - and measures 256 further tokens at once, 16 one by one, and the
process's memory; --kv are cache types of GGUF models, an ONNX folder has its own. `turns` talks to a model, 8 tokens an
answer, and tells apart what the engine takes and what is left: template, tokens, bookkeeping.

An exponent is the slope of log y over log x: 1 is proportional, 0 flat. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from shapes import SHAPES, write_checkpoint

from convert import measure
from edgellm import backends
from edgellm.chat.conversation import Conversation
from edgellm.chat.terminal import render
from edgellm.cli.shared import model_argument, open_model
from edgellm.generation.generate import GenerateOptions
from edgellm.session import GREEDY, EngineOptions
from edgellm.units import parse_size

PREFILL, DECODE, PROMPT = 256, 16, 64
QUESTION = "Question {}: what do rivers, bread and a small robot have in common today?"


def exponent(x: Sequence[float], y: Sequence[float]) -> float | None:
    """The slope of log y over log x; None of one point."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0]) if len(x) > 1 else None


def converted(folder: Path, target: Path, type_: str, threads: int, max_ram: str | None) -> dict[str, float]:
    """One conversion in a process of its own; its output is removed."""
    command = [sys.executable, "-m", "edgellm", "convert", str(folder), "-q", type_, "-o", str(target)]
    command += ["--no-verify", "-t", str(threads), *(["--max-ram", max_ram] if max_ram else [])]
    done = measure(command)
    files = [target] if target.is_file() else [file for file in target.rglob("*") if file.is_file()]
    found = {
        "bytes_in": float((folder / "model.safetensors").stat().st_size),
        "bytes_out": float(sum(file.stat().st_size for file in files)),
        "seconds": done["seconds"],
        "peak_bytes": float(done["peak"]),
    }
    target.unlink() if target.is_file() else shutil.rmtree(target)
    return found


def convert(args: argparse.Namespace) -> dict[str, Any]:
    """Each type at each number of layers."""
    rows: dict[str, Any] = {type_: {} for type_ in args.types.split(",")}
    layers = [int(n) for n in args.layers.split(",")]
    with tempfile.TemporaryDirectory(dir=args.work) as work:
        for n_layer in layers:
            folder = write_checkpoint(args.shape, Path(work) / "checkpoint", n_layer)
            for type_, found in rows.items():
                is_gguf = not type_.startswith("onnx")
                last = args.max_ram if n_layer == layers[-1] and is_gguf else None
                for limit in (None, last) if last else (None,):
                    row = converted(folder, Path(work) / "model", type_, args.threads, limit)
                    found[f"{n_layer} in {limit}" if limit else str(n_layer)] = row
                    rate = row["bytes_in"] / row["seconds"] / 1e6
                    print(
                        f"{args.shape} {n_layer:3} layers to {type_:10} {row['bytes_in'] / 1e9:6.2f} -> "
                        f"{row['bytes_out'] / 1e9:5.2f} GB in {row['seconds']:6.1f} s, "
                        f"{rate:4.0f} MB/s in, peak {row['peak_bytes'] / 1e6:4.0f} MB"
                        + (f" (--max-ram {limit})" if limit else ""),
                        flush=True,
                    )
            shutil.rmtree(folder)
    for type_, found in rows.items():
        free = [found[str(n)] for n in layers]
        bytes_in = [row["bytes_in"] for row in free]
        slopes = {key: exponent(bytes_in, [row[key] for row in free]) for key in ("seconds", "peak_bytes")}
        found["exponents"] = slopes
        print(
            f"{type_}: over bytes read, seconds ^{slopes['seconds']:.2f}, peak ^{slopes['peak_bytes']:.2f}"
            if len(free) > 1
            else type_
        )
    return {"shape": args.shape, "of_layers": SHAPES[args.shape]["num_hidden_layers"], "types": rows}


def deep(name: str, kv: str | None, args: argparse.Namespace) -> list[dict[str, float]]:
    """One model and cache type at every depth."""
    depths = [int(n) for n in args.depths.split(",")]
    n_ctx = max(depths) + PREFILL + DECODE + 1
    options = EngineOptions(n_ctx=n_ctx, n_threads=args.threads, type_k=kv, type_v=kv)
    rows = []
    with backends.open_session(model_argument.resolve(name), options) as session:
        for depth in depths:
            session.rewind(0)
            session.eval(range(100, 100 + PROMPT))
            session.stretch(depth)
            begin = time.perf_counter()
            session.eval(range(200, 200 + PREFILL))
            read = time.perf_counter() - begin
            gaps = []
            for token in range(DECODE):
                begin = time.perf_counter()
                session.eval((300 + token,))
                gaps.append(time.perf_counter() - begin)
            rows.append(
                {
                    "depth": depth,
                    "prefill": PREFILL / read,
                    "decode": 1 / statistics.median(gaps),
                    "kv_bytes": depth * (session.info.kv_bytes_per_token or 0),
                    "resident": render.resident_bytes(),
                }
            )
    return rows


def depth(args: argparse.Namespace) -> dict[str, Any]:
    """All models and their cache types, each in a process of its own."""
    found: dict[str, Any] = {}
    for name in args.models:
        is_gguf = name.endswith(".gguf")
        for kv in args.kv.split(",") if is_gguf else (None,):
            command = [
                sys.executable,
                __file__,
                "deep",
                name,
                "--depths",
                args.depths,
                "-t",
                str(args.threads),
            ]
            done = subprocess.run(
                [*command, *(["--kv", kv] if kv else [])], stdout=subprocess.PIPE, text=True, check=True
            )
            rows = json.loads(done.stdout.splitlines()[-1])
            label = f"{Path(name).name} {kv or ''}".strip()
            last = rows[-2:]
            slope = exponent([r["depth"] for r in last], [1 / r["decode"] for r in last])
            found[label] = {"rows": rows, "decode_exponent": slope}
            print(f"{label}: seconds a token ^{slope:.2f} between the last two depths" if slope else label)
            for row in rows:
                print(
                    f"  {row['depth']:6} deep: prefill {row['prefill']:6.1f}, decode {row['decode']:5.1f} tok/s, cache "
                    f"{row['kv_bytes'] / 1e6:5.0f} MB, process {row['resident'] / 1e6:5.0f} MB",
                    flush=True,
                )
    return found


def talk(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """A long chat with one model; the first turn is left out of all figures."""
    artifact = model_argument.resolve(name)
    options = EngineOptions(n_ctx=args.turns * 48 + 256, n_threads=args.threads)
    rows = []
    with backends.open_session(artifact, options) as session:
        todo = GenerateOptions(max_tokens=8, sampling=GREEDY, ignore_eos=True)
        chat = Conversation(session, open_model.template(artifact), options=todo)
        for turn in range(args.turns + 1):
            begin = time.perf_counter()
            usage = chat.ask(QUESTION.format(turn)).completion.usage
            whole = time.perf_counter() - begin
            new = usage.n_prompt - usage.n_cached
            own = whole - usage.prefill_seconds - usage.decode_seconds
            rows.append({"position": usage.n_prompt, "new": new, "first": usage.prefill_seconds, "own": own})
    rows = rows[1:]
    early, late = rows[: len(rows) // 10], rows[-len(rows) // 10 :]
    said: dict[str, Any] = {}
    for key in ("position", "new", "first", "own"):
        a, b = (statistics.median(row[key] for row in part) for part in (early, late))
        said[key] = {"first_tenth": a, "last_tenth": b}
    far = [said["position"][part] for part in ("first_tenth", "last_tenth")]
    said["own_exponent"] = exponent(far, [said["own"][part] for part in ("first_tenth", "last_tenth")])
    said |= {"resident": render.resident_bytes(), "rows": rows}
    print(
        f"{Path(name).name}: {args.turns} turns to {rows[-1]['position']:,} tokens; first and last tenth: new tokens "
        f"{said['new']['first_tenth']:.0f}, {said['new']['last_tenth']:.0f}; first token "
        f"{said['first']['first_tenth']:.3f}, {said['first']['last_tenth']:.3f} s; beside the engine "
        f"{1000 * said['own']['first_tenth']:.1f}, {1000 * said['own']['last_tenth']:.1f} ms "
        f"(^{said['own_exponent']:.2f} of the tokens)",
        flush=True,
    )
    return said


def main() -> None:
    """Measure, print, end with JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("convert", "depth", "turns", "deep"))
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--shape", choices=tuple(SHAPES), default="qwen2.5-7b")
    parser.add_argument("--layers", default="2,4,8")
    parser.add_argument("--types", default="Q4_K_M,onnx-int4")
    parser.add_argument("--max-ram", metavar="SIZE", type=lambda text: text if parse_size(text) else None)
    parser.add_argument("--work", type=Path, help="where checkpoints are written")
    parser.add_argument("--depths", default="1024,4096,16384,32000")
    parser.add_argument("--kv", default=None)
    parser.add_argument("--turns", type=int, default=200)
    args = parser.parse_args()
    if args.what == "deep":
        print(json.dumps(deep(args.models[0], args.kv, args)))
        return
    if args.what == "convert":
        found: dict[str, Any] = convert(args)
    elif args.what == "depth":
        args.kv = args.kv or "f16,q8_0"
        found = depth(args)
    else:
        found = {Path(name).name: talk(name, args) for name in args.models}
    print(json.dumps({"bench": f"growth {args.what}", "threads": args.threads, "found": found}))


if __name__ == "__main__":
    main()
