"""Why `edgellm batch --ray` calls its actors itself: what Ray Data's `map_batches` does when nodes and workers die.

    python bench/map_batches.py node|worker [--pool fixed|growing]

A cluster of three nodes, 2,000 rows in batches of 20, 20 ms a row. `node`: one node is killed after a third of the rows
and one added after two thirds; shown is how many rows each gave. `worker`: one row kills the worker that has it;
shown is how many rows come until none has come for a minute. Ends with one JSON line.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
import rack

N_ROWS, N_BATCH, QUIET_SECONDS = 2000, 20, 60.0


class Slow:
    """A model of sorts."""

    def __init__(self, deadly: int | None) -> None:
        import ray

        self._node, self._deadly = ray.get_runtime_context().get_node_id(), deadly

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Take 20 ms a row, and say where."""
        if self._deadly in batch["id"]:
            os._exit(1)
        time.sleep(0.02 * len(batch["id"]))
        return {"id": batch["id"], "node": [self._node] * len(batch["id"])}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("node", "worker"))
    parser.add_argument("--pool", choices=("fixed", "growing"), default="fixed")
    args = parser.parse_args()
    with rack.rack("a", "b", "c") as nodes:
        found = rows_of(nodes, args)
        print(json.dumps({"what": args.what, "pool": args.pool, **found}), flush=True)
        nodes.close()
        os._exit(0)  # an execution that hangs would keep this process


def rows_of(nodes: rack.Rack, args: argparse.Namespace) -> dict[str, Any]:
    """How many rows came, from which nodes, and whether the end was reached."""
    import ray

    ray.init(address=nodes.address, log_to_driver=False)
    while len([node for node in ray.nodes() if node["Alive"]]) < 4:
        time.sleep(0.5)
    pool = {"size": 2} if args.pool == "fixed" else {"min_size": 1, "max_size": 8}
    deadly = 777 if args.what == "worker" else None
    answers = ray.data.range(N_ROWS, override_num_blocks=N_ROWS // N_BATCH).map_batches(
        Slow, fn_constructor_args=(deadly,), batch_size=N_BATCH, compute=ray.data.ActorPoolStrategy(**pool)
    )
    names = {node["NodeID"]: node["NodeName"] for node in ray.nodes()}
    own = ray.get_runtime_context().get_node_id()  # which this process would not outlive
    victim = next(name for node_id, name in names.items() if name in ("a", "b", "c") and node_id != own)
    counts: collections.Counter[str] = collections.Counter()
    came, ended = [time.monotonic()], threading.Event()

    def take() -> None:
        for row in answers.iter_rows():
            counts[row["node"]] += 1
            came[0] = time.monotonic()
            if args.what == "node" and counts.total() == N_ROWS // 3:
                nodes.kill(victim)
            if args.what == "node" and counts.total() == 2 * N_ROWS // 3:
                nodes.add("d")
        ended.set()

    threading.Thread(target=take, daemon=True).start()
    while not ended.wait(1) and time.monotonic() - came[0] < QUIET_SECONDS:
        pass
    by_node = {names.get(node_id, "added"): n for node_id, n in counts.items()}
    return {"rows": counts.total(), "of": N_ROWS, "ended": ended.is_set(), "by_node": by_node}


if __name__ == "__main__":
    main()
