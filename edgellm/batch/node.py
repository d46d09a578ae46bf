"""One node of a Ray cluster: the actor that holds the model there, and the driver's end of it."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgellm.batch.turns import Turns
from edgellm.errors import EdgellmError
from edgellm.version import __version__

if TYPE_CHECKING:
    from edgellm.batch.answer import Answer
    from edgellm.batch.rows import Row
    from edgellm.serving.job import State
    from edgellm.serving.pool import Offer

_AHEAD = 4  # rows under way to a node beside those that keep it busy
_CALLS = 10_000  # of an actor at a time: rows are counted here


class Holder:
    """The actor: a model, and the server's application on it, as on one machine."""

    def __init__(self) -> None:
        self._open = contextlib.AsyncExitStack()

    async def open(self, offer: Offer, version: str, fingerprint: str) -> int:
        """Open the model, which has to be there: how many rows to have here at a time.

        Raises EdgellmError where it is another one, or cannot be opened.
        """
        from edgellm.batch import asking
        from edgellm.formats.artifact import Artifact

        if version != __version__:
            raise EdgellmError(
                f"edgellm {__version__} is installed there and {version} here; install the same"
            )
        found = await asyncio.to_thread(lambda: Artifact.open(offer.artifact.path).fingerprint)
        if found != fingerprint:
            raise EdgellmError(f"{offer.artifact.path} is another file there")
        self._asker = await self._open.enter_async_context(asking.asker(offer))
        return self._asker.window + _AHEAD

    async def ask(self, row: Row) -> Answer:
        """The answer to a row."""
        return await self._asker.ask(row)

    async def states(self) -> dict[str, State]:
        """What its engine is doing."""
        return dict(await self._asker.states())


@dataclass(eq=False)
class Node:
    """The driver's end."""

    id: str
    name: str  # as people know it
    actor: Any
    window: int  # rows to have there at a time
    n_asked: int = 0  # rows that are there
    turns: Turns = field(default_factory=Turns)

    @property
    def share(self) -> float:
        """How full it is."""
        return self.n_asked / self.window


async def opened(node_id: str, name: str, offer: Offer, fingerprint: str) -> Node:
    """An actor on that node and no other, which takes one of its processors, with the model of `offer` open.

    Raises EdgellmError where that cannot be, Ray's RayActorError where the actor died over it.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(node_id, soft=False)
    kind: Any = ray.remote(Holder)
    actor = kind.options(num_cpus=1, max_concurrency=_CALLS, scheduling_strategy=here).remote()
    try:
        window: int = await actor.open.remote(offer, __version__, fingerprint)
    except BaseException as error:
        ray.kill(actor)
        if isinstance(error, ray.exceptions.RayTaskError):
            raise EdgellmError(f"node {name} does not take part: {error.cause}") from None
        raise
    return Node(node_id, name, actor, window)
