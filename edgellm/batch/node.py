"""One node of a Ray cluster: the actor that holds the model there, and the driver's end of it."""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgellm.batch import shipping
from edgellm.batch.turns import Turns
from edgellm.cluster import nodes
from edgellm.errors import EdgellmError
from edgellm.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from edgellm.batch.answer import Answer
    from edgellm.batch.rows import Row
    from edgellm.formats.artifact import Artifact
    from edgellm.serving.job import State
    from edgellm.serving.pool import Offer

_AHEAD = 4  # rows under way to a node beside those that keep it busy
_CALLS = 10_000  # of an actor at a time: rows are counted here


class Holder(shipping.Receiver):
    """The actor: a model, and the server's application on it, as on one machine."""

    def __init__(self) -> None:
        self._open = contextlib.AsyncExitStack()

    async def version(self) -> str:
        """Of the edgellm that is installed there."""
        return __version__

    async def open(self, offer: Offer, path: Path, draft: Path | None) -> int:
        """Open the model, which is at `path`: how many rows to have here at a time. Raises EdgellmError."""
        from edgellm.batch import asking

        drafting = None if draft is None else _artifact(draft)
        serving = dataclasses.replace(offer.serving, draft=drafting)
        offer = dataclasses.replace(offer, artifact=_artifact(path), serving=serving)
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


async def opened(node_id: str, name: str, offer: Offer) -> Node:
    """An actor on that node and no other, which takes one of its processors, with the model of `offer` open.

    Raises EdgellmError where that cannot be, Ray's RayActorError where the actor died over it.
    """
    import ray

    actor = nodes.actor(Holder, node_id, 1, _CALLS)
    try:
        return Node(node_id, name, actor, await _open(actor, offer))
    except BaseException as error:
        ray.kill(actor)
        if isinstance(error, ray.exceptions.RayTaskError):
            raise EdgellmError(f"node {name} does not take part: {error.cause}") from None
        if isinstance(error, EdgellmError):
            raise EdgellmError(f"node {name} does not take part: {error}") from None
        raise


async def _open(actor: Any, offer: Offer) -> int:
    if (version := await actor.version.remote()) != __version__:
        raise EdgellmError(f"edgellm {version} is installed there and {__version__} here; install the same")
    draft = offer.serving.draft
    path = await shipping.ship(actor, offer.artifact)
    window: int = await actor.open.remote(offer, path, draft and await shipping.ship(actor, draft))
    return window


def _artifact(path: Path) -> Artifact:
    from edgellm.formats.artifact import Artifact

    return Artifact.open(path)
