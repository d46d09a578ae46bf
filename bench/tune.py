"""What `edgellm tune` chooses against an exhaustive search and against llama.cpp's own defaults, on one model.

    python bench/tune.py MODEL.gguf [--depth 512,2048] [--rounds 6] [--lossy] [--budget 90]

"Default" is llama.cpp with one thread for each core, as its tools run; "library" is its C API untouched, which takes
four threads whatever the machine has. The grid is every combination of attention, threads and repacking that tune may
choose from, all open side by side on shared weights and visited in turn, forwards and backwards; tune searches in
processes of its own. At the end its choice, the grid's best and both defaults take turns in one fresh process, and a
cache lengthened by repetition takes turns with one that holds a real prompt of the same length. Rates are medians;
ratios are geometric means over the rounds. Nothing is remembered. Takes three to five minutes for a 0.5B model on two
cores; the last line is one JSON object.
"""

import argparse
import itertools
import json
import math
import os
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgellm import backends, stats
from edgellm.formats.artifact import Artifact
from edgellm.session import EngineOptions
from edgellm.tuning import probe, search, space, tune

Rates = dict[EngineOptions, dict[int, list[float]]]


def grid(artifact: Artifact, lossy: bool) -> list[EngineOptions]:
    """Every combination of the decode knobs' choices, the defaults first."""
    start = space.start(artifact.format)
    knobs = [knob for knob in space.knobs(artifact.format) if knob.phase == space.DECODE]
    choices = [(*knob.choices, *(knob.lossy if lossy else ())) for knob in knobs]
    merged = [{k: v for one in parts for k, v in one.items()} for parts in itertools.product(*choices)]
    return list(dict.fromkeys([start, *(replace(start, **choice) for choice in merged)]))


def measure(
    bench: probe.Probe, variants: Sequence[EngineOptions], phase: str, depths: Sequence[int], rounds: int
) -> Rates:
    """Rates of all variants, visited in turn, forwards and backwards."""
    rates: Rates = {options: {depth: [] for depth in depths} for options in variants}
    for number in range(rounds):
        for options in variants if number % 2 == 0 else list(variants)[::-1]:
            for depth in depths:
                rates[options][depth].append(bench.visit(options, phase, depth))
    return rates


def score(rates: dict[int, list[float]]) -> float:
    """What tune maximises: the geometric mean over the depths."""
    return math.exp(statistics.fmean(math.log(statistics.median(values)) for values in rates.values()))


def best_of(decode: Rates, prefill: Rates) -> EngineOptions:
    """The fastest whose prompt speed is above tune's own floor."""
    fastest = {
        depth: max(statistics.median(r[depth]) for r in prefill.values())
        for depth in next(iter(prefill.values()))
    }
    allowed = [
        options
        for options, rates in prefill.items()
        if all(statistics.median(v) >= search.PREFILL_FLOOR * fastest[d] for d, v in rates.items())
    ]
    return max(allowed, key=lambda options: score(decode[options]))


def library_defaults(start: EngineOptions) -> EngineOptions:
    """What llama.cpp's C API uses when nobody sets anything: a number of threads that does not look at the machine."""
    from edgellm.backends.llama import lib

    params = lib.load().llama_context_default_params()
    return replace(start, n_threads=params.n_threads, n_threads_batch=params.n_threads_batch)


def said(options: EngineOptions) -> str:
    """The settings in short."""
    return (
        f"fa {options.flash_attn}, kv {options.type_k}/{options.type_v}, -t {options.n_threads}, -ub "
        f"{options.n_ubatch}, repack {options.repack is not False}"
    )


def lengthened(artifact: Artifact, depth: int, rounds: int = 6, n: int = 12) -> float:
    """Decode speed behind a cache made by repetition over that behind a real prompt of the same length."""
    times: dict[str, list[float]] = {"real": [], "made": []}
    options = replace(space.start(artifact.format), n_ctx=depth + 64)
    first = backends.open_session(artifact, options)
    with first, first.sibling(options) as second:
        ids = probe._ids(first, depth)
        first.eval(ids)
        second.eval(ids[:32])
        second.stretch(depth)
        for number in range(rounds + 1):
            pair = [("real", first), ("made", second)]
            for name, session in pair if number % 2 == 0 else pair[::-1]:
                probe._timed(session, ids[:1])
                seconds = probe._timed(session, *([ids[:1]] * n))
                if number:
                    times[name].append(seconds)
    return stats.paired_ratio(times["real"], times["made"]).value


def compare(args: argparse.Namespace) -> None:
    artifact, depths = Artifact.open(args.model), tuple(args.depth)
    variants = grid(artifact, args.lossy)
    with probe.Probe(artifact, depths) as bench:
        bench.start(variants)
        opened = [options for options in variants if bench.why_not(options) is None]
        decode = measure(bench, opened, space.DECODE, depths, args.rounds)
        prefill = measure(bench, opened, space.SHORT_PREFILL, depths, 2)
    for options in opened:
        shown = "  ".join(
            f"{d}: {statistics.median(decode[options][d]):6.1f} / {statistics.median(prefill[options][d]):6.1f}"
            for d in depths
        )
        print(f"{said(options):64} decode / prefill tok/s at {shown}")
    best = best_of(decode, prefill)
    print(f"best of the grid: {said(best)}")
    tuned = tune.tune(artifact, tune.TuneOptions(depths, args.budget, args.lossy), print)
    chosen = tuned.found.options
    print(f"tune's choice:    {said(chosen)}, {tuned.found.seconds:.0f} s of search")

    default = space.start(artifact.format)
    bare = library_defaults(default)
    three = list(dict.fromkeys([default, best, chosen, bare]))
    with probe.Probe(artifact, depths) as bench:
        bench.start(three)
        last = measure(bench, three, space.DECODE, depths, 2 * args.rounds)
        prompts = measure(bench, three, space.SHORT_PREFILL, depths, 3)
    result: dict[str, object] = {"model": args.model.name, "depths": depths, "variants": len(opened)}
    result |= {"best": said(best), "chosen": said(chosen), "search_seconds": round(tuned.found.seconds, 1)}
    fastest = {
        d: max(statistics.median(r[d]) for r in (*prefill.values(), *prompts.values())) for d in depths
    }
    for depth in depths:
        against = {
            "tuned_over_best": stats.paired_ratio(last[chosen][depth], last[best][depth]),
            "tuned_over_library": stats.paired_ratio(last[chosen][depth], last[bare][depth]),
            "tuned_over_default": stats.paired_ratio(last[chosen][depth], last[default][depth]),
        }
        row = {
            name: [round(x, 3) if x is not None else None for x in (r.value, r.ci95_low, r.ci95_high)]
            for name, r in against.items()
        }
        row["decode"] = {
            name: round(statistics.median(last[options][depth]), 1)
            for name, options in (("library", bare), ("default", default), ("best", best), ("tuned", chosen))
        }
        row["prefill_over_best"] = round(statistics.median(prompts[chosen][depth]) / fastest[depth], 3)
        print(f"at {depth}: {row}")
        result[f"at_{depth}"] = row
    result["made_over_real"] = round(lengthened(artifact, max(depths)), 3)
    print(f"decoding behind a lengthened cache over a real prompt's: {result['made_over_real']}")
    print(json.dumps(result))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--depth", type=lambda text: [int(d) for d in text.split(",")], default=[512, 2048])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--budget", type=float, default=90.0)
    parser.add_argument("--lossy", action="store_true", help="KV cache types that change the output too")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EDGELLM_CACHE"] = folder
        compare(parser.parse_args())


if __name__ == "__main__":
    main()
