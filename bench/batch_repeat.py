"""Does an answer depend on what is answered beside it? The same prompts alone, and together in full batches.

    python bench/batch_repeat.py MODEL [--slots 8] [-n 64] [-t 2]

Sums in a batch are made in another order than alone, so logits differ in their last bits, and where two tokens are
about equally likely the other one may be drawn. Each prompt is answered alone (twice: the check of the check), then
among --slots - 1 others, with the same seed; `exact` evaluates the whole prompt anew, in the same chunks. Shown are the
answers that are the same to the last token, and of the others the median place where they part. No timing. Ends with
one JSON line.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
from collections.abc import Sequence
from typing import Any

from edgellm.backends.batching.engine import Engine, Request
from edgellm.backends.batching.opening import open_engine
from edgellm.catalog import first_use
from edgellm.session import GREEDY, EngineOptions, Sampling

PROMPTS = tuple(
    f"{task} {thing}."
    for task in (
        "Explain to a child",
        "Write three facts about",
        "Write a Python function about",
        "用中文介绍",
    )
    for thing in (
        "rivers",
        "prime numbers",
        "bread",
        "the moon",
        "sorting a list",
        "winter",
        "bridges",
        "memory",
    )
)
SETTINGS = {"greedy": GREEDY, "seed 1, temperature 0.8": Sampling(seed=1)}


def answers(
    engine: Engine, prompts: Sequence[Sequence[int]], sampling: Sampling, n: int, exact: bool
) -> list[list[int]]:
    """What is drawn for prompts that are put at once, `n` tokens each."""
    drawn: dict[Request, list[int]] = {Request(prompt, sampling, exact=exact): [] for prompt in prompts}
    for request in drawn:
        engine.add(request)
    while engine.load().n_running or engine.load().n_waiting:
        for one in engine.step():
            into = drawn[one.request]
            if one.token is not None and len(into) < n:
                into.append(one.token)
                if len(into) == n:
                    engine.end(one.request)
    return list(drawn.values())


def compared(alone: Sequence[Sequence[int]], other: Sequence[Sequence[int]]) -> dict[str, Any]:
    """How many are the same, and where the others part."""
    parted = [
        next(i for i, (a, b) in enumerate(zip(one, two, strict=True)) if a != b)
        for one, two in zip(alone, other, strict=True)
        if one != two
    ]
    return {
        "same": len(alone) - len(parted),
        "of": len(alone),
        "median_place": statistics.median(parted) if parted else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("-n", type=int, default=64, help="tokens of an answer")
    parser.add_argument("-t", type=int, default=2, help="threads")
    args = parser.parse_args()
    artifact = first_use.resolve(args.model)
    figures: dict[str, Any] = {}
    with contextlib.closing(
        open_engine(artifact, EngineOptions(n_ctx=1024, n_threads=args.t), args.slots)
    ) as engine:
        info = engine.tokenizer.info
        prompts = [engine.tokenizer.tokenize(text, add_bos=info.add_bos) for text in PROMPTS]
        for name, sampling in SETTINGS.items():
            for exact in (True, False):

                def one_by_one(sampling: Sampling = sampling, exact: bool = exact) -> list[list[int]]:
                    return [answers(engine, [prompt], sampling, args.n, exact)[0] for prompt in prompts]

                alone, again = one_by_one(), one_by_one()
                together = answers(engine, prompts, sampling, args.n, exact)
                key = f"{name}, {'exact' if exact else 'cached prompts'}"
                figures[key] = {
                    "alone again": compared(alone, again),
                    "in a full batch": compared(alone, together),
                }
                for what, found in figures[key].items():
                    same = f"{found['same']:3} of {found['of']} the same"
                    print(f"{key:40} {what:16} {same}, parting at {found['median_place']}")
    print(json.dumps({"model": artifact.name, "slots": args.slots, "n": args.n, "figures": figures}))


if __name__ == "__main__":
    main()
