"""A Ray cluster on this machine: a head without processors and nodes of one each, whose processes can be killed.

Ray's own cluster utilities in a program of their own: what they leave open is no matter of the tests' process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import psutil

_T = TypeVar("_T")

_SMALL = {"object_store_memory": 80 * 2**20, "include_dashboard": False}


class Rack:
    """The cluster as its program knows it."""

    def __init__(self, names: Sequence[str], *, own_processors: bool) -> None:
        command = [sys.executable, __file__, "own" if own_processors else "any", *names]
        environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._program = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
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
        self._errors.close()

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
        self._errors.seek(0)
        raise AssertionError(self._errors.read()[-4000:].decode(errors="replace"))


@contextlib.contextmanager
def rack(*names: str, own_processors: bool = False) -> Iterator[Rack]:
    """A cluster with nodes of these names, gone at the end; with `own_processors` each is kept to one, by turns."""
    made = Rack(names, own_processors=own_processors)
    try:
        yield made
    finally:
        made.close()


def _patiently(start: Callable[..., _T], **options: Any) -> _T:
    """What `start` gives: Ray gives a node half a minute to start, which a busy machine may not have."""
    for _ in range(4):
        with contextlib.suppress(Exception):
            return start(**options, **_SMALL)
    return start(**options, **_SMALL)


def _serve(processors: str, *names: str) -> None:
    from ray.cluster_utils import Cluster

    cluster = _patiently(lambda **options: Cluster(initialize_head=True, head_node_args=options), num_cpus=0)
    there, nodes = sorted(os.sched_getaffinity(0)), {}
    for i, name in enumerate(names):
        if processors == "own":  # of this process, and so of those that it starts
            os.sched_setaffinity(0, {there[i % len(there)]})
        nodes[name] = _patiently(cluster.add_node, num_cpus=1, node_name=name, wait=False)
    os.sched_setaffinity(0, there)
    print("rack", cluster.address, flush=True)
    for line in sys.stdin:
        what, name = line.split()
        if what == "add":
            nodes[name] = _patiently(cluster.add_node, num_cpus=1, node_name=name, wait=False)
        else:
            (raylet,) = nodes.pop(name).all_processes["raylet"]
            tree = psutil.Process(raylet.process.pid)
            for process in [tree, *tree.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
        print("rack", what, flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    _serve(*sys.argv[1:])
