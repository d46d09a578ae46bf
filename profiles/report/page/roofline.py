"""The page's section that holds runs against the machine's measured ceilings (roofline plots)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgellm.profiles.report.figures.line import Line
from edgellm.profiles.report.figures.scale import digits, scale_for, tick
from edgellm.profiles.report.page.blocks import Card, Section, legend
from edgellm.profiles.report.plots import plot
from edgellm.profiles.report.words import say
from edgellm.profiles.result.bounds import Ceiling
from edgellm.profiles.result.result import Report

#: Names listed before "and n more".
_NAMED = 3


def roofline(report: Report, shown: Sequence[Line], lang: str) -> Section | None:
    """A plot for each thread count whose ceilings were measured."""
    cards, notes = [], []
    for ceiling in report.machine.ceilings:
        own = [line for line in shown if line.run.settings.n_threads == ceiling.n_threads]
        points = [point for line in own for point in _points(line)]
        peak = max((ceiling.operations_per_second or {}).values(), default=None)
        if not points or not peak or not ceiling.read_bytes_per_second:
            continue
        cards.append(_card(ceiling, peak, points, own, lang))
        notes.append(_note(ceiling, peak, lang))
    if not cards:
        return None
    resident = list(dict.fromkeys(line.run.model.name for line in shown if line.run.model.cache_resident))
    if resident:
        notes.append(say("roofline_cache", lang, names=some(resident, lang)))
    note = " ".join(notes[:1] + notes[len(cards) :])
    return Section("roofline", note, cards, "wide" if len(cards) > 1 else "solo")


def some(names: Sequence[str], lang: str) -> str:
    """The first few names, and how many more there are."""
    listed = say("and", lang).join(names) if len(names) <= _NAMED else ", ".join(names[:_NAMED])
    return listed if len(names) <= _NAMED else say("and_more", lang, names=listed, n=len(names) - _NAMED)


def _note(ceiling: Ceiling, peak: float, lang: str) -> str:
    bandwidth = ceiling.read_bytes_per_second or 0.0
    return say(
        "roofline_note",
        lang,
        bandwidth=scale_for("B/s", bandwidth).text(bandwidth),
        operations=operations(peak),
        threads=_threads(ceiling.n_threads, lang),
    )


def _threads(n: int, lang: str) -> str:
    return say("one_thread" if n == 1 else "threads", lang, n=n)


def operations(rate: float) -> str:
    """Operations a second, as people say them."""
    return f"{_scaled(rate, digits)}ops/s"


def _scaled(rate: float, words: Callable[[float], str]) -> str:
    for size, name in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if rate >= size:
            return f"{words(rate / size)} {name}"
    return f"{words(rate)} "


def _points(line: Line) -> list[plot.Point]:
    """Where decode and prefill stand: operations for each byte read, operations a second."""
    run, found = line.run, []
    decode, prefill = run.summary("decode_tokens_per_second"), run.summary("prefill_tokens_per_second")
    active, weights = run.model.n_params_active, run.model.weight_bytes_per_token
    if decode and active and run.limits.bytes_per_token:
        per_token = 2.0 * (active + (run.model.n_params_head or 0))
        hint = f"{line.label}: {digits(decode.median)} tok/s"
        x, y = per_token / run.limits.bytes_per_token, per_token * decode.median
        found.append(plot.Point(x, y, line.css, hint, size=3.4))
    if prefill and weights and run.limits.operations_per_token:
        batch = min(run.workload.n_prompt, int(run.launches[0].engine.options.get("n_ubatch") or 512))
        hint = f"{line.label}: {digits(prefill.median)} tok/s"
        per_token = run.limits.operations_per_token
        x, y = per_token * batch / weights, per_token * prefill.median
        found.append(plot.Point(x, y, line.css, hint, hollow=True, size=3.4))
    return found


def _card(
    ceiling: Ceiling, peak: float, points: Sequence[plot.Point], own: Sequence[Line], lang: str
) -> Card:
    bandwidth = ceiling.read_bytes_per_second or 1.0
    ridge = peak / bandwidth
    x = plot.log_axis(say("ax_intensity", lang), [*(p.x for p in points), ridge * 2], tick)
    lowest = min(*(p.y for p in points), peak / 4)
    y = plot.log_axis(say("ax_operations", lang), [lowest, *(p.y for p in points), peak * 1.5], _short)
    ridge = min(ridge, x.high)
    start = max(x.low, y.low / bandwidth)
    roofs = [plot.Path("ceiling", ((start, start * bandwidth), (ridge, ridge * bandwidth), (x.high, peak)))]
    for name, rate in (ceiling.operations_per_second or {}).items():
        begin = max(x.low, rate / bandwidth)
        if begin < x.high:
            roofs.append(plot.Path("ceiling", ((begin, rate), (x.high, rate)), name))
    title = _threads(ceiling.n_threads, lang)
    chart = plot.plot(f"{say('roofline', lang)}, {title}", x, y, points, roofs)
    return Card(title, chart, legend=legend(own))


def _short(rate: float) -> str:
    return _scaled(rate, tick).strip()
