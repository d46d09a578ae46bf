"""The charts of several machines: for each measurement a card for each shared model, a bar for each machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgellm.profiles.report.figures.machines import METRICS, UNITS, Place, Shared
from edgellm.profiles.report.figures.numbers import shown_interval
from edgellm.profiles.report.figures.scale import capital, scale_for
from edgellm.profiles.report.page.blocks import Card, Fold
from edgellm.profiles.report.plots import svg
from edgellm.profiles.report.words import metric_name, say

#: Models that stand open; more are folded.
_OPEN = 6


@dataclass(frozen=True)
class Group:
    """A measurement's cards."""

    title: str
    cards: Sequence[Card]
    fold: Fold | None


def groups(found: Sequence[Place], models: Sequence[Shared], lang: str) -> list[Group]:
    """A group for each measurement that any machine has."""
    made = []
    for metric, unit in zip(METRICS, UNITS, strict=True):
        cards = [card for each in models if (card := _card(each, metric, unit, found))]
        more = Fold(say("join_more", lang, n=len(cards) - _OPEN), cards[_OPEN:], "charts")
        if cards:
            title = capital(metric_name(metric, lang))
            made.append(Group(title, cards[:_OPEN], more if more.cards else None))
    return made


def _card(each: Shared, metric: str, unit: str, found: Sequence[Place]) -> Card | None:
    summaries = [line.run.summary(metric) if line else None for line in each.by_place]
    if not any(summaries):
        return None
    scale = scale_for(unit, max(summary.median for summary in summaries if summary))
    bars = [
        svg.Bar(place.short, summary.median, scale.text(summary.median), place.css, shown_interval(summary))
        if summary
        else svg.Bar(place.short, None, "–", place.css)
        for place, summary in zip(found, summaries, strict=True)
    ]
    return Card(each.name, svg.bars(each.name, bars))
