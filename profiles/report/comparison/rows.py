"""A comparison as rows of words: axis by axis the values, the ratios to the first, and who is ahead.

Knows no format: tables, Markdown and pages are made from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgellm.profiles.compare.comparison import Comparison, value
from edgellm.profiles.compare.verdict import SIGNIFICANCE, UNPAIRED_MARGIN, Axis, Pair, Verdict
from edgellm.profiles.report.figures.line import Line, lines
from edgellm.profiles.report.figures.pairs import standing
from edgellm.profiles.report.figures.scale import capital, scale_for
from edgellm.profiles.report.words import metric_name, say
from edgellm.profiles.result.derive import METRICS

#: Quality is no measurement of launches: how its figures are written.
_QUALITY = {"bits_per_byte": "{:.3f}", "tasks_right": "{:.1%}"}


@dataclass(frozen=True)
class Row:
    """One axis in words."""

    axis: Axis
    title: str
    values: tuple[str, ...]
    ratios: tuple[str, ...]  # each to the first; "" for the first itself
    verdict: str
    winner: int | None


def rows(comparison: Comparison, names: Sequence[str], lang: str) -> list[Row]:
    """A row for each axis that at least two candidates have."""
    return [_row(comparison, verdict, names, lang) for verdict in comparison.verdicts]


def names_of(comparison: Comparison, lang: str) -> list[str]:
    """What to call the candidates; where they come from several files, by the file too."""
    found = []
    for line, candidate in zip(lines_of(comparison, lang), comparison.candidates, strict=True):
        found.append(f"{line.spoken}, {candidate.source}" if candidate.source else line.spoken)
    return found


def lines_of(comparison: Comparison, lang: str) -> list[Line]:
    """The candidates as reports call and colour them."""
    return lines([candidate.run for candidate in comparison.candidates], lang)


def axis_title(axis: Axis, lang: str) -> str:
    """What an axis is called."""
    return capital(metric_name(axis.metric, lang))


def _row(comparison: Comparison, verdict: Verdict, names: Sequence[str], lang: str) -> Row:
    axis = verdict.axis
    found = [value(candidate, axis) for candidate in comparison.candidates]
    ratios = [""]
    for index in range(1, len(found)):
        pair = verdict.pair(index, 0)
        ratios.append(ratio_words(pair) if pair else "")
    return Row(
        axis,
        axis_title(axis, lang),
        _values(axis, found),
        tuple(ratios),
        _who(verdict, names, lang),
        verdict.winner,
    )


def _values(axis: Axis, found: Sequence[float | None]) -> tuple[str, ...]:
    if axis.metric in _QUALITY:
        form = _QUALITY[axis.metric]
        return tuple("–" if number is None else form.format(number) for number in found)
    scale = scale_for(METRICS[axis.metric].unit, max(number for number in found if number is not None))
    return tuple("–" if number is None else scale.text(number) for number in found)


def ratio_words(pair: Pair) -> str:
    """`×1.10 [1.07, 1.13]`."""
    found = pair.ratio
    if found.ci95_low is None or found.ci95_high is None:
        return f"×{found.value:.2f}"
    return f"×{found.value:.2f} [{found.ci95_low:.2f}, {found.ci95_high:.2f}]"


def _who(verdict: Verdict, names: Sequence[str], lang: str) -> str:
    if verdict.winner is not None:
        return say("cmp_winner", lang, a=names[verdict.winner])
    if any(pair.differs for pair in verdict.pairs):
        return say("cmp_several", lang)
    untold = [pair for pair in verdict.pairs if not pair.told]
    return str(standing(max(untold or verdict.pairs, key=_doubt), lang))


def _doubt(pair: Pair) -> tuple[int, float]:
    """How little is known of a pair: the greatest of several is told."""
    return pair.launches_to_tell or 0, pair.same_within or 0.0


def notes(comparison: Comparison, lang: str) -> list[str]:
    """What a reader has to know of how the verdicts came about."""
    tests = sum(len(verdict.pairs) for verdict in comparison.verdicts)
    found = [say("cmp_note", lang, tests=tests, level=f"{SIGNIFICANCE:.0%}")]
    if not comparison.paired:
        found.append(say("cmp_unpaired", lang, margin=f"{UNPAIRED_MARGIN:.0%}"))
    if comparison.same_tokenizer:
        found.append(say("cmp_same_tokenizer", lang))
    return found


def table(comparison: Comparison, lang: str) -> list[list[str]]:
    """A head and a line for each axis: the first's value, then value and ratio of each other, then the verdict."""
    names = names_of(comparison, lang)
    head = ["", names[0]]
    for name in names[1:]:
        head += [name, say("cmp_ratio", lang)]
    found = [[*head, say("cmp_ahead", lang)]]
    for row in rows(comparison, names, lang):
        cells = [row.title, row.values[0]]
        for number, ratio in zip(row.values[1:], row.ratios[1:], strict=True):
            cells += [number, ratio]
        found.append([*cells, row.verdict])
    return found
