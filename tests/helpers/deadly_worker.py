"""A batch over a cluster in which some rows end the worker that has them: `deadly_worker.py ADDRESS ROWS FOLDER`.

A row that holds "deadly" does so every time, one that holds "deadly once" the first time. Prints, as JSON, what came
of each row by its custom_id: the error's code, or the text.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from edgellm.batch import node, nodes, rows, run
from edgellm.batch.rows import Manner
from edgellm.catalog import first_use
from edgellm.serving.job import ServingOptions
from edgellm.serving.pool import Offer
from edgellm.session import EngineOptions

ADDRESS, ROWS, FOLDER = sys.argv[1], Path(sys.argv[2]), sys.argv[3]


class Deadly(node.Holder):
    """As the real one, which it is but for some rows."""

    async def ask(self, row):
        once = Path(FOLDER) / "once"
        if b'"deadly once"' in row.body and not once.exists():
            once.touch()
        elif b'"deadly"' not in row.body:
            return await super().ask(row)
        await asyncio.sleep(0.3)  # so that others are there, too
        os._exit(1)


class Kept:
    def __init__(self):
        self.answered, self.n_errors, self.found = set(), 0, {}

    def add(self, answer):
        assert answer.custom_id not in self.found
        text = None if answer.error else answer.body["choices"][0]["message"]["content"]
        self.found[answer.custom_id] = answer.error.code if answer.error else text


async def main():
    engine = EngineOptions(n_ctx=512, n_threads=1, n_threads_batch=1)
    offer = Offer("m", first_use.resolve("tiny-qwen3"), (), engine, ServingOptions(4, 2**31))
    manner, kept = Manner("m"), Kept()
    async with nodes.nodes(offer, ADDRESS) as there:
        await run.run(ROWS, manner, rows.check(ROWS, manner), there, kept, lambda tally: None)
    return kept.found


node.Holder = Deadly
print(json.dumps(asyncio.run(main())))
