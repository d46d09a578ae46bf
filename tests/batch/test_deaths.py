"""Engines that are killed under a batch: who did it is found, nobody else is blamed, and energy is counted on.

The engine is a real process and the kill a real SIGKILL; which row is deadly is the test's choice.
"""

import asyncio
import os
import signal
import sys

import batches
import pytest

from edgellm.batch import asking, rows, run
from edgellm.batch.answer import CRASHED
from edgellm.batch.client import Client
from edgellm.batch.rows import Manner
from edgellm.batch.tally import Tally
from edgellm.catalog import first_use
from edgellm.errors import EngineError
from edgellm.serving.job import ServingOptions, State
from edgellm.serving.pool import Offer
from edgellm.session import EngineOptions

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")

ENGINE = EngineOptions(n_ctx=512, n_threads=1, n_threads_batch=1)


class Kept:
    """A sink in memory."""

    def __init__(self):
        self.answered, self.n_errors, self.found = set(), 0, {}

    def add(self, answer):
        assert answer.custom_id not in self.found
        self.found[answer.custom_id] = answer

    def finish(self, order):
        raise AssertionError


class Deadly(Client):
    """Asks; the engine is killed while it has a row that holds one of these words, so many times each."""

    def __init__(self, asked: Client, engine, times: dict[str, int]):
        self._asked, self._engine, self.times = asked, engine, times

    async def post(self, path, body):
        asked = asyncio.ensure_future(self._asked.post(path, body))
        for word in [word for word, left in self.times.items() if left and word.encode() in body]:
            while not self._engine.n_jobs:
                await asyncio.sleep(0)
            self.times[word] -= 1
            os.kill(self._engine.pid, signal.SIGKILL)
        return await asked


def answered(path, times, *, n_slots=4):
    """What comes of a batch whose rows kill their engine so often."""

    async def work():
        offer = Offer(
            "tiny-qwen3", first_use.resolve("tiny-qwen3"), (), ENGINE, ServingOptions(n_slots, 2**31)
        )
        async with asking.asker(offer) as asker:
            asker._client = Deadly(asker._client, asker._engine, times)
            manner, kept = Manner("m"), Kept()
            tally = await run.run(path, manner, rows.check(path, manner), asker, kept, lambda tally: None)
            return kept.found, tally

    return asyncio.run(work())


def test_the_row_that_kills_its_engine_twice_is_an_error_row_and_no_other(tmp_path):
    n = 24
    asked = [
        {"custom_id": f"r{i}", "prompt": p, **batches.SETTINGS} for i, p in enumerate(batches.prompts(n))
    ]
    asked[5]["user"], asked[15]["user"] = "deadly", "deadly once"
    path = batches.write(tmp_path / "rows.jsonl", asked)
    found, tally = answered(path, {'"deadly"': 2, '"deadly once"': 1})
    assert len(found) == n and (tally.n_answered, tally.n_errors) == (n - 1, 1)
    assert found["r5"].error.code == CRASHED and "'r5'" in tally.first_error
    alone = batches.alone(n)
    for i in set(range(n)) - {5}:
        assert found[f"r{i}"].body["choices"][0]["message"]["content"] == alone[f"r{i}"]


def test_an_engine_that_cannot_be_started_any_more_ends_the_run(tmp_path, monkeypatch):
    path = batches.write(
        tmp_path / "rows.jsonl", [{"prompt": f"deadly {i}", "max_tokens": 4} for i in range(3)]
    )
    monkeypatch.setattr("edgellm.serving.remote._RESTART_WAITS", (0.0,))
    gone = str(tmp_path / "no python")

    class Vanishing(dict):  # from the first kill on, no new process can be started
        def __setitem__(self, word, left):
            monkeypatch.setattr(sys, "executable", gone)
            super().__setitem__(word, left)

    with pytest.raises((EngineError, OSError)):
        answered(path, Vanishing({"deadly": 1}))


def test_joules_of_an_engine_that_died_are_not_lost():
    def state(joules):
        return State(0, 0, 0, 0, 0, joules, "the processor's package")

    tally = Tally(10)
    for joules in (1.0, 5.0, 0.5, 2.0):
        tally.saw("m", state(joules))
    assert tally.joules == 7.0
    tally.saw("another", state(1.5))
    assert tally.joules == 8.5 and "8.5 J (the processor's package)" in tally.summary()
    nothing = Tally(10)
    nothing.saw("m", state(None))
    assert nothing.joules is None
