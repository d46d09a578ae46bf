"""The page's section on memory: the peak taken apart, and by phase."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

from edgellm.profiles.report.figures.line import Line, grouped, lines
from edgellm.profiles.report.figures.scale import capital, scale_for
from edgellm.profiles.report.page.bars import bar_cards, measured
from edgellm.profiles.report.page.blocks import FEW, Card, Cell, Key, Section, Table, heads
from edgellm.profiles.report.plots import svg
from edgellm.profiles.report.words import metric_name, say
from edgellm.profiles.result import derive
from edgellm.profiles.result.result import Report, Run

_PARTS = ("peak_weights_bytes", "peak_kv_bytes", "peak_compute_bytes", "peak_rest_bytes")
_PART_WORDS = ("seg_w", "seg_kv", "seg_compute", "seg_rest")
#: Where no engine said what it set aside: what the kernel knows of the pages.
_KIND_WORDS = ("seg_weights", "seg_engine", "seg_python", "seg_code")
_WHOLE = ("peak_bytes", "needed_bytes", "pss_bytes", "gpu_bytes")


def memory(report: Report, shown: Sequence[Line], lang: str) -> Section:
    """What each process held, stacked, and its peak."""
    telling = _telling(shown, lang)
    words, stacks, note = _PART_WORDS, [(line, _split(line.run)) for line in telling], "split_note"
    if not any(parts for _, parts in stacks):
        words, stacks = _KIND_WORDS, [(line, memory_parts(line.run)) for line in telling]
        note = "memory_note"
    if not any(parts for _, parts in stacks):
        return Section("memory", cards=_absent(shown, lang))
    known = [(line, parts) for line, parts in stacks if parts and line.run.summary("peak_bytes")]
    cards = _few(known, words, lang) if len(shown) <= FEW else _many(known, words, lang)
    return Section("memory", say(note, lang), cards, "wide")


def _telling(shown: Sequence[Line], lang: str) -> list[Line]:
    """One line for each model and workload: threads hardly change memory."""
    found: dict[object, Line] = {}
    for line in shown:
        found.setdefault((line.run.model.name, line.run.settings.type_k, line.run.workload), line)
    few = lines([line.run for line in found.values()], lang)
    return [replace(line, short=own.short) for line, own in zip(found.values(), few, strict=True)]


def _split(run: Run) -> tuple[float, ...] | None:
    """Weights, KV cache, compute buffers and the rest of the peak: means over launches."""
    means = [summary.median for name in _PARTS if (summary := run.summary(name))]
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


def _few(known: Sequence[tuple[Line, tuple[float, ...]]], words: Sequence[str], lang: str) -> list[Card]:
    rows = []
    for line, parts in known:
        peak = _peak(line)
        text = f"{say('peak', lang)} {scale_for('B', peak).text(peak)}"
        rows.append(
            svg.Stack(line.label, text, line.css, parts, peak, hints=_hints(line, parts, words, lang))
        )
    keys = [*_legend(words, lang), Key("tickmark", say("peak", lang))]
    phases = _phases([line for line, _ in known], lang)
    chart = svg.stacks(say("memory", lang), rows)
    return [
        Card(chart=chart, legend=keys, table=phases),
        Card(css="scroll", table=_table(known, words, lang)),
    ]


def _many(known: Sequence[tuple[Line, tuple[float, ...]]], words: Sequence[str], lang: str) -> list[Card]:
    parts_of = {id(line): parts for line, parts in known}
    reach = max(max(sum(parts), _peak(line)) for line, parts in known)
    cards = []
    for family, own in grouped([line for line, _ in known]):
        rows = [
            svg.Stack(
                line.short,
                scale_for("B", _peak(line)).text(_peak(line)),
                line.css,
                parts_of[id(line)],
                hints=_hints(line, parts_of[id(line)], words, lang),
            )
            for line in own
        ]
        chart = svg.thin_stacks(say("memory", lang), rows, reach)
        cards.append(Card(family, chart, legend=_legend(words, lang, f"{own[0].css} ")))
    return cards


def _hints(line: Line, parts: Sequence[float], words: Sequence[str], lang: str) -> tuple[str, ...]:
    return tuple(
        f"{line.label}: {say(key, lang)} {scale_for('B', size).text(size)}"
        for key, size in zip(words, parts, strict=True)
    )


def _peak(line: Line) -> float:
    summary = line.run.summary("peak_bytes")
    assert summary is not None
    return summary.median


def _legend(words: Sequence[str], lang: str, css: str = "") -> list[Key]:
    return [Key(f"{css}s{index}", say(key, lang)) for index, key in enumerate(words)]


def _phases(own: Sequence[Line], lang: str) -> Table | None:
    """The highest the process rose to in each phase; nothing where the system only tells the whole."""
    if any(launch.memory.peak_scope != "phase" for line in own for launch in line.run.launches):
        return None
    rows = [
        [Cell(capital(say(phase, lang))), *(_cell(line.run, f"peak_{phase}_bytes") for line in own)]
        for phase in ("load", "prefill", "decode")
    ]
    return Table(
        "numbers phases", rows, [Cell(say("by_phase", lang)), *(Cell(swatch=line.css) for line in own)]
    )


def _cell(run: Run, name: str) -> Cell:
    summary = run.summary(name)
    return Cell(scale_for("B", summary.median).text(summary.median) if summary else "–")


def _table(known: Sequence[tuple[Line, tuple[float, ...]]], words: Sequence[str], lang: str) -> Table:
    own = [line for line, _ in known]
    rows = [
        [
            Cell(capital(say(key, lang))),
            *(Cell(scale_for("B", parts[index]).text(parts[index])) for _, parts in known),
        ]
        for index, key in enumerate(words)
    ]
    rows += [
        [Cell(capital(metric_name(name, lang))), *(_cell(line.run, name) for line in own)]
        for name in _WHOLE
        if measured(name, own)
    ]
    return Table("numbers", rows, heads(own))


def _absent(shown: Sequence[Line], lang: str) -> list[Card]:
    run = shown[0].run
    reason = run.measurement("anonymous_bytes").reason or run.measurement("peak_weights_bytes").reason
    cards = bar_cards("peak_bytes", shown, lang) if measured("peak_bytes", shown) else []
    return [*cards, Card(css="absent", notes=[reason or say("unknown", lang)])]
