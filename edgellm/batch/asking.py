"""Rows asked of a model in this process: the server's application around an engine of its own process.

An engine that dies takes every row with it that it had. Each of these is asked once more, alone: so the row that
kills it is found, and no other is blamed.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from edgellm.batch.answer import CRASHED, Answer, refused, responded
from edgellm.batch.client import Client
from edgellm.batch.rows import Refusal, Row
from edgellm.batch.turns import Turns
from edgellm.errors import EngineError
from edgellm.terminal import note

if TYPE_CHECKING:
    from edgellm.serving.job import State
    from edgellm.serving.pool import Offer
    from edgellm.serving.remote import Engine

_DIED = 503  # the server's status for an answer whose engine's process died
_STARTS = 3  # of an engine, before it is given up
UNBOUNDED = 2**31  # rows in flight are counted by the batch, not by the engine's queue


class Asker:
    """Answers rows; as many at a time as `window` says keep the engine busy. Used from one event loop."""

    def __init__(self, client: Client, engine: Engine) -> None:
        self._client, self._engine = client, engine
        self._turns = Turns()

    @property
    def window(self) -> int:
        """Rows in its slots, and some that are made ready meanwhile."""
        n_slots = self._engine.facts.n_slots
        return n_slots + max(2, n_slots // 4)

    async def ask(self, row: Row) -> Answer:
        """The answer to a row. Raises EngineError where the engine cannot be started any more."""
        if row.refusal is not None:
            return refused(row, row.refusal)
        async with self._turns.together():
            status, body = await self._client.post(row.url, row.body)
        if status == _DIED:
            async with self._turns.alone():
                await self._restarted()
                status, body = await self._client.post(row.url, row.body)
            if status == _DIED:
                return refused(row, Refusal(CRASHED, "the engine's process died twice while it had this row"))
        return responded(row, status, body)

    async def states(self) -> dict[str, State]:
        """What the engine is doing; nothing while it cannot say."""
        with contextlib.suppress(EngineError):
            return {self._engine.artifact.name: await self._engine.state()}
        return {}

    async def _restarted(self) -> None:
        """Have an engine that has loaded the model: what kills it next is what it is asked."""
        for start in range(_STARTS):
            try:
                await self._engine.state()
                return
            except EngineError:
                if start == _STARTS - 1:
                    raise


@contextlib.asynccontextmanager
async def asker(offer: Offer) -> AsyncIterator[Asker]:
    """The model of `offer`, opened; closed at the end with what it was doing. Raises EngineError."""
    from edgellm.server.app import application
    from edgellm.server.settings import ServerSettings
    from edgellm.serving.pool import Pool

    pool = Pool([offer])
    try:
        async with pool.use(None) as engine:
            for text in engine.facts.notes:
                note(text)
            yield Asker(Client(application(pool, ServerSettings(log=False))), engine)
    finally:
        await pool.close(0.0)
