"""The page's section that weighs quality against cost: one plot for each cost, with the front of the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgellm.profiles.report.figures.line import Line
from edgellm.profiles.report.figures.quality_cost import Figure, Offer, front, offers
from edgellm.profiles.report.figures.scale import scale_for, tick
from edgellm.profiles.report.page.blocks import Card, Section, legend
from edgellm.profiles.report.plots import plot as plot_module
from edgellm.profiles.report.words import say
from edgellm.profiles.result.result import Report

Get = Callable[[Offer], "Figure | None"]
Words = Callable[[float], str]

_PLOTS: tuple[tuple[str, str, Get, Words, str, Get, Words], ...] = (
    ("q_time", "ax_time", lambda o: o.seconds, tick, "ax_bits", lambda o: o.bits, tick),
    ("q_energy", "ax_energy", lambda o: o.joules, tick, "ax_bits", lambda o: o.bits, tick),
    (
        "q_memory",
        "ax_memory",
        lambda o: o.peak,
        lambda v: scale_for("B", v).tick(v),
        "ax_bits",
        lambda o: o.bits,
        tick,
    ),
    ("q_tasks", "ax_time", lambda o: o.seconds, tick, "ax_wrong", lambda o: o.wrong, lambda v: f"{v:.0%}"),
)


def quality_cost(report: Report, shown: Sequence[Line], lang: str) -> Section | None:
    """Quality against time, energy, memory; tasks against time. None where quality was not measured."""
    found = offers(report, shown)
    if not found:
        return None
    cards = [card for plot in _PLOTS if (card := _card(*plot, found, lang))]
    texts = {offer.quality.text for offer in found if offer.quality.text}
    note = say("quality_cost_note", lang, text=", ".join(sorted(texts)) or say("unknown", lang))
    return Section("quality_cost", note, cards, "wide")


def _card(
    title: str,
    x_title: str,
    x_of: Get,
    x_words: Words,
    y_title: str,
    y_of: Get,
    y_words: Words,
    found: Sequence[Offer],
    lang: str,
) -> Card | None:
    known = [(offer, a, b) for offer in found if (a := x_of(offer)) and (b := y_of(offer))]
    if len(known) < 2:
        return None
    best = front([(a.value, b.value) for _, a, b in known])
    points = [
        _point(offer, a, b, x_words, y_words, labelled=index in best)
        for index, (offer, a, b) in enumerate(known)
    ]
    x = plot_module.log_axis(say(x_title, lang), [p.x for p in points], x_words)
    heights = [end for p in points for end in (p.y, *(p.y_interval or ()))]
    y = plot_module.linear_axis(say(y_title, lang), heights, y_words, zero=y_title == "ax_wrong")
    path = plot_module.Path("front", tuple((known[i][1].value, known[i][2].value) for i in best))
    chart = plot_module.plot(say(title, lang), x, y, points, [path])
    return Card(say(title, lang), chart, legend=legend([offer.line for offer, _, _ in known]))


def _point(
    offer: Offer, a: Figure, b: Figure, x_words: Words, y_words: Words, *, labelled: bool
) -> plot_module.Point:
    hint = f"{offer.line.label}: {_told(a, x_words)}; {_told(b, y_words)}"
    name = offer.line.run.model.name if labelled else ""
    return plot_module.Point(a.value, b.value, offer.line.css, hint, name, a.interval, b.interval)


def _told(figure: Figure, words: Words) -> str:
    """`1.23 (95%: 1.2–1.26)`."""
    ends = figure.interval
    return words(figure.value) + (f" (95%: {words(ends[0])}–{words(ends[1])})" if ends else "")
