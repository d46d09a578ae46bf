"""A model over several processes against the same model in one: the same ids, and the speed of prefill and decode.

    python bench/rpc.py MODEL [--servers 1] [--device rpc://HOST:PORT,...] [-ngl N] [-p 256] [-n 64] [-t 2] [--rounds 3]

Without --device it starts servers of its own on loopback, which share this machine's cores and wait for each other:
what is measured then is what the protocol costs, not what other machines bring. Both sides run in a child process,
are opened anew for each round, warmed up once, and take turns (ABBA); ratios are of neighbours, medians over rounds.
Servers know no repacked kernels, so both sides go without them; --repack has them wherever they are usual.

`ids` says how many greedy ids are the same, and where they part, how near the tie was that rounding decided: the lead
of the one over the other in standard deviations of the logits. The last line is one JSON object.
"""

import argparse
import contextlib
import itertools
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "helpers"))

import rpc_servers

from edgellm.backends import worker
from edgellm.calibration import text
from edgellm.cli.shared import model_argument
from edgellm.formats.artifact import Artifact
from edgellm.session import GREEDY, EngineOptions, Session


def answer(session: Session, prompt: Sequence[int], n: int) -> tuple[dict[str, float], list[int]]:
    """Tokens a second of prefill (to the first id) and of decode, and the ids."""
    session.rewind(0)
    begin = time.perf_counter()
    stream = session.stream(prompt, GREEDY)
    ids = [next(stream)]
    first = time.perf_counter()
    ids += itertools.islice(stream, n - 1)
    end = time.perf_counter()
    stream.close()  # type: ignore[attr-defined]
    return {"prefill": len(prompt) / (first - begin), "decode": (n - 1) / (end - first)}, ids


def lead(session: Session, prompt: list[int], one: list[int], split: list[int]) -> dict[str, Any]:
    """How many ids are the same, and how near the tie was after them."""
    at = next((i for i, (a, b) in enumerate(zip(one, split, strict=True)) if a != b), len(one))
    found: dict[str, Any] = {"same": at, "of": len(one)}
    if at < len(one):
        session.rewind(0)
        logits = session.eval([*prompt, *one[:at]])
        found["lead"] = float((logits[one[at]] - logits[split[at]]) / logits.std())
    return found


def measure(artifact: Artifact, sides: dict[str, EngineOptions], args: argparse.Namespace) -> dict[str, Any]:
    """All rounds."""
    rates: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    ids: dict[str, list[int]] = {}
    found: dict[str, Any] = {}
    for number in range(args.rounds):
        for side in list(sides)[:: -1 if number % 2 else 1]:
            with worker.open_isolated(artifact, sides[side]) as session:
                prompt = session.tokenize(text.text(8 * args.prompt))[: args.prompt]
                answer(session, prompt, args.gen)
                rate, ids[side] = answer(session, prompt, args.gen)
                rates[side].append(rate)
                if side == "split":
                    found["places"] = [asdict(place) for place in session.info.places]
                elif len(ids) == len(sides):
                    found["ids"] = lead(session, prompt, ids["one"], ids["split"])
            print(f"round {number + 1}, {side}: {rate}", file=sys.stderr)
    for phase in ("prefill", "decode"):
        pairs = [(one[phase], split[phase]) for one, split in zip(rates["one"], rates["split"], strict=True)]
        found[phase] = {
            "one": statistics.median(one for one, _ in pairs),
            "split": statistics.median(split for _, split in pairs),
            "ratio": statistics.median(split / one for one, split in pairs),
            "ratios": [split / one for one, split in pairs],
        }
    return found


def main() -> None:
    """Measure, say, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--servers", type=int, default=1, help="of our own, on loopback")
    parser.add_argument("--device", help="rpc://HOST:PORT,... of others instead")
    parser.add_argument("-ngl", dest="n_gpu_layers", type=int, help="layers on the servers")
    parser.add_argument("-p", "--prompt", type=int, default=256, help="prompt tokens")
    parser.add_argument("-n", "--gen", type=int, default=64, help="tokens to decode")
    parser.add_argument("-t", "--threads", type=int, default=2, help="threads, of our servers too")
    parser.add_argument("--rounds", type=int, default=2, help="of both sides; even, so that turns are")
    parser.add_argument("--repack", action="store_true", help="repacked kernels where they are usual")
    args = parser.parse_args()
    if args.rounds < 2 or args.rounds % 2:
        parser.error("--rounds must be even: each side begins as often as the other")
    artifact = model_argument.resolve(args.model)
    with contextlib.ExitStack() as stack:
        device = args.device or ",".join(
            stack.enter_context(rpc_servers.server("-t", str(args.threads))).device
            for _ in range(args.servers)
        )
        common = {"n_ctx": args.prompt + args.gen + 8, "n_threads": args.threads}
        common |= {} if args.repack else {"repack": False}
        sides = {
            "one": EngineOptions(device="cpu", **common),
            "split": EngineOptions(device=device, n_gpu_layers=args.n_gpu_layers, **common),
        }
        found = measure(artifact, sides, args)
    print(json.dumps({"model": artifact.name, "type": artifact.quantization, "device": device, **found}))


if __name__ == "__main__":
    main()
