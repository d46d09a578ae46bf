"""A comparison as rows of words: axis by axis the values, the ratios to the first, and who is ahead.

One set of rows, rendered as a table for the terminal, as Markdown, as JSON and as a page.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from edgellm.profiles.compare.comparison import Comparison, label, value
from edgellm.profiles.compare.verdict import SIGNIFICANCE, UNPAIRED_MARGIN, Axis, Pair, Verdict
from edgellm.profiles.report import html_, md
from edgellm.profiles.report.page.cards import card, grid, section
from edgellm.profiles.report.page.format import capital, scale_for
from edgellm.profiles.report.page.view import Line, lines
from edgellm.profiles.report.plots import plot
from edgellm.profiles.report.table import aligned
from edgellm.profiles.report.words.english import metric_name, say
from edgellm.profiles.result.codec import to_plain
from edgellm.profiles.result.derive import METRICS
from edgellm.profiles.result.result import Report

FORMATS = ("table", "json", "md", "html")
SCHEMA = "edgellm.compare/1"

#: Quality has no measurement of its own name: (words, format).
_QUALITY = {"bits_per_byte": ("c_bpb", "{:.3f}"), "tasks_right": ("c_tasks", "{:.1%}")}


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
    for line, candidate in zip(_lines(comparison, lang), comparison.candidates, strict=True):
        found.append(f"{line.spoken}, {candidate.source}" if candidate.source else line.spoken)
    return found


def _lines(comparison: Comparison, lang: str) -> list[Line]:
    return lines([candidate.run for candidate in comparison.candidates], lang)


def axis_title(axis: Axis, lang: str) -> str:
    """What an axis is called."""
    if axis.metric in _QUALITY:
        return capital(say(_QUALITY[axis.metric][0], lang))
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
        form = _QUALITY[axis.metric][1]
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
    if any(pair.adjusted_p is None for pair in verdict.pairs):
        return say("p_untold", lang)
    if any(pair.differs for pair in verdict.pairs):
        return say("cmp_several", lang)
    return say("p_same", lang)


def notes(comparison: Comparison, lang: str) -> list[str]:
    """What a reader has to know of how the verdicts came about."""
    tests = sum(len(verdict.pairs) for verdict in comparison.verdicts)
    found = [say("cmp_note", lang, tests=tests, level=f"{SIGNIFICANCE:.0%}")]
    if not comparison.paired:
        found.append(say("cmp_unpaired", lang, margin=f"{UNPAIRED_MARGIN:.0%}"))
    if comparison.same_tokenizer:
        found.append(say("cmp_same_tokenizer", lang))
    return found


def to_table(comparisons: Sequence[Comparison], lang: str = "en") -> str:
    """For a terminal."""
    return "\n".join(_text_block(comparison, lang) for comparison in comparisons)


def _text_block(comparison: Comparison, lang: str) -> str:
    cells = [*_grid(comparison, lang)]
    told = [f"- {note}" for note in notes(comparison, lang)]
    return "\n".join([_work(comparison), aligned(cells, left=(0, len(cells[0]) - 1)), *told]) + "\n"


def _grid(comparison: Comparison, lang: str) -> list[list[str]]:
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


def _work(comparison: Comparison) -> str:
    return label(comparison.candidates[0].run)


def to_markdown(comparisons: Sequence[Comparison], lang: str = "en") -> str:
    """For an issue or a README."""
    return "\n\n".join(_markdown_block(comparison, lang) for comparison in comparisons) + "\n"


def _markdown_block(comparison: Comparison, lang: str) -> str:
    head, *body = _grid(comparison, lang)
    rule = ["---", *["---:"] * (len(head) - 2), "---"]
    told = [f"- {note}" for note in notes(comparison, lang)]
    return "\n".join([_work(comparison), "", *(md.line(cells) for cells in (head, rule, *body)), "", *told])


def to_json(comparisons: Sequence[Comparison]) -> str:
    """Every ratio with its interval, its p-value and the one adjusted for all of them."""
    plain = {"schema": SCHEMA, "comparisons": [_plain(comparison) for comparison in comparisons]}
    return json.dumps(to_plain(plain), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(comparison: Comparison) -> dict[str, Any]:
    names = names_of(comparison, "en")
    return {
        "workload": comparison.candidates[0].run.workload,
        "paired": comparison.paired,
        "same_tokenizer": comparison.same_tokenizer,
        "candidates": [
            {"name": name, "source": c.source, "model": c.run.model.name, "sha256": c.run.model.sha256}
            for name, c in zip(names, comparison.candidates, strict=True)
        ],
        "axes": [_plain_axis(comparison, verdict, names) for verdict in comparison.verdicts],
    }


def _plain_axis(comparison: Comparison, verdict: Verdict, names: Sequence[str]) -> dict[str, Any]:
    axis = verdict.axis
    return {
        "axis": axis.name,
        "metric": axis.metric,
        "better": axis.better,
        "values": {n: value(c, axis) for n, c in zip(names, comparison.candidates, strict=True)},
        "winner": None if verdict.winner is None else names[verdict.winner],
        "ratios": [
            {
                "of": names[pair.a],
                "over": names[pair.b],
                "ratio": pair.ratio.value,
                "ci95_low": pair.ratio.ci95_low,
                "ci95_high": pair.ratio.ci95_high,
                "p_value": pair.ratio.p_value,
                "adjusted_p_value": pair.adjusted_p,
                "differs": pair.differs,
            }
            for pair in verdict.pairs
        ],
    }


def to_html(comparisons: Sequence[Comparison], report: Report | None, lang: str = "en") -> str:
    """A page: verdicts in words, ratios as a plot, the table; and all of the report where there is only one."""
    names = names_of(comparisons[0], lang)
    title = say(
        "cmp_title", lang, names=say("cmp_versus", lang).join(names) if len(names) < 4 else len(names)
    )
    body = [f'<header><p class="brand">edgellm compare</p><h1>{escape(title)}</h1></header>']
    for comparison in comparisons:
        body += [_won(comparison, lang), _plots(comparison, lang), _table(comparison, lang)]
    if report is not None:
        body += html_.parts(report, lang)
    return html_.page(title, body, lang)


def _won(comparison: Comparison, lang: str) -> str:
    """A sentence for each that is ahead somewhere, one for what is equal, one for what has no single best."""
    names = names_of(comparison, lang)
    groups: dict[tuple[int | None, str], list[Row]] = {}
    for row in rows(comparison, names, lang):
        groups.setdefault((row.winner, row.verdict), []).append(row)
    items = "".join(f"<li>{_sentence(verdict, own, lang)}</li>" for (_, verdict), own in groups.items())
    head = f"{say('found', lang)} · {escape(_work(comparison))}"
    return f'<section class="card findings"><h2>{head}</h2><ul>{items}</ul></section>'


def _sentence(verdict: str, own: Sequence[Row], lang: str) -> str:
    figures = []
    for row in own:
        values = say("cmp_to", lang).join(row.values)
        figures.append(f"{escape(row.title)} <small>({escape(values)})</small>")
    return f"<b>{escape(capital(verdict))}</b>: {say('join_parts', lang).join(figures)}"


def _plots(comparison: Comparison, lang: str) -> str:
    """For each candidate but the first: its ratios to the first, in the direction in which more is better."""
    shown = _lines(comparison, lang)
    names = names_of(comparison, lang)
    cards = []
    for index in range(1, len(names)):
        bars = []
        for verdict in comparison.verdicts:
            pair = verdict.pair(index, 0)
            if pair:
                better = pair if verdict.axis.better == "higher" else _turned(pair)
                low, high = better.ratio.ci95_low, better.ratio.ci95_high
                ends = None if low is None or high is None else (low, high)
                css = shown[index].css if pair.differs else "same"
                bars.append(plot.Whisker(axis_title(verdict.axis, lang), better.ratio.value, ends, css))
        title = say("cmp_against", lang, a=names[index], b=names[0])
        cards.append(card(title, plot.forest(title, bars, say("cmp_worse", lang), say("cmp_better", lang))))
    return section(
        "ratios", say("cmp_plot_note", lang), grid("".join(cards), "wide" if len(cards) > 1 else "solo"), lang
    )


def _turned(pair: Pair) -> Pair:
    """The same pair as a ratio of rates where it was one of costs."""
    flipped = pair.flipped()
    return Pair(pair.a, pair.b, flipped.ratio, pair.adjusted_p, pair.differs)


def _table(comparison: Comparison, lang: str) -> str:
    names = names_of(comparison, lang)
    heads = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = []
    for row in rows(comparison, names, lang):
        cells = "".join(
            f"<td>{number}{f'<small>{ratio}</small>' if ratio else ''}</td>"
            for number, ratio in zip(row.values, row.ratios, strict=True)
        )
        body.append(f"<tr><th>{escape(row.title)}</th>{cells}<td>{escape(row.verdict)}</td></tr>")
    told = "".join(f'<p class="note">{escape(note)}</p>' for note in notes(comparison, lang))
    head = f"<tr><th></th>{heads}<th>{say('cmp_ahead', lang)}</th></tr>"
    table = f'<table class="numbers"><thead>{head}</thead><tbody>{"".join(body)}</tbody></table>'
    return f'<section><div class="card scroll">{table}</div>{told}</section>'
