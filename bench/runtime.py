"""What edgellm's Python costs, and what it saves: one interleaved run against the bare engine and llama-cpp-python.

    python bench/runtime.py MODEL... [-p 512] [-n 128] [-t 2] [--rounds 6] [--quick]

Without MODEL: both bundled models in Q8_0. A GGUF file goes through all four parts, an ONNX folder through those
that have a counterpart:
  bare    generate.stream (default sampling, text out) against a bare loop of engine calls that draws nothing
  chat    a streamed chat answer against llama-cpp-python's create_chat_completion: decode and time to first token
  cold    a fresh process until the first token of a chat answer, against the same library
  memory  a fresh process after one and after ten turns of a chat, against the same library
Sides take turns in ABBA order with the same file, threads and engine settings; ratios are medians over neighbours,
which a machine that others use disturbs less. Models under 64 MB run on one thread: two would wait for each other
longer than they work. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import runtime_peer

from edgellm import backends
from edgellm.backends.llama import lib as llama_lib
from edgellm.catalog import first_use
from edgellm.formats.artifact import Artifact
from edgellm.generation import generate
from edgellm.session import EngineOptions, Sampling, Session

SMALL_BYTES = 64 << 20
PARTS = ("bare", "chat", "cold", "memory")


def abba(rounds: int, sides: dict[str, Callable[[], Any]]) -> Iterator[tuple[str, Any]]:
    """(side, result) of every run; the order turns round each time, and the first round warms up."""
    for i in range(-1, rounds):
        for side in sides if i % 2 == 0 else reversed(sides):
            result = sides[side]()
            if i >= 0:
                yield side, result


def prompt(session: Session, n: int) -> list[int]:
    """`n` ids spread over the vocabulary, the same for both sides."""
    return [(7919 * i) % (session.info.n_vocab - 1024) for i in range(1, n + 1)]


def bare_llama(session: Any, ids: list[int], n_gen: int) -> tuple[float, float]:
    """Seconds of prefill and of `n_gen` decode steps of llama_decode; the tokens fed are fixed."""
    lib, context, chunk = llama_lib.load(), session._context, session.info.options.n_ubatch
    buffer = (lib.llama_token * chunk)()
    start = time.perf_counter()
    for i in range(0, len(ids), chunk):
        part = ids[i : i + chunk]
        buffer[: len(part)] = part
        assert lib.llama_decode(context, lib.llama_batch_get_one(buffer, len(part))) == 0
    lib.llama_synchronize(context)
    middle = time.perf_counter()
    batch = lib.llama_batch_get_one(buffer, 1)
    for i in range(n_gen):
        buffer[0] = ids[i % len(ids)]
        assert lib.llama_decode(context, batch) == 0
    lib.llama_synchronize(context)
    return middle - start, time.perf_counter() - middle


def bare_ort(session: Any, ids: list[int], n_gen: int) -> tuple[float, float]:
    """The same with runs of the bound ONNX graph."""
    start = time.perf_counter()
    session.eval(ids)
    middle = time.perf_counter()
    for i in range(n_gen):
        session._runner.run((ids[i % len(ids)],))
    return middle - start, time.perf_counter() - middle


def ours(session: Session, ids: list[int], n_gen: int) -> tuple[float, float]:
    """The same through generate.stream, with sampling at normal settings and text out."""
    todo = generate.GenerateOptions(max_tokens=n_gen + 1, sampling=Sampling(seed=1), ignore_eos=True)
    generation = generate.stream(session, ids, todo)
    assert sum(len(piece) for piece in generation) >= 0
    usage = generation.completion.usage
    assert usage.n_generated == n_gen + 1
    return usage.prefill_seconds, usage.decode_seconds


def against_bare(artifact: Artifact, args: argparse.Namespace, threads: int) -> dict[str, Any]:
    """Rates of both sides on one open session, which they share."""
    n_ctx = args.prompt + args.gen + 64
    options = EngineOptions(n_ctx=n_ctx, n_threads=threads, n_threads_batch=threads)
    bare = bare_llama if artifact.format == "gguf" else bare_ort
    with backends.open_session(artifact, options) as session:
        ids = prompt(session, args.prompt)

        def run(side: Callable[[Any, list[int], int], tuple[float, float]]) -> tuple[float, float]:
            session.rewind(0)
            return side(session, ids, args.gen)

        found: dict[str, list[tuple[float, float]]] = {"bare": [], "edgellm": []}
        for side, seconds in abba(args.rounds, {"bare": lambda: run(bare), "edgellm": lambda: run(ours)}):
            found[side].append(seconds)
    return {
        phase: compare(
            {side: [count / pair[index] for pair in pairs] for side, pairs in found.items()},
            f"  {phase:8}",
            "tok/s",
        )
        for phase, count, index in (("prefill", args.prompt, 0), ("decode", args.gen, 1))
    }


def compare(samples: dict[str, list[float]], label: str, unit: str) -> dict[str, Any]:
    """Print and return medians, and the median ratio of edgellm's sample to its neighbour's."""
    other = next(side for side in samples if side != "edgellm")
    medians = {side: statistics.median(values) for side, values in samples.items()}
    paired = statistics.median(o / b for o, b in zip(samples["edgellm"], samples[other], strict=True))
    shown = "   ".join(f"{side} {value:9.4g} {unit}" for side, value in medians.items())
    print(f"{label} {shown}   ratio {paired:.3f}", flush=True)
    return {"medians": medians, "ratio_of_neighbours": paired, "samples": samples}


def measure(artifact: Artifact, args: argparse.Namespace) -> dict[str, Any]:
    threads = 1 if artifact.size_bytes < SMALL_BYTES else args.threads
    print(f"{artifact.path.name} ({artifact.quantization}), {threads} threads", flush=True)
    result: dict[str, Any] = {"threads": threads, "format": artifact.format}
    if "bare" in args.parts:
        result["bare"] = against_bare(artifact, args, threads)
    if artifact.format != "gguf" or artifact.chat_template is None:
        return result
    peer = runtime_peer.Peer(artifact, threads, args.gen, args.quick)
    if "chat" in args.parts:
        runs: dict[str, list[dict[str, float]]] = {"llama-cpp-python": [], "edgellm": []}
        with peer.answering() as sides:
            for side, figures in abba(args.rounds, sides):
                runs[side].append(figures)
        result["chat"] = {
            name: compare(
                {side: [r[name] for r in found] for side, found in runs.items()}, f"  {name:8}", unit
            )
            for name, unit in (("decode", "tok/s"), ("first", "s"))
        }
    for part, n_runs in (("cold", max(3, args.rounds)), ("memory", 1)):
        if part in args.parts:
            result[part] = peer.in_fresh_processes(part, 1 if args.quick else n_runs, abba, compare)
    return result


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        return runtime_peer.child(*sys.argv[2:])
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", metavar="MODEL", nargs="*", default=["tiny-qwen3", "tiny-llama3"])
    parser.add_argument("-p", "--prompt", type=int, default=512)
    parser.add_argument("-n", "--gen", type=int, default=128)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--parts", type=lambda text: text.split(","), default=PARTS, help=",".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="two rounds of 128 + 48 tokens")
    args = parser.parse_args()
    if args.quick:
        args.prompt, args.gen, args.rounds = 128, 48, 2
    artifacts = [first_use.resolve(model) for model in args.models]
    results = {artifact.path.name: measure(artifact, args) for artifact in artifacts}
    print(json.dumps({"prompt": args.prompt, "gen": args.gen, "rounds": args.rounds, "models": results}))


if __name__ == "__main__":
    main()
