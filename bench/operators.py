"""Where ONNX Runtime's time goes: a model's operators, and whether its matrices wait for memory or for arithmetic.

    python bench/operators.py FOLDER [-t 2] [-p 512] [-n 48] [--rounds 3]

FOLDER is an ONNX folder of `edgellm convert`. First its graph runs with the library's own profiler on, as a session
runs it: a prompt of P tokens in chunks of 256, then N tokens one by one; milliseconds a run by operator and matrix,
and what share of the run is in no operator at all. Then each kind of block-quantized matrix in it is run by itself,
with one row of activations (decoding) and with 256 (prefill), once over so many copies that the caches hold none of
them and once over a few small ones that stay in them. A kernel that is as fast from memory as from the cache does not
wait for memory: its instructions are what it costs. Beside both stands what this machine's memory gives to the same
number of threads. Medians over rounds; the last line is one JSON object.
"""

import argparse
import json
import statistics
import tempfile
import time
from bisect import bisect_right
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from edgellm.backends.ort import graph as ort_graph
from edgellm.backends.ort.cache import InPlaceCache
from edgellm.backends.ort.runner import Runner
from edgellm.convert.onnx.blocks import BlockFormat
from edgellm.convert.onnx.graph import MICROSOFT, Graph
from edgellm.convert.onnx.linear import INT8_ACTIVATIONS, BlockLinear
from edgellm.convert.onnx.options import encoding_of
from edgellm.convert.onnx.proto import DataType
from edgellm.formats import onnx_folder
from edgellm.machine import hardware
from edgellm.profiles.measure import ceilings
from edgellm.profiles.measure.machine import describe

CHUNK = 256
PROVIDERS = ["CPUExecutionProvider"]
SMALL_BYTES, FEW = 300_000, 9  # of a matrix, so many of which stay in the last-level cache
MANY_BYTES = 128 << 20  # of copies that no cache here holds


def profile(folder: onnx_folder.OnnxFolder, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Milliseconds a run by operator, of prefill (a chunk) and decode (a token); `all` is the whole run."""
    with tempfile.TemporaryDirectory() as place:
        options = ort_graph.session_options(args.threads)
        options.enable_profiling, options.profile_file_prefix = True, f"{place}/profile"
        graph = ort_graph.load(folder.model, options, PROVIDERS)
        n_ctx = args.prompt + args.n + 1
        cache = InPlaceCache(graph.slots, n_ctx)
        runner = Runner(graph, cache, folder.n_vocab, n_ctx)
        kinds = []
        for _ in range(args.rounds + 1):
            cache.rewind(0)
            for start in range(0, args.prompt, CHUNK):
                runner.run(range(100 + start, 100 + min(start + CHUNK, args.prompt)))
                kinds.append("prefill")
            for token in range(args.n):
                runner.run((100 + token,))
                kinds.append("decode")
        events = json.loads(Path(graph.session.end_profiling()).read_text())
    runs = sorted((event["ts"], event["dur"]) for event in events if event["name"] == "model_run")
    kinds_and_runs = list(zip(kinds, runs, strict=True))
    first = len(kinds) // (args.rounds + 1)  # of the round that warms up
    seen: dict[str, dict[str, list[float]]] = {kind: defaultdict(lambda: [0.0] * len(runs)) for kind in kinds}
    for i, (kind, (_, took)) in enumerate(kinds_and_runs):
        seen[kind]["all"][i] += took / 1000
    starts = [start for start, _ in runs]
    for event in events:
        if event["name"].endswith("_kernel_time"):
            i = bisect_right(starts, event["ts"]) - 1
            seen[kinds[i]][_name(event)][i] += event["dur"] / 1000
    return {
        kind: {
            name: statistics.median(ms for i, ms in enumerate(each) if kinds[i] == kind and i >= first)
            for name, each in names.items()
        }
        for kind, names in seen.items()
    }


def _name(event: dict[str, Any]) -> str:
    """The operator; of a matrix also which one, without its layer."""
    operator = str(event["args"]["op_name"])
    if not operator.startswith("MatMul"):
        return operator
    node = event["name"].removesuffix("_kernel_time").split("/")[0]
    return f"{operator} {' '.join(part for part in node.split('.') if not part.isdigit())}"


def product(form: BlockFormat, n: int, k: int, copies: int) -> bytes:
    """A model of `copies` products of x [rows, k] with random matrices [n, k], added up."""
    bits, block = form.bits, form.block
    rng, graph, blocks = np.random.default_rng(0), Graph("product"), form.n_blocks(k)
    graph.input("x", DataType.FLOAT, ("rows", k))
    total = ""
    for copy in range(copies):
        weights = rng.integers(0, 256, (n, blocks, form.block_bytes), dtype=np.uint8)
        inputs = ["x", graph.constant(f"w{copy}", weights)]
        inputs.append(graph.constant(f"s{copy}", np.full((n, blocks), 0.01, np.float32)))
        if not form.symmetric:
            middle = np.full((n, form.zero_bytes(k)), 0x88 if bits == 4 else 0x80, np.uint8)
            inputs.append(graph.constant(f"z{copy}", middle))
        more: dict[str, Any] = {"K": k, "N": n, "bits": bits, "block_size": block}
        graph.op("MatMulNBits", inputs, f"y{copy}", domain=MICROSOFT, accuracy_level=INT8_ACTIVATIONS, **more)
        total = graph.op("Add", [total, f"y{copy}"], f"t{copy}") if total else f"y{copy}"
    graph.output(total, DataType.FLOAT, ("rows", n))
    return graph.serialize({}, ("edgellm", "bench"))


def kernel(form: BlockFormat, n: int, k: int, threads: int, rounds: int) -> dict[str, float]:
    """Bytes a second of one row, from memory and from the cache; multiplications a second of 256 rows."""
    bits = form.bits
    n_bytes = n * k * bits // 8
    small = max(32, SMALL_BYTES * 8 // bits // k // 32 * 32)
    copies = max(2, MANY_BYTES // n_bytes)
    many = _session(product(form, n, k, copies), threads)
    few, one = (_session(product(form, small, k, c), threads) for c in (FEW, 1))
    x = np.random.default_rng(1).standard_normal((CHUNK, k), dtype=np.float32)
    streamed, resident, prefill = [], [], []
    for _ in range(rounds):
        streamed.append(copies * n_bytes / _seconds(many, x[:1], 12))
        more = _seconds(few, x[:1], 400) - _seconds(one, x[:1], 400)  # a run's own cost is in both
        resident.append((FEW - 1) * small * k * bits / 8 / more)
        prefill.append(copies * n * k * CHUNK / _seconds(many, x, 1))
    found = {"streamed": streamed, "resident": resident, "prefill": prefill}
    return {name: statistics.median(each) / 1e9 for name, each in found.items()}


def _session(model: bytes, threads: int) -> Any:
    return ort_graph.library().InferenceSession(
        model, ort_graph.session_options(threads), providers=PROVIDERS
    )


def _seconds(session: Any, x: Any, runs: int) -> float:
    """Of one run, the median."""
    session.run(None, {"x": x})
    taken = []
    for _ in range(runs):
        begin = time.perf_counter()
        session.run(None, {"x": x})
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("-p", "--prompt", type=int, default=512)
    parser.add_argument("-n", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    folder = onnx_folder.read(args.folder)
    operators = profile(folder, args)
    for kind, names in operators.items():
        whole = names["all"]
        inside = sum(ms for name, ms in names.items() if name != "all")
        print(f"{kind}: {whole:.2f} ms a run, {100 * (1 - inside / whole):.1f}% of it in no operator")
        for name, ms in sorted(names.items(), key=lambda item: -item[1]):
            if name != "all" and ms >= 0.003 * whole:
                print(f"  {name:42} {ms:9.3f} ms {100 * ms / whole:5.1f}%")
    config = json.loads((args.folder / "config.json").read_text())
    wide = int(config["hidden_size"]), int(config["intermediate_size"])
    recipe = json.loads((args.folder / "edgellm.json").read_text())["recipe"]
    linears = {label: encoding_of(label) for label in sorted({recipe["matrix"], recipe["head"]})}
    ceiling = ceilings.measure(args.threads, describe().last_level_cache_bytes)
    memory = (ceiling.read_bytes_per_second or 0) / 1e9
    print(f"memory gives {memory:.1f} GB/s to {args.threads} threads")
    kernels = {}
    for label, linear in linears.items():
        for n, k in (wide[::-1], wide) if isinstance(linear, BlockLinear) else ():
            kernels[f"{label} {n}x{k}"] = row = kernel(linear.format, n, k, args.threads, args.rounds)
            print(
                f"  {label} [{n}, {k}]: decode {row['streamed']:.1f} GB/s from memory, {row['resident']:.1f} from the "
                f"cache; prefill {row['prefill']:.0f} G multiplications/s"
            )
    print(
        json.dumps(
            {
                "machine": hardware.cpu().name,
                "library": ort_graph.library().__version__,
                "threads": args.threads,
                "memory_GB_s": memory,
                "operators_ms": operators,
                "kernels": kernels,
            }
        )
    )


if __name__ == "__main__":
    main()
