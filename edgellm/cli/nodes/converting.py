"""`edgellm convert --ray`: several checkpoints over the nodes of a cluster, one at a time on each.

Sources and the output's folder are at the same paths on every node, as on a shared file system; a node that does not
see them takes no part.
"""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgellm import lifeline
from edgellm.cluster import nodes
from edgellm.errors import EngineError, UsageError
from edgellm.terminal import note, say

_CALLS = 1


class Converter:
    """The node's end."""

    def missing(self, paths: Sequence[Path]) -> list[Path]:
        """Those that this node does not see."""
        return [path for path in paths if not path.exists()]

    def convert(self, arguments: Sequence[str]) -> tuple[int, str, str]:
        """`edgellm convert` in a process of its own: exit code, what it said, and its notes."""
        command = [sys.executable, "-m", "edgellm", "convert", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, **lifeline.attached())
        return done.returncode, done.stdout, done.stderr


@dataclass
class _Work:
    """What is left, and what became of the rest."""

    jobs: queue.SimpleQueue[Path]
    failures: dict[Path, str]
    lock: threading.Lock


def command(address: str, sources: Sequence[Path], folder: Path, options: Sequence[str]) -> None:
    """Convert each source with `options` into `folder`. Raises EdgellmError when one could not be."""
    work = _Work(queue.SimpleQueue(), {}, threading.Lock())
    for source in sources:
        work.jobs.put(source.resolve())
    told: list[str] = []
    with nodes.connected(address):
        found = nodes.alive()
        processors = nodes.processors()
        with ThreadPoolExecutor(max(1, len(found))) as pool:
            working = [
                pool.submit(
                    _node,
                    name,
                    nodes.actor(Converter, node_id, processors[node_id], _CALLS),
                    work,
                    folder,
                    options,
                    told,
                )
                for node_id, name in found.items()
            ]
            lost = [why for each in working if (why := each.result())]
    for line in told:
        say(line)
    for why in lost:
        note(why)
    left = work.jobs.qsize()
    for source, why in work.failures.items():
        note(f"{source}: {why}")
    if left or work.failures:
        raise EngineError(
            f"{left + len(work.failures)} of {len(sources)} sources were not converted; what was is in {folder}"
        )


def _node(
    name: str, actor: Any, work: _Work, folder: Path, options: Sequence[str], told: list[str]
) -> str | None:
    """Take sources until none is left; why the node took no part, or no longer."""
    import ray

    source: Path | None = None
    try:
        if unseen := ray.get(actor.missing.remote([folder])):
            return f"node {name} does not see {unseen[0]}: put it where all nodes have the same path"
        while True:
            try:
                source = work.jobs.get_nowait()
            except queue.Empty:
                return None
            if ray.get(actor.missing.remote([source])):
                with work.lock:
                    work.failures[source] = (
                        f"node {name} does not see it: put it where all nodes have the same path"
                    )
                continue
            code, said, notes = ray.get(actor.convert.remote([str(source), *options, "-o", str(folder)]))
            with work.lock:
                told.extend(f"{name}: {line}" for line in said.splitlines())
                if code:
                    work.failures[source] = (notes.strip().splitlines() or ["it said nothing"])[
                        -1
                    ].removeprefix("edgellm: ")
    except ray.exceptions.RayError as error:
        if source is not None:
            work.jobs.put(source)  # another node's
        return f"node {name} is lost ({type(error).__name__})"
    finally:
        try:
            ray.kill(actor)
        except Exception:  # it is gone
            note(f"node {name} had ended")


def existing(sources: Sequence[str]) -> list[Path]:
    """The sources as folders or files. Raises UsageError."""
    for source in sources:
        if not Path(source).exists():
            raise UsageError(f"{source} is not here; --ray converts folders and files that all nodes see")
    return [Path(source) for source in sources]
