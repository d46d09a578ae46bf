"""Two runs against each other, axis by axis: what each costs and is worth, and the verdict. The page's first table.

Speeds are told by token and by text; where tokenizers differ the verdict is on text, for tokens are not of one size.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from edgellm.profiles.compare.verdict import BITS, TASKS, Axis, Pair
from edgellm.profiles.report.figures.axes import axes_table
from edgellm.profiles.report.figures.line import Line
from edgellm.profiles.report.figures.pairs import Tests, axis_of, interval, median, standing, text
from edgellm.profiles.report.figures.scale import capital, scale_for
from edgellm.profiles.report.words import metric_name, say, sentence
from edgellm.profiles.result.derive import METRICS
from edgellm.profiles.result.quality_record import QualityRecord
from edgellm.profiles.result.result import Report

_DECODES = "decode_bytes_per_second"
_JOULES = "decode_joules_per_byte"
#: An axis's name -> the words for who is ahead on it.
_AHEAD = {
    "decode": "v_faster",
    "prefill": "v_faster",
    "ttft": "v_sooner",
    "memory": "v_less",
    "energy": "v_less",
    "quality": "v_better",
}


@dataclass(frozen=True)
class Aspect:
    """One row: what is measured, each one's figure with a second one in small, and what may be claimed."""

    title: str
    figures: tuple[tuple[str, str], ...]  # "" was not measured
    verdict: Markup
    winner: int | None  # 0 or 1


def rivals(report: Report, shown: Sequence[Line]) -> tuple[Line, Line] | None:
    """Whom the first table holds against each other: two runs; of many Qwen and Llama, else two families.

    Of many, at the best quantization and settings that both have: the best predictions, of equals the fastest.
    """
    if len(shown) == 2:
        return shown[0], shown[1]
    measured = [line for line in shown if line.run.measurement(_DECODES).samples]
    qwen, llama = ([line for line in measured if kin in _kind(line)] for kin in ("qwen", "llama"))
    pairs = [(a, b) for a, b in itertools.product(qwen, llama) if _alike(a, b)]
    if not pairs:
        first = [line for line in measured if line.family == measured[0].family]
        others = [line for line in measured if line.family != measured[0].family]
        pairs = [(a, b) for a, b in itertools.product(first, others) if _alike(a, b)]
    return min(pairs, key=lambda pair: _rank(report, pair), default=None)


def _kind(line: Line) -> str:
    return f"{line.run.model.architecture} {line.run.model.name}".lower()


def _alike(a: Line, b: Line) -> bool:
    same = a.run.model.quantization == b.run.model.quantization
    return same and (a.run.settings, a.run.workload) == (b.run.settings, b.run.workload)


def _rank(report: Report, pair: tuple[Line, Line]) -> tuple[float, float]:
    """Best predictions first; of equals the fastest."""
    records = [(report.quality or {}).get(line.run.model.name) for line in pair]
    bits = [r.bits_per_byte.value for r in records if r and r.bits_per_byte]
    return round(sum(bits), 2), -sum(median(line, _DECODES) for line in pair)


def names(pair: tuple[Line, Line]) -> tuple[str, str]:
    """What the two are called where room is short: families, or what tells two of a family apart."""
    a, b = pair
    return (a.family, b.family) if a.family != b.family else (a.short, b.short)


def aspects(report: Report, pair: tuple[Line, Line], tests: Tests, lang: str) -> list[Aspect]:
    """A row for each axis that at least one of the two was measured on, and one for energy in any case."""
    rows: list[Aspect | None] = [
        _speed("decode", pair, tests, lang),
        _speed("prefill", pair, tests, lang),
        _measured("ttft_seconds", pair, tests, lang),
        _measured("peak_bytes", pair, tests, lang),
        *_worth(report, pair, tests, lang),
        _energy(pair, tests, lang),
        *_further(report, pair, lang),
    ]
    return [row for row in rows if row]


def _further(report: Report, pair: tuple[Line, Line], lang: str) -> list[Aspect]:
    """The axes that were asked for besides: figures without a verdict, for no test of them is made."""
    head, *rows = axes_table(report, lang) or [[]]
    names = [line.run.model.name for line in pair]
    if not set(names) <= set(head) or names[0] == names[1]:
        return []
    places = [head.index(name) for name in names]
    return [
        Aspect(capital(row[0]), tuple((row[place], "") for place in places), Markup(), None) for row in rows
    ]


def _speed(phase: str, pair: tuple[Line, Line], tests: Tests, lang: str) -> Aspect | None:
    tokens, size = f"{phase}_tokens_per_second", f"{phase}_bytes_per_second"
    alike = len({round(line.run.launches[0].prompt.bytes_per_token, 6) for line in pair}) == 1
    if alike:
        return _measured(tokens, pair, tests, lang)
    return _measured(size, pair, tests, lang, shown=tokens, below="of_text")


def _measured(
    metric: str, pair: tuple[Line, Line], tests: Tests, lang: str, *, shown: str = "", below: str = ""
) -> Aspect | None:
    """A measurement's row; `shown` is told in its place, with its own figure in the words `below`."""
    has = [bool(line.run.measurement(metric).samples) for line in pair]
    if not any(has):
        return None
    figures = []
    for line, known in zip(pair, has, strict=True):
        if not known:
            figures.append(("", ""))
            continue
        own = text(METRICS[metric].unit, median(line, metric))
        told = text(METRICS[shown].unit, median(line, shown)) if shown else own
        figures.append((told, say(below, lang, value=own) if below else ""))
    found = tests.versus(*pair, metric) if all(has) else None
    return _aspect(capital(metric_name(shown or metric, lang)), figures, axis_of(metric), found, pair, lang)


def _aspect(
    title: str,
    figures: Sequence[tuple[str, str]],
    axis: Axis,
    found: Pair | None,
    pair: tuple[Line, Line],
    lang: str,
) -> Aspect:
    if found is None:
        return Aspect(title, tuple(figures), Markup(), None)
    if not found.differs:
        return Aspect(title, tuple(figures), Markup(capital(str(standing(found, lang)))), None)
    first = (found.ratio.value > 1) == (axis.better == "higher")
    better = found.ratio if found.ratio.value > 1 else found.ratio.inverse
    values = {"a": names(pair)[0 if first else 1], "ratio": f"{better.value:.2f}"}
    told = sentence(_AHEAD[axis.name], lang, interval=interval(better, lang), **values)
    return Aspect(title, tuple(figures), told, 0 if first else 1)


def _worth(report: Report, pair: tuple[Line, Line], tests: Tests, lang: str) -> list[Aspect]:
    first, second = ((report.quality or {}).get(line.run.model.name) for line in pair)
    if first is None or second is None or first is second:
        return []
    found = [
        _quality("tasks_right", TASKS, _right, (first, second), pair, tests, lang),
        _quality("bits_per_byte", BITS, _bits, (first, second), pair, tests, lang),
    ]
    return [row for row in found if row]


def _quality(
    name: str,
    axis: Axis,
    told: Callable[[QualityRecord], tuple[str, str]],
    records: tuple[QualityRecord, QualityRecord],
    pair: tuple[Line, Line],
    tests: Tests,
    lang: str,
) -> Aspect | None:
    figures = [told(record) for record in records]
    if not any(figure for figure, _ in figures):
        return None
    found = tests.quality(axis, *records)
    return _aspect(capital(metric_name(name, lang)), figures, axis, found, pair, lang)


def _right(record: QualityRecord) -> tuple[str, str]:
    total = record.total
    return (f"{total.value:.1%}", f"{total.k} / {total.n}") if total and total.n else ("", "")


def _bits(record: QualityRecord) -> tuple[str, str]:
    return (f"{record.bits_per_byte.value:.3f}", "") if record.bits_per_byte else ("", "")


def _energy(pair: tuple[Line, Line], tests: Tests, lang: str) -> Aspect:
    """Joules for a thousand characters of the fixed text, whatever the tokenizer."""
    title = capital(say("joules_1000", lang))
    has = [bool(line.run.measurement(_JOULES).samples) for line in pair]
    if not any(has):
        off = all(line.run.workload.energy == "none" for line in pair)
        why = sentence("f_energy_off" if off else "f_no_energy", lang)
        return Aspect(title, (("", ""), ("", "")), why, None)
    found = tests.versus(*pair, _JOULES) if all(has) else None
    joules = [1000 * per * median(line, _JOULES) if own else None for line, per, own in _per(pair, has)]
    scale = scale_for("J", max(value for value in joules if value is not None))
    figures = [("" if value is None else scale.text(value), "") for value in joules]
    return _aspect(title, figures, axis_of(_JOULES), found, pair, lang)


def _per(pair: tuple[Line, Line], has: Sequence[bool]) -> list[tuple[Line, float, bool]]:
    """With the bytes of a character: of the text that was timed, or one where an older result does not tell."""
    found = []
    for line, known in zip(pair, has, strict=True):
        prompt = line.run.launches[0].prompt
        found.append((line, prompt.text_bytes / (prompt.text_characters or prompt.text_bytes), known))
    return found
