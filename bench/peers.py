#!/usr/bin/env python3
"""Prefill and decode speed, load time and peak memory side by side: edgellm's two engines and the tools of the field.

    bench/peers.py --side ours=edgellm:q-onnx-int4 --side genai=genai:q-genai --side gguf=edgellm:q-Q4_0.gguf \
        --python genai=/path/to/genai-venv/bin/python -p 512 -n 128 -t 2 --rounds 5

A side is NAME=KIND:PATH. The kinds, and how each peer is set up as its own documentation has it:

    edgellm           a GGUF file or an ONNX folder of `edgellm convert`
    llama-cpp-python  a GGUF file, through `Llama.generate` (the package that edgellm installs)
    llama-bench       a GGUF file, in llama.cpp's own tool, made from the engine's own sources: `cmake -B build
                      -DCMAKE_BUILD_TYPE=Release && cmake --build build --target llama-bench`; the program is named by
                      `--python llama-bench=PROGRAM`. It draws no tokens and loads apart.
    genai             `python -m onnxruntime_genai.models.builder -i CHECKPOINT -o FOLDER -p int4 -e cpu`
                      (onnxruntime-genai, torch, transformers)
    openvino          a GGUF file, which openvino-genai's LLMPipeline reads and turns into its own form while it loads
                      (2025.2 and later), or a folder. Without optimum-intel it is made in three steps: an F16 GGUF file
                      opened by `LLMPipeline(file, "CPU", enable_save_ov_model=True)`, which saves its form beside it;
                      `nncf.compress_weights(model, mode=INT4_SYM, group_size=128, ratio=1.0)` of that, saved as
                      openvino_model.xml (head and embedding become int8); the tokenizers' files copied to it
    optimum           `optimum-cli export onnx` (optimum-onnx, torch), run by ORTModelForCausalLM

`--python KIND=INTERPRETER` is for packages in an environment of their own. Each launch is a fresh process that
loads, warms up and measures once; rounds are interleaved, the order turned around in every second one. A first launch
of every side, not counted, lets edgellm prepare its weights and the page cache fill. All sides decode greedily for
exactly N tokens after the same prompt of P token ids, with the same number of threads; `-t 0` leaves that to each, as
its users run it. A side that fails is left out from then on. `--cpu` counts processor seconds of the process in
place of the clock's: with one thread, what a machine that others use, too, can still tell.
Prints medians, the ratio to the first side with the interval of the paired rounds (Student's t, from three rounds on),
the peak of memory over the model's files plus KV cache, and one JSON line with the machine and all versions. With five
sides of half a billion weights and 3 rounds: five minutes.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from edgellm import privacy

#: What sides are compared by.
RATES = ("prefill", "decode")

KINDS = ("edgellm", "llama-cpp-python", "llama-bench", "genai", "openvino", "optimum")


def prompt_ids(n: int) -> list[int]:
    """Any ids of a real vocabulary: speed does not depend on them."""
    return [(7919 * i) % 5000 + 100 for i in range(n)]


def seconds(args: argparse.Namespace) -> float:
    """Seconds."""
    return time.process_time() if args.cpu else time.perf_counter()


def run_edgellm(args: argparse.Namespace) -> dict[str, Any]:
    from edgellm import backends
    from edgellm.formats.artifact import Artifact
    from edgellm.session import GREEDY, EngineOptions

    options = EngineOptions(
        n_ctx=args.prompt + args.gen + 16,
        n_threads=args.threads or None,
        n_threads_batch=args.threads or None,
    )
    start = seconds(args)
    with backends.open_session(Artifact.open(args.path), options) as session:
        load = seconds(args) - start
        ids = prompt_ids(args.prompt)
        warm = session.stream(ids[:40], GREEDY)
        for _ in range(8):
            next(warm)
        session.rewind(0)
        stream = session.stream(ids, GREEDY)
        times = [seconds(args)]
        for _ in range(args.gen + 1):
            next(stream)
            times.append(seconds(args))
        kv_bytes = (session.info.kv_bytes_per_token or 0) * len(session.tokens)
    return {**figures(load, times, f"{session.info.backend} {session.info.version}"), "kv_bytes": kv_bytes}


def run_turns(args: argparse.Namespace) -> dict[str, list[float]]:
    """A conversation: each turn adds 40 tokens and draws 60 more; only what is new is evaluated."""
    from edgellm import backends
    from edgellm.formats.artifact import Artifact
    from edgellm.generation import generate
    from edgellm.session import GREEDY, EngineOptions

    todo = generate.GenerateOptions(max_tokens=60, sampling=GREEDY, ignore_eos=True)
    options = EngineOptions(n_ctx=args.turns * 100 + 64, n_threads=args.threads or None)
    with backends.open_session(Artifact.open(args.path), options) as session:
        history, firsts = prompt_ids(20), []
        session.eval(history)
        for turn in range(args.turns):
            history += [(613 * (turn * 40 + i)) % 5000 + 100 for i in range(40)]
            done = generate.stream(session, history, todo).completion
            firsts.append(done.usage.prefill_seconds)
            history += done.tokens
    return {"first": firsts}


def run_genai(args: argparse.Namespace) -> dict[str, Any]:
    privacy.refuse_telemetry()
    import onnxruntime_genai as og

    start = seconds(args)
    config = og.Config(str(args.path))
    overlay = {"model": {"decoder": {"session_options": {"intra_op_num_threads": args.threads}}}}
    if args.threads:
        config.overlay(json.dumps(overlay))
    model = og.Model(config)
    load = seconds(args) - start

    def generator(n: int) -> "og.Generator":
        params = og.GeneratorParams(model)
        params.set_search_options(max_length=n, min_length=n, do_sample=False, past_present_share_buffer=True)
        return og.Generator(model, params)

    ids = prompt_ids(args.prompt)
    warm = generator(64)
    warm.append_tokens(ids[:40])
    for _ in range(8):
        warm.generate_next_token()
    del warm
    run = generator(args.prompt + args.gen + 16)
    times = [seconds(args)]
    run.append_tokens(ids)
    for _ in range(args.gen + 1):
        run.generate_next_token()
        times.append(seconds(args))
    return figures(load, times, f"onnxruntime-genai {og.__version__}")


def run_llama_cpp_python(args: argparse.Namespace) -> dict[str, Any]:
    import llama_cpp

    start = seconds(args)
    threads = {"n_threads": args.threads, "n_threads_batch": args.threads} if args.threads else {}
    n_ctx = args.prompt + args.gen + 16
    model = llama_cpp.Llama(str(args.path), n_ctx=n_ctx, flash_attn=True, verbose=False, **threads)
    load = seconds(args) - start
    ids = prompt_ids(args.prompt)
    warm = model.generate(ids[:40], temp=0.0, top_k=1)
    for _ in range(8):
        next(warm)
    model.reset()
    model._ctx.kv_cache_clear()  # its own prefix match would spare it 40 tokens
    run = model.generate(ids, temp=0.0, top_k=1, reset=False)
    times = [seconds(args)]
    for _ in range(args.gen + 1):
        next(run)
        times.append(seconds(args))
    return figures(load, times, llama_cpp.__version__)


def run_openvino(args: argparse.Namespace) -> dict[str, Any]:
    import numpy as np
    import openvino
    import openvino_genai

    start = seconds(args)
    threads = {"INFERENCE_NUM_THREADS": args.threads} if args.threads else {}
    pipe = openvino_genai.LLMPipeline(str(args.path), "CPU", **threads)
    load = seconds(args) - start

    class Clock(openvino_genai.StreamerBase):
        times: list[float]

        def write(self, token: object) -> "openvino_genai.StreamingStatus":
            many = token if isinstance(token, list) else [token]
            self.times += [seconds(args)] * len(many)
            return openvino_genai.StreamingStatus.RUNNING

        def end(self) -> None: ...

    def decode(ids: list[int], n: int) -> list[float]:
        config = openvino_genai.GenerationConfig(
            max_new_tokens=n, min_new_tokens=n, do_sample=False, ignore_eos=True
        )
        clock = Clock()
        clock.times = [seconds(args)]
        pipe.generate(openvino.Tensor(np.array([ids], np.int64)), config, clock)
        return clock.times

    decode(prompt_ids(args.prompt)[:40], 8)
    return figures(load, decode(prompt_ids(args.prompt), args.gen + 1), openvino_genai.__version__)


def run_optimum(args: argparse.Namespace) -> dict[str, Any]:
    sys.path.remove(str(Path(__file__).resolve().parent))  # other files here would be what optimum imports
    import torch

    privacy.refuse_telemetry()
    from optimum.onnxruntime import ORTModelForCausalLM

    options = privacy.onnxruntime().SessionOptions()
    options.intra_op_num_threads = args.threads
    start = seconds(args)
    file = next(n for n in ("model_quantized.onnx", "model.onnx") if (args.path / n).is_file())
    model = ORTModelForCausalLM.from_pretrained(
        args.path, file_name=file, session_options=options, use_io_binding=True
    )
    load = seconds(args) - start
    ids = torch.tensor([prompt_ids(args.prompt)])
    model.generate(ids[:, :40], max_new_tokens=8, min_new_tokens=8, do_sample=False)

    class Clock:
        times: list[float]

        def put(self, _: object) -> None:
            self.times.append(seconds(args))

        def end(self) -> None: ...

    clock = Clock()
    clock.times = []
    model.generate(
        ids, max_new_tokens=args.gen + 1, min_new_tokens=args.gen + 1, do_sample=False, streamer=clock
    )
    return figures(load, clock.times, metadata.version("optimum"))  # the streamer is given the prompt first


def run_llama_bench(args: argparse.Namespace) -> dict[str, Any]:
    """The tool's own clock: a prompt, and tokens decoded behind one of that length."""
    rates = []
    for test in (["-p", args.prompt, "-n", 0], ["-p", 0, "-n", args.gen, "-d", args.prompt]):
        threads = ["-t", args.threads] if args.threads else []
        command = [args.tool, "-m", args.path, *test, *threads, "-r", 1, "-o", "json"]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True)
        row = json.loads(done.stdout)[0]
        rates.append(row["avg_ts"])
    peak, first = peak_bytes(resource.RUSAGE_CHILDREN), args.prompt / rates[0]
    found = {"load": 0.0, "first": first, "decode": rates[1], "peak_bytes": peak, "anonymous_bytes": 0}
    return {**found, "version": f"llama-bench {row['build_commit']}"}


def peak_bytes(who: int) -> int:
    """The most memory that this process, or a child of it, has held."""
    return resource.getrusage(who).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def figures(load: float, times: list[float], version: str) -> dict[str, Any]:
    """`times`: the start, then one for each token drawn; the first token ends the prefill."""
    decode = (len(times) - 2) / (times[-1] - times[1])
    first = times[1] - times[0]
    peak = peak_bytes(resource.RUSAGE_SELF)
    status = Path("/proc/self/status")
    anonymous = 0
    if status.is_file():
        rows = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        anonymous = int(rows["RssAnon"].split()[0]) * 1024
    found = {"load": load, "first": first, "decode": decode, "peak_bytes": peak, "anonymous_bytes": anonymous}
    return {**found, "version": version}


def launch(args: argparse.Namespace) -> None:
    """One side, one process."""
    if args.turns:
        print(json.dumps(run_turns(args)))
        return
    sides = {
        "edgellm": run_edgellm,
        "genai": run_genai,
        "optimum": run_optimum,
        "openvino": run_openvino,
        "llama-cpp-python": run_llama_cpp_python,
        "llama-bench": run_llama_bench,
    }
    found = sides[args.kind](args)
    print(json.dumps({**found, "prefill": args.prompt / found["first"]}))


def compare(args: argparse.Namespace) -> None:
    sides = {name: rest.partition(":")[::2] for name, _, rest in (side.partition("=") for side in args.side)}
    samples: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    failed: dict[str, str] = {}
    for number in range(-1, args.rounds):  # round -1 warms up
        for name in sides if number % 2 == 0 else reversed(sides):
            if name in failed:
                continue
            done = measure_apart(args, *sides[name])
            if done.returncode:
                failed[name] = done.stderr.strip()[-300:]
                print(f"{name} failed: {failed[name]}", file=sys.stderr)
            elif number >= 0:
                samples[name].append(json.loads(done.stdout.splitlines()[-1]))
    if found := {name: rows for name, rows in samples.items() if rows}:
        sizes = {name: model_bytes(Path(sides[name][1])) for name in found}
        report(args, found, sizes, failed)


def measure_apart(args: argparse.Namespace, kind: str, path: str) -> "subprocess.CompletedProcess[str]":
    """One launch of one side in a process of its own."""
    pythons = dict(item.split("=", 1) for item in args.python)
    tool = ["--tool", pythons.pop(kind)] if kind == "llama-bench" else []
    command = [pythons.get(kind, sys.executable), __file__, "--kind", kind, "--path", path, *tool]
    command += ["-p", str(args.prompt), "-n", str(args.gen), "-t", str(args.threads)]
    command += ["--cpu"] if args.cpu else []
    threads = {"OMP_NUM_THREADS": str(args.threads)} if args.threads else {}
    own = {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}  # `edgellm.privacy`, in any environment
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **threads, **own})


def interval(own: list[float], base: list[float]) -> tuple[float, float] | None:
    """The 95% interval of the ratio over paired rounds; None below three."""
    from edgellm.stats import paired_ratio

    found = paired_ratio(own, base) if len(own) == len(base) > 2 else None
    if found is None or found.ci95_low is None or found.ci95_high is None:
        return None
    return found.ci95_low, found.ci95_high


def model_bytes(path: Path) -> int:
    """Bytes of a model file, or of the graphs and weights in a folder."""
    if path.is_file():
        return path.stat().st_size
    weights = (".onnx", "openvino_model.")
    return sum(file.stat().st_size for file in path.iterdir() if any(part in file.name for part in weights))


def converse(args: argparse.Namespace) -> None:
    """The time to the first token of every turn, median of the rounds."""
    for side in args.side:
        name, _, rest = side.partition("=")
        path = rest.partition(":")[2]
        command = [sys.executable, __file__, "--kind", "edgellm", "--path", path, "--turns", str(args.turns)]
        rounds = []
        for _ in range(args.rounds):
            done = subprocess.run(
                [*command, "-t", str(args.threads)], capture_output=True, text=True, check=True
            )
            rounds.append(json.loads(done.stdout.splitlines()[-1])["first"])
        firsts = [statistics.median(column) for column in zip(*rounds, strict=True)]
        print(f"{name}: " + " ".join(f"{1000 * first:.0f}" for first in firsts) + " ms to the first token")
        print(
            json.dumps(
                {
                    "side": name,
                    "turns": args.turns,
                    "last_over_second": firsts[-1] / firsts[1],
                    "rounds": rounds,
                }
            )
        )


def report(
    args: argparse.Namespace,
    samples: dict[str, list[dict[str, Any]]],
    sizes: dict[str, int],
    failed: dict[str, str],
) -> None:
    base = next(iter(samples))
    median = {
        name: {key: statistics.median(row[key] for row in rows) for key in rows[0] if key != "version"}
        for name, rows in samples.items()
    }
    columns = {"prefill tok/s": 14, "": 7, "decode tok/s": 14, " ": 7, "first s": 9, "load s": 8}
    columns |= {"peak MB": 9, "anon MB": 9, "file MB": 9, "peak/(file+KV)": 15}
    print(f"{'':16}" + "".join(f"{head:>{width}}" for head, width in columns.items()))
    for name, m in median.items():
        ratios = [m[k] / median[base][k] for k in RATES]
        ends = {k: interval([s[k] for s in samples[name]], [s[k] for s in samples[base]]) for k in RATES}
        needed = sizes[name] + m.get("kv_bytes", 0)
        print(
            f"{name:16} {m['prefill']:13.1f} {ratios[0]:5.2f}x {m['decode']:13.2f} {ratios[1]:5.2f}x "
            f"{m['first']:8.2f} {m['load']:7.2f} {m['peak_bytes'] / 1e6:8.0f} {m['anonymous_bytes'] / 1e6:8.0f} "
            f"{sizes[name] / 1e6:8.0f} {m['peak_bytes'] / needed:14.2f}"
        )
        for key, (low, high) in ((key, own) for key, own in ends.items() if own and name != base):
            print(f"{'':16} {key} ×{m[key] / median[base][key]:.3f} (95%: {low:.3f} to {high:.3f})")
    from edgellm.profiles.measure.machine import describe

    machine = describe()
    about = {
        "cpu": machine.cpu_model,
        "flags": [flag for flag in machine.cpu_flags if flag.startswith(("avx", "amx", "asimd", "i8mm"))],
        "versions": {name: rows[0]["version"] for name, rows in samples.items()},
        "date": time.strftime("%Y-%m-%d"),
    }
    result = {**about, "prompt": args.prompt, "gen": args.gen, "threads": args.threads, "samples": samples}
    print(json.dumps({**result, "file_bytes": sizes, "failed": failed}))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", action="append", default=[], metavar="NAME=KIND:PATH")
    parser.add_argument("--python", action="append", default=[], metavar="KIND=INTERPRETER")
    parser.add_argument("-p", "--prompt", type=int, default=512)
    parser.add_argument("-n", "--gen", type=int, default=128)
    parser.add_argument("-t", "--threads", type=int, default=2, help="0: each side's own default")
    parser.add_argument("--cpu", action="store_true", help="count processor seconds")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turns", type=int, default=0, help="measure a conversation of N turns instead")
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--tool", help=argparse.SUPPRESS)
    args = parser.parse_args()
    launch(args) if args.kind else converse(args) if args.turns else compare(args)


if __name__ == "__main__":
    main()
