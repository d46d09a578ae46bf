"""A batch from its first row to its last: as many rows at a time as keep the engines busy, answers kept as they come.

Knows neither models nor files of answers, but what asks and what keeps.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgellm.batch import rows
from edgellm.batch.tally import Tally

if TYPE_CHECKING:
    from edgellm.batch.answer import Answer
    from edgellm.batch.journal import Sink
    from edgellm.batch.rows import Manner, Row
    from edgellm.serving.job import State

_LOOK_SECONDS = 2.0  # between two looks at the engines


class Asks(Protocol):
    """What answers rows."""

    @property
    def window(self) -> int:
        """Rows to ask at a time, now."""
        ...

    async def ask(self, row: Row) -> Answer:
        """The answer to a row; an error row where there is none. Raises EdgellmError where nothing can be asked."""
        ...

    async def states(self) -> Mapping[str, State]:
        """What its engines are doing, by name."""
        ...


async def run(
    source: Path,
    manner: Manner,
    ids: Mapping[str, str],
    asks: Asks,
    sink: Sink,
    shown: Callable[[Tally], None],
) -> Tally:
    """Ask all rows of `source` that `sink` does not have answered. `shown` is called as it goes on.

    Raises EdgellmError; what was answered until then is kept.
    """
    tally = Tally(len(ids), len(sink.answered), sink.n_errors)
    left = (row for row in rows.rows(source, manner) if row.custom_id not in sink.answered)
    looking = asyncio.create_task(_look(asks, tally, shown))
    try:
        await _ask_all(left, asks, sink, tally)
        await _look_once(asks, tally)
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
    return tally


async def _ask_all(left: Iterator[Row], asks: Asks, sink: Sink, tally: Tally) -> None:
    asked: set[asyncio.Task[Answer]] = set()
    try:
        while True:
            while len(asked) < asks.window and (row := next(left, None)) is not None:
                asked.add(asyncio.create_task(asks.ask(row)))
            if not asked:
                return
            done, asked = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            failed = [task for task in done if task.exception() is not None]
            for task in done.difference(failed):
                sink.add(task.result())
                tally.took(task.result())
            for task in failed:
                task.result()  # raises
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


async def _look(asks: Asks, tally: Tally, shown: Callable[[Tally], None]) -> None:
    """Show how far it is, and count joules, which an engine that ends takes with it."""
    looked = 0.0
    while True:
        if time.monotonic() - looked > _LOOK_SECONDS:
            await _look_once(asks, tally)
            looked = time.monotonic()
        shown(tally)
        await asyncio.sleep(0.2)


async def _look_once(asks: Asks, tally: Tally) -> None:
    for name, state in (await asks.states()).items():
        tally.saw(name, state)
