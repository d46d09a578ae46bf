"""Readings as a page of their own, as JSON, and as a few lines: nothing is asked of a network, all text is escaped."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from edgellm.profiles.explain.alignment import Span
from edgellm.profiles.explain.reading import Reading, Token
from edgellm.terminal import aligned, visible
from edgellm.units import count

#: Changed whenever a field changes its meaning or goes.
SCHEMA = "edgellm.explain/1"
#: Bits at which a piece has its colour in full.
FULL_BITS = 8.0
#: Pieces that a terminal shows.
MOST = 10


@dataclass(frozen=True)
class Shown:
    """A piece of the text as the page draws it."""

    text: str
    kind: (
        str  # "more" | "less" likely to the second model; "odd": unlikely to the only one; "": nothing to say
    )
    strength: float  # 0 to 1
    differ: bool
    label: str  # in a few words, for those who cannot point at it


def to_json(text: str, readings: Sequence[Reading], spans: Sequence[Span]) -> str:
    """Everything: the readings, and the pieces with their tokens by index."""
    places = [{id(token): index for index, token in enumerate(reading.tokens)} for reading in readings]
    plain = {
        "schema": SCHEMA,
        "text": text,
        "models": [
            {
                "name": reading.model,
                "quantization": reading.quantization,
                "bits_per_byte": reading.bits_per_byte,
                "tokens": [_token(token) for token in reading.tokens],
            }
            for reading in readings
        ],
        "spans": [
            {
                "text": span.text,
                "tokens": [
                    [place[id(token)] for token in tokens]
                    for place, tokens in zip(places, span.tokens, strict=True)
                ],
                "bits": [span.bits(number) for number in range(len(readings))],
                "divergence_bits": span.divergence_bits,
                "differ": span.differ,
            }
            for span in spans
        ],
    }
    return json.dumps(plain, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def to_page(readings: Sequence[Reading], spans: Sequence[Span]) -> str:
    """One file of HTML."""
    found = Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return found.get_template("explain.html.jinja").render(
        readings=readings,
        shown=[_shown(span) for span in spans],
        names=[_name(reading) for reading in readings],
        two=len(readings) > 1,
        differing=sum(span.differ for span in spans),
        details=[[[_details(token, span) for token in tokens] for tokens in span.tokens] for span in spans],
    )


def to_lines(readings: Sequence[Reading], spans: Sequence[Span]) -> str:
    """What a terminal shows: each model's figure, and the pieces that say most."""
    lines = aligned(
        [(_name(each), count(len(each.tokens), "token"), _bits_per_byte(each)) for each in readings]
    )
    two = len(readings) > 1
    weight = (lambda s: abs(s.divergence_bits or 0.0)) if two else (lambda s: s.bits(0) or 0.0)
    top = sorted(spans, key=weight, reverse=True)[:MOST]
    head = ["piece", *("bits" for _ in readings), *("would have said" for _ in readings)]
    rows = [
        [
            repr(span.text),
            *(_number(span.bits(number)) for number in range(len(readings))),
            *(repr(text) if (text := span.expected(number)) else "-" for number in range(len(readings))),
        ]
        for span in top
    ]
    title = "where they differ most:" if two else "what it expected least:"
    return "\n".join([*lines, "", title, *aligned([head, *rows])])


def _shown(span: Span) -> Shown:
    if len(span.tokens) > 1:
        bits = span.divergence_bits
        kind = "" if bits is None else "less" if bits > 0 else "more"
        told = "not predicted" if bits is None else f"second model {bits:+.2f} bits"
    else:
        bits = span.bits(0)
        kind, told = "odd", "not predicted" if bits is None else f"{bits:.2f} bits"
    strength = min(1.0, abs(bits or 0.0) / FULL_BITS)
    return Shown(visible(span.text, keep="\n\t"), kind, round(strength, 2), span.differ, told)


def _details(token: Token, span: Span) -> dict[str, Any]:
    """What a reader sees who points at it."""
    start = span.tokens[0][0].start
    return {
        "text": visible(
            span.text.encode()[token.start - start : token.end - start].decode("utf-8", "replace")
        ),
        "p": None if token.log_prob is None else math.exp(token.log_prob),
        "bits": None if token.log_prob is None else round(-token.log_prob / math.log(2), 3),
        "rank": token.rank,
        "entropy": None if token.entropy_bits is None else round(token.entropy_bits, 3),
        "id": token.id,
        "rivals": [[visible(rival.text), math.exp(rival.log_prob)] for rival in token.rivals],
    }


def _token(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "start": token.start,
        "end": token.end,
        "log_prob": token.log_prob,
        "rank": token.rank,
        "entropy_bits": token.entropy_bits,
        "rivals": [{"text": rival.text, "log_prob": rival.log_prob} for rival in token.rivals],
    }


def _name(reading: Reading) -> str:
    return f"{reading.model} {reading.quantization}"


def _bits_per_byte(reading: Reading) -> str:
    return "-" if reading.bits_per_byte is None else f"{reading.bits_per_byte:.3f} bits per byte"


def _number(bits: float | None) -> str:
    return "-" if bits is None else f"{bits:.2f}"


def _source(name: str) -> str:
    return (resources.files(__package__) / "templates" / name).read_text(encoding="utf-8")
