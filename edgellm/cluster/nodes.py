"""A Ray cluster: who is there, and actors that stay where they are put. Contacts nobody but its nodes."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgellm import privacy
from edgellm.errors import EdgellmError, MissingExtraError, UsageError


@contextlib.contextmanager
def connected(address: str) -> Iterator[None]:
    """Inside the block this process belongs to the cluster at `address` ("auto": this machine's).

    There `sys.stdout` leads nowhere: Ray prints what happens to nodes, among answers.
    Raises MissingExtraError, UsageError, and EdgellmError where there is none.
    """
    privacy.refuse_telemetry()
    try:
        import ray
    except ModuleNotFoundError:
        raise MissingExtraError("--ray", "ray") from None
    _knock(address)
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            why = str(error).splitlines()[0]
            raise EdgellmError(f"there is no Ray cluster at {address}: {why}") from None
        try:
            yield
        finally:
            ray.shutdown()


def alive() -> dict[str, str]:
    """Names of the nodes that have a processor to give, by id. Raises EdgellmError where nobody says."""
    return {each["NodeID"]: each["NodeName"] or each["NodeManagerAddress"] for each in _working()}


def processors() -> dict[str, float]:
    """How many processors each node gives, by id."""
    return {each["NodeID"]: each["Resources"]["CPU"] for each in _working()}


def actor(kind: type, node_id: str, n_processors: float, n_calls: int, *arguments: Any) -> Any:
    """An actor of a class on that node and no other, which answers so many calls at a time."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(node_id, soft=False)
    made: Any = ray.remote(kind)
    return made.options(num_cpus=n_processors, max_concurrency=n_calls, scheduling_strategy=here).remote(
        *arguments
    )


def _working() -> list[dict[str, Any]]:
    import ray

    try:
        found: Any = ray.nodes()  # type: ignore[no-untyped-call]
    except Exception as error:  # of Ray's, which are many
        raise EdgellmError(f"the cluster does not say who is there: {error}") from None
    return [each for each in found if each["Alive"] and each["Resources"].get("CPU", 0) >= 1]


def _knock(address: str) -> None:
    """Raise EdgellmError where nobody listens: Ray itself would take minutes to say so."""
    host, _, port = address.rpartition(":")
    if address == "auto":
        return
    if not host or not port.isdecimal():
        raise UsageError(f"--ray {address} is neither auto nor an address such as 192.168.1.10:6379")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise EdgellmError(
            f"there is no Ray cluster at {address} ({error}); start one there with: ray start --head"
        ) from None
