"""A Ray cluster on this machine: a head without processors and nodes of one each, whose processes can be killed.

Ray's own cluster utilities in a program of their own: what they leave open is no matter of the tests' process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence

import psutil

_SMALL = {"object_store_memory": 80 * 2**20, "include_dashboard": False}


class Rack:
    """The cluster as its program knows it."""

    def __init__(self, names: Sequence[str]) -> None:
        command = [sys.executable, __file__, *names]
        environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
        self._program = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.address = self._said()

    def add(self, name: str) -> None:
        """Start a node, which joins when it can."""
        self._tell("add", name)

    def kill(self, name: str) -> None:
        """SIGKILL to everything that runs on a node."""
        self._tell("kill", name)

    def close(self) -> None:
        """End all of it."""
        self._program.communicate()

    def _tell(self, what: str, name: str) -> None:
        assert self._program.stdin is not None
        print(what, name, file=self._program.stdin, flush=True)
        assert self._said() == what

    def _said(self) -> str:
        """What the program says; Ray prints there, too."""
        assert self._program.stdout is not None
        for line in self._program.stdout:
            if line.startswith("rack "):
                return line.split()[1]
        raise AssertionError("the cluster's program ended")


@contextlib.contextmanager
def rack(*names: str) -> Iterator[Rack]:
    """A cluster with nodes of these names, gone at the end."""
    made = Rack(names)
    try:
        yield made
    finally:
        made.close()


def _serve(names: Sequence[str]) -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **_SMALL})
    nodes = {name: cluster.add_node(num_cpus=1, node_name=name, **_SMALL) for name in names}
    print("rack", cluster.address, flush=True)
    for line in sys.stdin:
        what, name = line.split()
        if what == "add":
            nodes[name] = cluster.add_node(num_cpus=1, node_name=name, wait=False, **_SMALL)
        else:
            (raylet,) = nodes.pop(name).all_processes["raylet"]
            tree = psutil.Process(raylet.process.pid)
            for process in [tree, *tree.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
        print("rack", what, flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    _serve(sys.argv[1:])
