"""`edgellm batch`: many rows at a time against one, against llama.cpp's own tool, and over the nodes of a Ray cluster.

    python bench/batch.py MODEL.gguf [--llama-batched-bench PROGRAM] [--rows 32] [-p 64] [-n 64] [-t 2] [--slots 16]
        [--rounds 3] [--nodes 1,2,3] [--quick]

**Slots**: the same rows - prompts of about -p tokens, no two alike, and -n tokens each whatever the model would say -
with one slot and with --slots, in turn. tok/s are tokens written over the time from the first row asked to the last
one answered, prefill included. llama-batched-bench has prompts and answers of the same lengths, as many at once; its
rate is its tokens over prefill and decode together. (It is built as llama-server in bench/serve.py, with the target
llama-batched-bench.) **Nodes**: the rows over 1, 2, 3 nodes of one thread each, every node on a processor of its own
as far as there are any; linear is so many times one node's rate, up to the number of physical cores. **Overhead**:
rows of one token of a tiny model, on one node less in this process, in milliseconds a row. Medians over rounds; the
last line is JSON; exit code 3 where --slots is under three times one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from edgellm.batch import asking, nodes, rows, run
from edgellm.batch.answer import Answer
from edgellm.batch.rows import Manner
from edgellm.batch.tally import Tally
from edgellm.catalog import first_use
from edgellm.serving.job import ServingOptions
from edgellm.serving.pool import Offer
from edgellm.session import EngineOptions

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
import rack

GOAL = 3.0  # times one slot's rate
WORDS = (
    "river",
    "bread",
    "robot",
    "lantern",
    "harbour",
    "winter",
    "garden",
    "engine",
    "paper",
    "window",
    "bridge",
)


class Counted:
    """A sink that checks and forgets."""

    def __init__(self) -> None:
        self.answered: set[str] = set()
        self.n_errors = 0

    def add(self, answer: Answer) -> None:
        """Check and count."""
        assert answer.is_answered, answer.problem
        self.answered.add(answer.custom_id)

    def finish(self, order: Any) -> None:
        """Nothing is kept."""


@contextmanager
def source(n_rows: int, n_prompt: int, n_tokens: int, seed: int) -> Iterator[Path]:
    """A file of rows; those of another seed begin otherwise, so that nothing of them is cached."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        with path.open("w") as file:
            for _ in range(n_rows):
                prompt = " ".join(rng.choices(WORDS, k=n_prompt))
                row = {"prompt": prompt, "max_tokens": n_tokens, "ignore_eos": True, "temperature": 0}
                print(json.dumps(row), file=file)
        yield path


async def answered(path: Path, offer: Offer, address: str | None, warm: Path) -> Tally:
    """What answering all rows of `path` came to, after those of `warm`; loading is not counted."""
    manner = Manner("bench", raw=True)
    opened = asking.asker(offer) if address is None else nodes.nodes(offer, address)
    async with opened as asks:
        await run.run(warm, manner, rows.check(warm, manner), asks, Counted(), lambda tally: None)
        return await run.run(path, manner, rows.check(path, manner), asks, Counted(), lambda tally: None)


def measure(
    args: argparse.Namespace,
    model: str,
    n_slots: int,
    n_threads: int,
    *,
    address: str | None = None,
    seed: int = 0,
    **more: int,
) -> Tally:
    """One run."""
    shape = {"n_rows": args.rows, "n_prompt": args.prompt, "n_tokens": args.gen} | more
    engine = EngineOptions(n_ctx=args.ctx, n_threads=n_threads, n_threads_batch=n_threads)
    offer = Offer("bench", first_use.resolve(model), (), engine, ServingOptions(n_slots, asking.UNBOUNDED))
    n_warm = 1 if address is None else 3 * n_slots
    with source(**shape, seed=seed) as path, source(n_warm, 8, 2, seed=-1 - seed) as warm:
        return asyncio.run(answered(path, offer, address, warm))


def llama(args: argparse.Namespace, n_parallel: int) -> float:
    """llama-batched-bench's tokens written a second, its prefill included."""
    command = [
        args.llama_batched_bench,
        "-m",
        args.model,
        "-c",
        str(n_parallel * args.ctx),
        "-t",
        str(args.threads),
    ]
    command += [
        "-tb",
        str(args.threads),
        "-npp",
        str(args.prompt),
        "-ntg",
        str(args.gen),
        "-npl",
        str(n_parallel),
    ]
    done = subprocess.run(
        [*map(str, command), "--output-format", "jsonl"], capture_output=True, text=True, check=True
    )
    (found,) = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return n_parallel * args.gen / float(found["t"])


def one_machine(args: argparse.Namespace) -> dict[str, Any]:
    """One slot and many, and llama.cpp's, in turn."""
    found: dict[str, list[float]] = {}
    for i in range(args.rounds):
        for n_slots in (1, args.slots) if i % 2 == 0 else (args.slots, 1):
            tally = measure(args, str(args.model), n_slots, args.threads, seed=i)
            found.setdefault(f"{n_slots} slots", []).append(tally.n_written / tally.seconds)
            if args.llama_batched_bench:
                found.setdefault(f"llama-batched-bench {n_slots}", []).append(llama(args, n_slots))
            show(found)
    return {name: statistics.median(values) for name, values in found.items()}


def over_nodes(args: argparse.Namespace) -> dict[str, Any]:
    """Rates by the number of nodes, and what Ray costs a row."""
    found: dict[str, list[float]] = {}
    for n in args.nodes:
        with rack.rack(*(f"node{i}" for i in range(n)), own_processors=True) as running:
            for i in range(args.rounds):
                tally = measure(
                    args,
                    str(args.model),
                    args.slots,
                    1,
                    address=running.address,
                    seed=i,
                    n_rows=args.rows * n,
                )
                found.setdefault(f"{n} nodes", []).append(tally.n_written / tally.seconds)
                if n == 1:
                    tiny = {"n_rows": args.tiny_rows, "n_prompt": 8, "n_tokens": 1, "seed": i}
                    here = measure(args, "tiny-qwen3", args.slots, 1, **tiny)
                    there = measure(args, "tiny-qwen3", args.slots, 1, address=running.address, **tiny)
                    more = (there.seconds - here.seconds) / args.tiny_rows
                    found.setdefault("ray_overhead_ms_a_row", []).append(1000 * more)
                show(found)
    return {name: statistics.median(values) for name, values in found.items()}


def show(found: dict[str, list[float]]) -> None:
    print(
        {name: [round(value, 2) for value in values] for name, values in found.items()},
        file=sys.stderr,
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="MODEL.gguf", type=Path)
    parser.add_argument("--llama-batched-bench", type=Path, metavar="PROGRAM")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--tiny-rows", type=int, default=500, help="rows that tell Ray's overhead")
    parser.add_argument("-p", "--prompt", type=int, default=64, help="words of a prompt, about a token each")
    parser.add_argument("-n", "--gen", type=int, default=64, help="tokens of every answer")
    parser.add_argument("-c", "--ctx", type=int, default=512)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--nodes", type=lambda text: [int(n) for n in text.split(",") if n], default=[1, 2, 3]
    )
    parser.add_argument(
        "--quick", action="store_true", help="one round, half the rows and tokens, 1 and 2 nodes"
    )
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.rows, args.gen, args.tiny_rows = 1, args.rows // 2, args.gen // 2, 200
        args.nodes = args.nodes[:2]
    found = one_machine(args) | over_nodes(args)
    cores = psutil.cpu_count(logical=False) or 1
    times = found[f"{args.slots} slots"] / found["1 slots"]
    result: dict[str, Any] = {"rates": found, "slots_over_one": times, "physical_cores": cores}
    first = found.get(f"{args.nodes[0]} nodes") if args.nodes else None
    if first:
        result["of_linear"] = {n: found[f"{n} nodes"] / (first * min(n, cores)) for n in args.nodes}
    result["missed"] = (
        [] if times >= GOAL else [f"{args.slots} slots are {times:.2f} times one, not {GOAL:g}"]
    )
    print(json.dumps(result))
    raise SystemExit(3 if result["missed"] else 0)


if __name__ == "__main__":
    main()
