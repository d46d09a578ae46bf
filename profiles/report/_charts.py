"""The page's sections that hold charts. Each is a function of the report and the runs that have launches."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from html import escape

from edgellm.profiles import derive
from edgellm.profiles.report import _svg
from edgellm.profiles.report._format import capital, scale_for
from edgellm.profiles.report._numbers import energy_reason
from edgellm.profiles.report._words import metric_name, say
from edgellm.profiles.result import Report, Run
from edgellm.profiles.stats import outliers

_SPEED = (
    "decode_bytes_per_second",
    "prefill_bytes_per_second",
    "ttft_seconds",
    "decode_tokens_per_second",
    "prefill_tokens_per_second",
    "load_seconds",
)
_ENERGY = ("decode_joules_per_byte", "decode_joules_per_token", "prefill_joules_per_token")
_SEGMENTS = ("seg_weights", "seg_engine", "seg_python", "seg_code")


def speed(report: Report, ran: Sequence[Run], lang: str) -> str:
    """A bar chart for each speed."""
    cards = "".join(_bar_card(name, ran, lang) for name in _SPEED if _measured(name, ran))
    return _section("speed", say("speed_note", lang), f'<div class="grid charts">{cards}</div>', lang)


def _measured(name: str, ran: Sequence[Run]) -> bool:
    return any(run.measurement(name).samples for run in ran)


def _bar_card(name: str, ran: Sequence[Run], lang: str) -> str:
    unit = derive.METRICS[name].unit
    summaries = [run.summary(name) for run in ran]
    scale = scale_for(unit, max(s.mean for s in summaries if s))
    rows = []
    for index, (run, summary) in enumerate(zip(ran, summaries, strict=True)):
        css = f"m{index % 6}"
        if summary is None:
            rows.append(_svg.Bar(run.model.name, None, say("not_measured", lang), css))
            continue
        text = f"{scale.spread(summary)} {scale.unit}"
        samples = run.measurement(name).samples
        few = summary.n < 3
        low, high = (None, None) if few else (summary.ci95_low, summary.ci95_high)
        rows.append(_svg.Bar(run.model.name, summary.mean, text, css, low, high, samples))
    title = capital(metric_name(name, lang))
    return f'<div class="card"><h3>{title}</h3>{_svg.bars(title, rows)}</div>'


def tokens(report: Report, ran: Sequence[Run], lang: str) -> str:
    """The time of each token along the answer."""
    series = [_svg.Series(f"m{index % 6}", gap_medians(run)) for index, run in enumerate(ran)]
    if not any(s.values for s in series):
        return ""
    top = _svg.axis_top(max(value for s in series for value in s.values))
    scale = scale_for("s", top)
    title = say("tokens_title", lang)
    chart = _svg.lines(title, series, ("0", scale.text(top)), say("position", lang))
    order = _order_cards(ran, lang)
    return (
        f'<div class="grid wide"><section><h2>{title}</h2><p class="note">{say("tokens_note", lang)}</p>'
        f'<div class="card">{chart}{_legend(ran)}</div></section>'
        f'<section><h2>{say("order", lang)}</h2><p class="note">{say("order_note", lang)}</p>{order}</section></div>'
    )


def gap_medians(run: Run) -> tuple[float, ...]:
    """Median over all repetitions of the gap at each position, in seconds."""
    columns = zip(*(r.gaps_ns for launch in run.launches for r in launch.repetitions), strict=True)
    return tuple(statistics.median(column) * derive.NS for column in columns)


def _order_cards(ran: Sequence[Run], lang: str) -> str:
    cards = []
    for index, run in enumerate(ran):
        measurement = run.measurement("decode_tokens_per_second")
        if not measurement.samples:
            continue
        groups = tuple(
            tuple(s for s, i in zip(measurement.samples, measurement.launches, strict=True) if i == launch)
            for launch in sorted(set(measurement.launches))
        )
        rings = frozenset(outliers([value for group in groups for value in group]))
        low, high = _svg.strip_range(measurement.samples)
        scale = scale_for("tok/s", high)
        words = [say("launch", lang, n=n + 1) for n in range(len(groups))]
        strip = _svg.Strip(f"m{index % 6}", groups, rings)
        chart = _svg.strip(run.model.name, strip, (scale.number(low), scale.number(high)), words)
        cards.append(
            f'<div class="card"><h3>{escape(run.model.name)} <small>{scale.unit}</small></h3>{chart}</div>'
        )
    return f'<div class="grid">{"".join(cards)}</div>'


def memory(report: Report, ran: Sequence[Run], lang: str) -> str:
    """What each process held, stacked, and its peak."""
    rows = []
    for index, run in enumerate(ran):
        peak = run.summary("peak_bytes")
        parts = memory_parts(run)
        if peak is None or parts is None:
            continue
        text = f"{say('peak', lang)} {scale_for('B', peak.mean).text(peak.mean)}"
        rows.append(_svg.Stack(run.model.name, text, f"m{index % 6}", parts, peak.mean))
    if not rows:
        return _absent_memory(ran, lang)
    legend = "".join(
        f'<span><b class="s{number}"></b>{say(key, lang)}</span>' for number, key in enumerate(_SEGMENTS)
    )
    legend += f'<span><b class="tickmark"></b>{say("peak", lang)}</span>'
    chart = _svg.stacks(say("memory", lang), rows)
    body = f'<div class="card">{chart}<div class="legend">{legend}</div>{_phase_table(ran, lang)}</div>'
    table = _memory_table(ran, lang)
    return _section("memory", say("memory_note", lang), f'<div class="grid wide">{body}{table}</div>', lang)


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


def _phase_table(ran: Sequence[Run], lang: str) -> str:
    """The highest the process rose to in each phase; nothing where the system only tells the whole."""
    if any(launch.memory.peak_scope != "phase" for run in ran for launch in run.launches):
        return ""
    rows = []
    for phase in ("load", "prefill", "decode"):
        summaries = [run.summary(f"peak_{phase}_bytes") for run in ran]
        cells = "".join(f"<td>{scale_for('B', s.mean).text(s.mean) if s else '–'}</td>" for s in summaries)
        rows.append(f"<tr><th>{capital(say(f'p_{phase}', lang))}</th>{cells}</tr>")
    heads = "".join(f'<th><span class="swatch m{i % 6}"></span></th>' for i, _ in enumerate(ran))
    return (
        f'<table class="numbers phases"><thead><tr><th>{say("by_phase", lang)}</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _memory_table(ran: Sequence[Run], lang: str) -> str:
    heads = "".join(
        f'<th><span class="swatch m{i % 6}"></span>{escape(run.model.name)}</th>' for i, run in enumerate(ran)
    )
    body = []
    for number, key in enumerate(_SEGMENTS):
        cells = []
        for run in ran:
            parts = memory_parts(run)
            cells.append(f"<td>{scale_for('B', parts[number]).text(parts[number]) if parts else '–'}</td>")
        body.append(f"<tr><th>{capital(say(key, lang))}</th>{''.join(cells)}</tr>")
    for name in ("peak_bytes", "needed_bytes", "pss_bytes"):
        summaries = [run.summary(name) for run in ran]
        cells = [f"<td>{scale_for('B', s.mean).text(s.mean) if s else '–'}</td>" for s in summaries]
        body.append(f"<tr><th>{capital(metric_name(name, lang))}</th>{''.join(cells)}</tr>")
    return (
        f'<div class="card scroll"><table class="numbers"><thead><tr><th></th>{heads}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _absent_memory(ran: Sequence[Run], lang: str) -> str:
    reason = ran[0].measurement("anonymous_bytes").reason or say("unknown", lang)
    cards = _bar_card("peak_bytes", ran, lang) if _measured("peak_bytes", ran) else ""
    absent = f'<div class="card absent"><p>{escape(reason)}</p></div>'
    return _section("memory", "", f'<div class="grid charts">{cards}{absent}</div>', lang)


def energy(report: Report, ran: Sequence[Run], lang: str) -> str:
    """Bars where there was a meter; a gap and the reason where there was none."""
    reason = energy_reason(report)
    if reason is not None:
        rows = [
            _svg.Bar(run.model.name, None, say("not_measured", lang), f"m{index % 6}")
            for index, run in enumerate(ran)
        ]
        chart = _svg.bars(say("energy", lang), rows)
        body = (
            f'<div class="grid wide"><div class="card">{chart}</div>'
            f'<div class="card absent"><p><strong>{capital(say("not_measured", lang))}</strong>: {escape(reason)}.</p>'
            f"<p>{say('no_estimate', lang)}</p></div></div>"
        )
        return _section("energy", "", body, lang)
    record = next(launch.energy for run in ran for launch in run.launches if launch.energy.meter)
    note = say("energy_note", lang, meter=escape(record.meter or ""), scope=escape(record.scope or ""))
    cards = "".join(_bar_card(name, ran, lang) for name in _ENERGY if _measured(name, ran))
    return _section("energy", note, f'<div class="grid charts">{cards}</div>', lang)


def _legend(ran: Sequence[Run]) -> str:
    items = "".join(
        f'<span class="m{index % 6}"><b></b>{escape(run.model.name)}</span>' for index, run in enumerate(ran)
    )
    return f'<div class="legend">{items}</div>'


def _section(key: str, note: str, body: str, lang: str) -> str:
    below = f'<p class="note">{note}</p>' if note else ""
    return f"<section><h2>{say(key, lang)}</h2>{below}{body}</section>"


SECTIONS: tuple[Callable[[Report, Sequence[Run], str], str], ...] = (speed, memory, energy, tokens)
