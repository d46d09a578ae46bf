"""The page's section on memory: the peak taken apart, and by phase."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from html import escape

from edgellm.profiles.report.page.cards import FEW, bar_cards, card, grid, measured, section
from edgellm.profiles.report.page.format import capital, scale_for
from edgellm.profiles.report.page.view import Line, grouped, lines
from edgellm.profiles.report.plots import svg
from edgellm.profiles.report.words.english import metric_name, say
from edgellm.profiles.result import derive
from edgellm.profiles.result.result import Report, Run

_PARTS = ("peak_weights_bytes", "peak_kv_bytes", "peak_compute_bytes", "peak_rest_bytes")
_PART_WORDS = ("seg_w", "seg_kv", "seg_compute", "seg_rest")
#: Where no engine said what it set aside: what the kernel knows of the pages.
_KIND_WORDS = ("seg_weights", "seg_engine", "seg_python", "seg_code")
_WHOLE = ("peak_bytes", "needed_bytes", "pss_bytes", "gpu_bytes")


def memory(report: Report, shown: Sequence[Line], lang: str) -> str:
    """What each process held, stacked, and its peak."""
    telling = _telling(shown, lang)
    words, stacks = _PART_WORDS, [(line, _split(line.run)) for line in telling]
    note = "split_note"
    if not any(parts for _, parts in stacks):
        words, stacks = _KIND_WORDS, [(line, memory_parts(line.run)) for line in telling]
        note = "memory_note"
    if not any(parts for _, parts in stacks):
        return _absent(shown, lang)
    known = [(line, parts) for line, parts in stacks if parts and line.run.summary("peak_bytes")]
    body = _few(known, words, lang) if len(shown) <= FEW else _many(known, words, lang)
    return section("memory", say(note, lang), body, lang)


def _telling(shown: Sequence[Line], lang: str) -> list[Line]:
    """One line for each model and workload: threads hardly change memory."""
    found: dict[object, Line] = {}
    for line in shown:
        found.setdefault((line.run.model.name, line.run.settings.type_k, line.run.workload), line)
    few = lines([line.run for line in found.values()], lang)
    return [replace(line, short=own.short) for line, own in zip(found.values(), few, strict=True)]


def _split(run: Run) -> tuple[float, ...] | None:
    """Weights, KV cache, compute buffers and the rest of the peak: means over launches."""
    means = [summary.mean for name in _PARTS if (summary := run.summary(name))]
    return tuple(means) if len(means) == len(_PARTS) else None


def memory_parts(run: Run) -> tuple[float, float, float, float] | None:
    """Weights mapped, engine's private memory, Python's private memory, code from files: means over launches.

    Python's part is what the process held before the model was opened; the engine's is what came on top.
    """
    parts = []
    for launch in run.launches:
        start, end = derive.phase(launch, "start"), derive.phase(launch, "repetitions")
        if not start or not end or None in (start.anonymous, end.anonymous, end.file, end.weights_mapped):
            return None
        private = min(start.anonymous or 0, end.anonymous or 0)
        weights = end.weights_mapped or 0
        parts.append((weights, (end.anonymous or 0) - private, private, (end.file or 0) - weights))
    means = [statistics.fmean(column) for column in zip(*parts, strict=True)]
    return means[0], means[1], means[2], means[3]


def _few(known: Sequence[tuple[Line, tuple[float, ...]]], words: Sequence[str], lang: str) -> str:
    rows = []
    for line, parts in known:
        peak = _peak(line)
        text = f"{say('peak', lang)} {scale_for('B', peak).text(peak)}"
        rows.append(svg.Stack(line.label, text, line.css, parts, peak))
    own = [line for line, _ in known]
    chart = svg.stacks(say("memory", lang), rows) + _legend(words, lang, mark=True) + _phases(own, lang)
    table = _table(known, words, lang)
    return f'<div class="grid wide"><div class="card">{chart}</div>{table}</div>'


def _many(known: Sequence[tuple[Line, tuple[float, ...]]], words: Sequence[str], lang: str) -> str:
    parts_of = {id(line): parts for line, parts in known}
    reach = max(max(sum(parts), _peak(line)) for line, parts in known)
    cards = []
    for family, own in grouped([line for line, _ in known]):
        rows = [
            svg.Stack(line.short, scale_for("B", _peak(line)).text(_peak(line)), line.css, parts_of[id(line)])
            for line in own
        ]
        chart = svg.thin_stacks(say("memory", lang), rows, reach)
        cards.append(card(family, chart + _legend(words, lang, css=own[0].css)))
    return grid("".join(cards), "wide")


def _peak(line: Line) -> float:
    summary = line.run.summary("peak_bytes")
    assert summary is not None
    return summary.mean


def _legend(words: Sequence[str], lang: str, *, css: str = "", mark: bool = False) -> str:
    items = "".join(
        f'<span><b class="{css} s{index}"></b>{say(key, lang)}</span>' for index, key in enumerate(words)
    )
    if mark:
        items += f'<span><b class="tickmark"></b>{say("peak", lang)}</span>'
    return f'<div class="legend">{items}</div>'


def _phases(own: Sequence[Line], lang: str) -> str:
    """The highest the process rose to in each phase; nothing where the system only tells the whole."""
    if any(launch.memory.peak_scope != "phase" for line in own for launch in line.run.launches):
        return ""
    rows = []
    for phase in ("load", "prefill", "decode"):
        cells = "".join(_cell(line.run, f"peak_{phase}_bytes") for line in own)
        rows.append(f"<tr><th>{capital(say(f'p_{phase}', lang))}</th>{cells}</tr>")
    heads = "".join(f'<th><span class="swatch {line.css}"></span></th>' for line in own)
    return (
        f'<table class="numbers phases"><thead><tr><th>{say("by_phase", lang)}</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _cell(run: Run, name: str) -> str:
    summary = run.summary(name)
    return f"<td>{scale_for('B', summary.mean).text(summary.mean) if summary else '–'}</td>"


def _table(known: Sequence[tuple[Line, tuple[float, ...]]], words: Sequence[str], lang: str) -> str:
    heads = "".join(
        f'<th><span class="swatch {line.css}"></span>{escape(line.label)}</th>' for line, _ in known
    )
    body = []
    for index, key in enumerate(words):
        cells = "".join(f"<td>{scale_for('B', parts[index]).text(parts[index])}</td>" for _, parts in known)
        body.append(f"<tr><th>{capital(say(key, lang))}</th>{cells}</tr>")
    for name in _WHOLE:
        if measured(name, [line for line, _ in known]):
            cells = "".join(_cell(line.run, name) for line, _ in known)
            body.append(f"<tr><th>{capital(metric_name(name, lang))}</th>{cells}</tr>")
    return (
        f'<div class="card scroll"><table class="numbers"><thead><tr><th></th>{heads}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _absent(shown: Sequence[Line], lang: str) -> str:
    run = shown[0].run
    reason = run.measurement("anonymous_bytes").reason or run.measurement("peak_weights_bytes").reason
    cards = bar_cards("peak_bytes", shown, lang) if measured("peak_bytes", shown) else ""
    absent = f'<div class="card absent"><p>{escape(reason or say("unknown", lang))}</p></div>'
    return section("memory", "", grid(cards + absent), lang)
