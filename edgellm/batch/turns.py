"""Who may run beside whom: many together, or one alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Turns:
    """Lets many run in company, or one alone; who wants to be alone goes first."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._n_together = self._n_wanting = 0
        self._alone = False

    @contextlib.asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        """Beside others."""
        async with self._changed:
            await self._changed.wait_for(lambda: not (self._alone or self._n_wanting))
            self._n_together += 1
        try:
            yield
        finally:
            async with self._changed:
                self._n_together -= 1
                self._changed.notify_all()

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Beside nobody."""
        async with self._changed:
            self._n_wanting += 1
            try:
                await self._changed.wait_for(lambda: not (self._alone or self._n_together))
            finally:
                self._n_wanting -= 1
                self._changed.notify_all()
            self._alone = True
        try:
            yield
        finally:
            async with self._changed:
                self._alone = False
                self._changed.notify_all()
