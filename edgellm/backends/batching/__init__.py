"""Many sequences on one engine: requests in, ids drawn out, one evaluation for all of them at each step.

Start at engine.py, the seam. scheduler.py decides what the next evaluation holds, for every backend that can evaluate
several sequences at once (evaluator.py says what it has to offer); slot.py is one of these sequences. alone.py serves
one request after the other on a `Session`, where it cannot; opening.py chooses between them. Knows ids, no text, no
client, no process.
"""
