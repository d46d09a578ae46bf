"""Decode and prefill of an edgellm Session against a bare llama_decode loop: same file, threads and flags.

    python bench/runtime.py MODEL.gguf [-p 512] [-n 128] [-t 2] [--rounds 10]

Both sides share one context and take turns in ABBA order; ratios are of medians, and the median of neighbours',
which a machine that others use disturbs less. The bare loop calls llama_decode through ctypes and draws nothing:
the floor of what Python can cost. edgellm's side samples with its default settings, detokenizes and cuts UTF-8, as
a chat does. The last line is one JSON object.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

from edgellm import generate
from edgellm.artifact import Artifact
from edgellm.backends import _llama_lib, llamacpp
from edgellm.session import EngineOptions, Sampling


def options(args: argparse.Namespace) -> EngineOptions:
    n_ctx = args.prompt + args.gen + 64
    return EngineOptions(n_ctx=n_ctx, n_threads=args.threads, n_threads_batch=args.threads)


def prompt(session: llamacpp.LlamaCppSession, n: int) -> list[int]:
    """`n` ids spread over the vocabulary, the same for both sides."""
    return [(7919 * i) % (session.info.n_vocab - 1024) for i in range(1, n + 1)]


def bare(session: llamacpp.LlamaCppSession, ids: list[int], n_gen: int) -> tuple[float, float]:
    """Seconds of prefill and of `n_gen` decode steps; the tokens fed are fixed."""
    lib, context, chunk = _llama_lib.load(), session._context, session.info.options.n_ubatch
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


def ours(session: llamacpp.LlamaCppSession, ids: list[int], n_gen: int) -> tuple[float, float]:
    """The same through generate.stream, with sampling at normal settings and text out."""
    todo = generate.GenerateOptions(max_tokens=n_gen + 1, sampling=Sampling(seed=1), ignore_eos=True)
    generation = generate.stream(session, ids, todo)
    assert sum(len(piece) for piece in generation) >= 0
    usage = generation.completion.usage
    assert usage.n_generated == n_gen + 1
    return usage.prefill_seconds, usage.decode_seconds


def compare(args: argparse.Namespace) -> None:
    samples: dict[str, list[tuple[float, float]]] = {side: [] for side in SIDES}
    with llamacpp.LlamaCppSession(Artifact.open(args.model), options(args)) as session:
        ids = prompt(session, args.prompt)
        for i in range(-1, args.rounds):  # round -1 warms up
            for side, run in SIDES.items() if i % 2 == 0 else reversed(SIDES.items()):
                session.rewind(0)
                seconds = run(session, ids, args.gen)
                if i >= 0:
                    samples[side].append(seconds)
    result: dict[str, object] = {"model": args.model.name, "prompt": args.prompt, "gen": args.gen}
    result |= {"threads": args.threads, "rounds": args.rounds}
    for phase, count, index in (("prefill", args.prompt, 0), ("decode", args.gen, 1)):
        rates = {side: [count / pair[index] for pair in samples[side]] for side in SIDES}
        medians = {side: statistics.median(values) for side, values in rates.items()}
        paired = statistics.median(o / b for o, b in zip(rates["edgellm"], rates["bare"], strict=True))
        print(
            f"{phase:8} bare {medians['bare']:9.1f} tok/s   edgellm {medians['edgellm']:9.1f} tok/s   "
            f"ratio {medians['edgellm'] / medians['bare']:.3f}, of neighbours {paired:.3f}"
        )
        result[phase] = {"medians": medians, "ratio_of_neighbours": paired, "samples": rates}
    print(json.dumps(result))


SIDES = {"bare": bare, "edgellm": ours}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("-p", "--prompt", type=int, default=512)
    parser.add_argument("-n", "--gen", type=int, default=128)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    compare(parser.parse_args())


if __name__ == "__main__":
    main()
