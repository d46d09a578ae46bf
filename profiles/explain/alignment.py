"""Readings of one text side by side: cut where every tokenizer cuts, and never inside a character.

Pure: knows readings and the text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from edgellm.profiles.explain.reading import Reading, Token


@dataclass(frozen=True)
class Span:
    """The shortest piece of text that is whole tokens of every reading."""

    text: str
    tokens: tuple[tuple[Token, ...], ...]  # of each reading

    def bits(self, reading: int) -> float | None:
        """-log2 of the piece's probability; None where its first token was not predicted."""
        found = [token.log_prob for token in self.tokens[reading]]
        known = [value for value in found if value is not None]
        return -math.fsum(known) / math.log(2) if len(known) == len(found) else None

    @property
    def divergence_bits(self) -> float | None:
        """By how many bits the second reading finds the piece less likely than the first; None of one reading."""
        if len(self.tokens) < 2:
            return None
        first, second = self.bits(0), self.bits(1)
        return None if first is None or second is None else second - first

    def expected(self, reading: int) -> str | None:
        """What the reading would have begun the piece with; None where it is what came, or unknown."""
        first = self.tokens[reading][0]
        return first.rivals[0].text if first.rank not in (None, 1) and first.rivals else None

    @property
    def differ(self) -> bool:
        """Whether two readings would have gone on differently: another likeliest token at the beginning."""
        if len(self.tokens) < 2 or any(tokens[0].rank is None for tokens in self.tokens):
            return False
        ahead = [self.expected(reading) for reading in (0, 1)]
        own = [_own(self.text, tokens[0], self.tokens[0][0].start) for tokens in self.tokens]
        return (ahead[0] or own[0]) != (ahead[1] or own[1]) and ahead != [None, None]


def align(text: str, readings: Sequence[Reading]) -> tuple[Span, ...]:
    """The text in pieces; every token of every reading is in one of them."""
    data = text.encode()
    cuts = {0, *accumulate(len(character.encode()) for character in text)}
    for reading in readings:
        cuts &= {0, *(token.end for token in reading.tokens)}
    spans = []
    places = [0] * len(readings)
    for start, end in pairwise(sorted(cuts)):
        parts = []
        for number, reading in enumerate(readings):
            first = places[number]
            while places[number] < len(reading.tokens) and reading.tokens[places[number]].end <= end:
                places[number] += 1
            parts.append(reading.tokens[first : places[number]])
        spans.append(Span(data[start:end].decode(), tuple(parts)))
    return tuple(spans)


def _own(text: str, token: Token, start: int) -> str:
    """The token's own text, of a piece that begins at byte `start`."""
    return text.encode()[token.start - start : token.end - start].decode("utf-8", "replace")
