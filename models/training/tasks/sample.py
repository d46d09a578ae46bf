"""What one training dialogue is, and which combinations are held out.

Every task module draws `Sample`s. A sample's `key` names the combination it was made of (the fact and its
phrasing, the two operands, the words of a sentence); `held_out(key)` alone decides the side of the split, so
that a held-out combination can occur in training in no form. This module knows no task.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass

#: One user message and the assistant's reply.
Turn = tuple[str, str]

#: One combination in this many is held out.
HELD_OUT_EVERY = 16


@dataclass(frozen=True)
class Sample:
    """One dialogue: the reply of the last turn is what a held-out item asks for."""

    task: str
    lang: str
    key: str
    turns: tuple[Turn, ...]


#: A task's way of drawing one sample, from either side of the split.
Draw = Callable[[random.Random], Sample]


def held_out(key: str) -> bool:
    """Whether a combination belongs to the held-out side; depends on nothing but the key."""
    digest = hashlib.blake2s(key.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") % HELD_OUT_EVERY == 0


def draw_from(draw: Draw, rng: random.Random, want_held_out: bool) -> Sample:
    """Draw until the sample is on the wanted side of the split."""
    while True:
        sample = draw(rng)
        if held_out(f"{sample.task}|{sample.key}") is want_held_out:
            return sample


def capital_first(text: str) -> str:
    """Upper-case the first letter and leave the rest alone."""
    return text[:1].upper() + text[1:]
