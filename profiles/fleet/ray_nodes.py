"""The nodes of a Ray cluster: an actor on each answers what node.py answers over ssh.

An actor takes all processors of its node, so that nothing else of the cluster runs beside it. Ray's own processes
do run there; each result says how many they were and what they took.
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgellm.cluster import nodes
from edgellm.errors import EdgellmError, EngineError
from edgellm.profiles.fleet import node
from edgellm.profiles.result.caveats import Caveat
from edgellm.profiles.result.result import Report, from_json, to_json

if TYPE_CHECKING:
    from edgellm.profiles.fleet.run import Opener

_CALLS = 2
_PATIENCE_SECONDS = 120.0  # for a node that others use to be free


@dataclass(frozen=True)
class Company:
    """Ray's processes on a node."""

    count: int
    cpu_seconds: float
    resident_bytes: int


class Actor:
    """The node's end."""

    def __init__(self, models: node.Models) -> None:
        self._models = models
        os.environ.pop("OMP_NUM_THREADS", None)  # Ray's idea of threads; over ssh there is none

    def handle(self, what: str, values: dict[str, Any], payload: bytes) -> Iterator[dict[str, Any]]:
        """The answers to one request, as they come."""
        told: queue.Queue[dict[str, Any]] = queue.Queue()
        before = company()
        work = threading.Thread(
            target=node.handle, args=(what, values, payload, told.put, self._models), daemon=True
        )
        work.start()
        while True:
            answer = told.get()
            if "report" in answer:
                answer = {"report": to_json(_caveated(from_json(answer["report"]), before, company()))}
            yield answer
            if "error" in answer or answer.get("end"):
                return


class RayNode:
    """The driver's end of one."""

    def __init__(self, name: str, node_id: str, models: node.Models) -> None:
        """Take all of a node. Raises EngineError where it is not to be had."""
        import ray

        self.name = name
        every = nodes.processors().get(node_id)
        if every is None:
            raise EngineError("it has left the cluster")
        self._actor = nodes.actor(Actor, node_id, every, _CALLS, models)
        try:
            ray.get(self._actor.__ray_ready__.remote(), timeout=_PATIENCE_SECONDS)
        except ray.exceptions.RayError as error:
            self.close()
            raise EngineError(
                f"its processors were not free in {_PATIENCE_SECONDS:.0f} s ({type(error).__name__})"
            ) from None

    def ask(self, what: str, payload: bytes = b"", **values: Any) -> Iterator[dict[str, Any]]:
        """As ssh.Ssh. Raises EngineError."""
        import ray

        answers = self._actor.handle.options(num_returns="streaming").remote(what, values, payload)
        try:
            yield from node.to_the_end(ray.get(each) for each in answers)
        except ray.exceptions.RayError as error:
            raise EngineError(f"the node died, or its worker ({type(error).__name__})") from None

    def close(self) -> None:
        """End what runs there. Idempotent."""
        import ray

        with contextlib.suppress(Exception):  # it is gone, or the whole cluster is
            ray.kill(self._actor)


@contextlib.contextmanager
def openers(address: str, models: node.Models) -> Iterator[dict[str, Opener]]:
    """What connects to each node, by name, inside the block; `models` tells which it has. Raises EdgellmError."""
    with nodes.connected(address):
        found = nodes.alive()
        if not found:
            raise EdgellmError(f"the Ray cluster at {address} has no node with a processor to give")
        names: dict[str, str] = {}
        for node_id, name in sorted(found.items(), key=lambda item: item[1]):
            names[name if name not in names else f"{name}-{node_id[:6]}"] = node_id
        yield {name: functools.partial(RayNode, name, node_id, models) for name, node_id in names.items()}


def company() -> Company:
    """Ray's processes on this machine but for this one."""
    import psutil

    count, seconds, resident = 0, 0.0, 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != psutil.Process().pid and _is_rays(process.cmdline()):
                times = process.cpu_times()
                count, seconds = count + 1, seconds + times.user + times.system
                resident += process.memory_info().rss
    return Company(count, seconds, resident)


def _is_rays(command: list[str]) -> bool:
    """Its servers and agents by where their programs lie, its workers by the name they give themselves."""
    parts = ("/ray/core/", "/ray/_private/", "/ray/dashboard/")
    return any(part in word for word in command for part in parts) or bool(
        command and command[0].startswith("ray::")
    )


def _caveated(report: Report, before: Company, after: Company) -> Report:
    """The result with what Ray itself took while it was made."""
    values = {
        "count": after.count,
        "seconds": round(max(0.0, after.cpu_seconds - before.cpu_seconds), 1),
        "megabytes": round(after.resident_bytes / 1e6),
    }
    others = tuple(each for each in report.caveats if each.code != "ray")
    return replace(report, caveats=(*others, Caveat("ray", "", values)))
