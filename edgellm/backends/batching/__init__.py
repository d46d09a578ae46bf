"""Many sequences on one engine: requests in, ids drawn out, one evaluation for all of them at each step.

Start at engine.py, the seam. scheduler.py decides what the next evaluation holds, for every engine that can evaluate
several sequences at once (an `Evaluator`); alone.py serves one request after the other on a `Session`, where it
cannot; opening.py chooses between them. Knows ids, no text, no client, no process.
"""
