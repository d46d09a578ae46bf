"""Rows over the nodes of a Ray cluster: each takes what it has room for, so that a fast one takes more.

Nodes come and go: one that is added is used, the rows of one that dies are asked of others. Ray's own `map_batches`
does less: docs/scale.md. Knows no artifact's bytes and no file of rows.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

from edgellm.batch import node as one
from edgellm.batch.answer import CRASHED, Answer, refused
from edgellm.batch.node import Node
from edgellm.batch.rows import Refusal, Row
from edgellm.cluster import nodes as cluster
from edgellm.errors import EdgellmError
from edgellm.terminal import note

if TYPE_CHECKING:
    from edgellm.serving.job import State
    from edgellm.serving.pool import Offer

_WATCH_SECONDS = 1.0  # between two looks at who is there
_PATIENCE_SECONDS = 300.0  # without any node
_STARTS = 3  # of an actor on a node, before the node is given up


class Nodes:
    """Asks rows of whichever node has room. Made by `nodes`."""

    def __init__(self, offer: Offer) -> None:
        self._offer = offer
        self._nodes: dict[str, Node] = {}
        self._joining: dict[str, asyncio.Task[None]] = {}  # by node, done ones too
        self._changed = asyncio.Condition()
        self._counts: collections.Counter[str] = collections.Counter()  # rows answered, by a node's name
        self._over: EdgellmError | None = None  # why nothing can be asked any more

    @property
    def window(self) -> int:
        """Rows that all nodes together have room for."""
        return max(1, sum(node.window for node in self._nodes.values()))

    async def ask(self, row: Row) -> Answer:
        """The answer to a row, from whichever node gives it. Raises EdgellmError where no node is left."""
        import ray

        if row.refusal is not None:
            return refused(row, row.refusal)
        suspected = False
        while True:
            async with self._place() as node, node.turns.alone() if suspected else node.turns.together():
                if node is not self._nodes.get(node.id):
                    continue  # it was lost while this row waited for its turn
                try:
                    answer: Answer = await node.actor.ask.remote(row)
                    self._counts[node.name] += 1
                    return answer
                except ray.exceptions.RayError as error:
                    why = str(error).strip().splitlines()[0]
                    if not await self._lost(node, why):
                        continue  # the node's end is no row's fault
            if suspected:
                return refused(
                    row, Refusal(CRASHED, f"a node's worker failed twice while it had this row: {why}")
                )
            suspected = True

    async def states(self) -> Mapping[str, State]:
        """What the engines of all nodes are doing."""
        import ray

        found: dict[str, State] = {}
        for node in list(self._nodes.values()):
            with contextlib.suppress(ray.exceptions.RayError):
                for state in (await node.actor.states.remote()).values():
                    found[node.id] = state
        return found

    async def watch(self) -> None:
        """Have every node join that comes, until none is left for long."""
        there = time.monotonic()
        while self._over is None:
            try:
                alive = await asyncio.to_thread(cluster.alive)
            except EdgellmError as error:
                self._over = error
            else:
                for node_id in alive.keys() - self._joining.keys():
                    self._joining[node_id] = asyncio.create_task(self._join(node_id, alive[node_id]))
                there = time.monotonic() if self._nodes else there
                self._over = None if self._nodes else self._why_over(time.monotonic() - there)
            async with self._changed:
                self._changed.notify_all()
            await asyncio.sleep(_WATCH_SECONDS)

    def _why_over(self, seconds: float) -> EdgellmError | None:
        """Why nothing can be asked any more, `seconds` after there was a node."""
        ends = [task.exception() if task.done() else None for task in self._joining.values()]
        failed = [error for error in ends if isinstance(error, EdgellmError)]
        if failed and len(failed) == len(ends):
            return failed[0]
        if seconds > _PATIENCE_SECONDS:
            return EdgellmError(f"no node had room for the model in {seconds:.0f} s; see: ray status")
        return None

    async def first(self) -> None:
        """Wait for a node. Raises EdgellmError where none can open the model, or none comes."""
        async with self._changed:
            await self._changed.wait_for(self._roomy)

    async def close(self) -> None:
        """End what runs on the nodes."""
        import ray

        for task in self._joining.values():
            task.cancel()
        await asyncio.gather(*self._joining.values(), return_exceptions=True)
        for node in self._nodes.values():
            ray.kill(node.actor)
        if self._counts:
            note("rows by node: " + ", ".join(f"{name} {n:,}" for name, n in sorted(self._counts.items())))

    async def _join(self, node_id: str, name: str) -> None:
        """Open the model on a node. Raises EdgellmError."""
        import ray

        for _ in range(_STARTS):
            try:
                node = await one.opened(node_id, name, self._offer)
            except ray.exceptions.RayActorError:
                if node_id not in await asyncio.to_thread(cluster.alive):
                    del self._joining[node_id]
                    return
            except EdgellmError as error:
                note(str(error))
                raise
            else:
                self._nodes[node_id] = node
                async with self._changed:
                    self._changed.notify_all()
                return
        raise EdgellmError(f"node {name} does not take part: its worker died whenever it opened the model")

    @contextlib.asynccontextmanager
    async def _place(self) -> AsyncIterator[Node]:
        """Room on the node that has most of it."""
        async with self._changed:
            node = await self._changed.wait_for(self._roomy)
            assert node is not None
            node.n_asked += 1
        try:
            yield node
        finally:
            async with self._changed:
                node.n_asked -= 1
                self._changed.notify_all()

    def _roomy(self) -> Node | None:
        if self._over is not None:
            raise self._over
        found = min(self._nodes.values(), key=lambda node: node.share, default=None)
        return found if found is not None and found.share < 1 else None

    async def _lost(self, node: Node, why: str) -> bool:
        """A node's actor is gone, or fails: whether the node itself lives, and so will have another."""
        import ray

        if self._nodes.get(node.id) is node:
            del self._nodes[node.id]
            self._joining.pop(node.id, None)
            ray.kill(node.actor)
            note(f"node {node.name} is lost, its rows are asked again: {why}")
        return node.id in await asyncio.to_thread(cluster.alive)


@contextlib.asynccontextmanager
async def nodes(offer: Offer, address: str) -> AsyncIterator[Nodes]:
    """The nodes of the cluster at `address` ("auto": this machine's), the model of `offer` open on one at least.

    Raises EdgellmError.
    """
    with cluster.connected(address):
        found = Nodes(offer)
        watching = asyncio.create_task(found.watch())
        try:
            await found.first()
            yield found
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await found.close()
