"""Which type to take: the one whose time and loss together are least, and why each of the others is not it.

A type's worth is -ln(seconds of a usual answer) - KLD / k: with the k of `balance`, a divergence of 0.05 nats weighs as
much as taking e times as long; who wants speed tolerates six times that, who wants quality a tenth. What does not fit,
is slower than asked for, or loses more than allowed, is out before.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace

from edgellm.errors import CheckFailedError
from edgellm.fit.table import ANSWER, PROMPT, Row, Table
from edgellm.units import format_size

#: Nats that weigh as much as a factor e of time.
WANTS: dict[str, float] = {"speed": 0.3, "balance": 0.05, "quality": 0.005}
_SAME = 0.02  # a share below which two speeds are called the same


@dataclass(frozen=True)
class Wish:
    """What is wanted of a type."""

    want: str = "balance"
    min_tokens_per_second: float | None = None
    max_kld: float | None = None
    imatrix: bool = False  # one is at hand


@dataclass(frozen=True)
class Choice:
    """The type to take, and the others."""

    best: Row
    reason: str
    losers: Mapping[str, str]  # type -> why not, the nearest first
    finalists: tuple[str, ...]  # by worth, the best first


def choose(table: Table, wish: Wish) -> Choice:
    """The best of a table. Raises CheckFailedError where none will do, with what each lacks."""
    out: dict[str, str] = {}
    left = []
    for row in table.rows:
        why = _out(row, table, wish)
        if why:
            out[row.type] = why
        else:
            left.append(row)
    if not left:
        nearest = min(table.rows, key=lambda row: row.full.peak, default=None)
        what = f"the least is {nearest.type}: {out[nearest.type]}" if nearest else "none can be made"
        raise CheckFailedError(f"{table.name}: no type will do; {what}; ask for less, or give --ram, -c")
    left.sort(key=lambda row: worth(row, wish.want), reverse=True)
    best = left[0]
    losers = {row.type: _against(row, best) for row in left[1:]} | out | dict(table.refused)
    return Choice(best, _reason(best, wish, table), losers, tuple(row.type for row in left[:3]))


def among(said: Choice, measured: Choice) -> Choice:
    """The choice from measured finalists; the others had lost by prediction."""
    others = {
        type_: f"{why} (by prediction)" for type_, why in said.losers.items() if type_ not in said.finalists
    }
    return replace(measured, losers={**measured.losers, **others})


def rivals(table: Table, type_: str) -> list[tuple[Row, str]]:
    """Types at least as fast as this one that lose less, with what each would bring; the least lost first."""
    own = next((row for row in table.rows if row.type == type_), None)
    if own is None or own.loss is None or own.speed is None:
        return []
    limit = answer_seconds(own) * (1 + _SAME)
    closer = [
        row
        for row in table.rows
        if row.speed and row.loss and row.fits and not row.build.needs_imatrix
        if answer_seconds(row) <= limit and row.loss.kld < own.loss.kld
    ]
    closer.sort(key=lambda row: row.loss.kld if row.loss else math.inf)
    return [(row, _against(row, own)) for row in closer]


def worth(row: Row, want: str) -> float:
    """-ln(seconds of a usual answer) - KLD / k."""
    kld = row.loss.kld if row.loss else math.inf
    return -math.log(answer_seconds(row)) - kld / WANTS[want]


def answer_seconds(row: Row) -> float:
    """Of the prompt and the answer that speeds are told of; where they are not known, by the bytes read."""
    if row.speed is None:
        return row.build.bytes_per_token / 1e9
    return PROMPT / row.speed.prefill + ANSWER / row.speed.decode


def command(model: str, choice: Choice) -> str:
    """What makes it."""
    words = ["edgellm", "convert", model, "--quant", choice.best.type]
    if choice.best.build.needs_imatrix:
        words += ["--imatrix", "imatrix.gguf"]
    return shlex.join(words)


def _out(row: Row, table: Table, wish: Wish) -> str | None:
    """Why a type is no candidate, None for one."""
    if row.build.needs_imatrix and not wish.imatrix:
        return "needs an importance matrix: edgellm calibrate makes one, --imatrix says that it is at hand"
    if not row.fits:
        needs, there = format_size(row.full.peak), format_size(table.ram)
        return f"needs {needs} with {table.n_ctx:,} tokens of context, {there} is there"
    if row.loss is None:
        return "what it loses is not known"
    if wish.max_kld is not None and row.loss.kld > wish.max_kld:
        return f"KLD {row.loss.kld:.2g}, more than {wish.max_kld:g}"
    if wish.min_tokens_per_second is not None:
        if row.speed is None:
            return f"its speed is not known: {row.speed_reason}"
        if row.speed.decode < wish.min_tokens_per_second:
            return f"{row.speed.decode:.1f} tok/s, fewer than {wish.min_tokens_per_second:g}"
    return None


def _reason(best: Row, wish: Wish, table: Table) -> str:
    loss = best.loss
    assert loss is not None
    what = {
        "speed": "fast",
        "balance": "the best of speed and quality together",
        "quality": "the least lost",
    }[wish.want]
    pace = f"{best.speed.decode:.0f} tok/s, " if best.speed else ""
    return (
        f"{what}: {pace}KLD {loss.kld:.2g} ({loss.source}), {format_size(best.full.peak)} of memory with "
        f"{table.n_ctx:,} tokens of context, file {format_size(best.build.file_bytes)}"
    )


def _against(row: Row, best: Row) -> str:
    """Why the other is ahead, in one clause."""
    assert row.loss and best.loss
    loss = _loss_words(row.loss.kld, best.loss.kld)
    ratio = answer_seconds(row) / answer_seconds(best)
    pace = (
        "as fast"
        if abs(ratio - 1) < _SAME
        else f"{_times(ratio)} slower"
        if ratio > 1
        else f"{_times(1 / ratio)} faster"
    )
    why = ""
    if ratio > 1 + _SAME and row.build.fallbacks > 1:
        why = f", for the rows of {row.build.fallbacks} of its matrices are no multiple of 256"
    gains = abs(ratio - 1) < _SAME or (row.loss.kld < best.loss.kld) != (ratio > 1)
    joint = " and " if gains else ", but "
    first, second = (loss, pace) if row.loss.kld < best.loss.kld else (pace, loss)
    return f"{first}{joint}{second}{why}"


def _loss_words(kld: float, best: float) -> str:
    if best and abs(kld / best - 1) < 0.1:
        return f"same KLD ({kld:.2g})"
    return f"KLD {kld:.2g} against {best:.2g}"


def _times(ratio: float) -> str:
    return f"{ratio:.2f} times" if ratio < 1.1 else f"{ratio:.1f} times"
