"""What several machines' results found: each held against the first, and what each found by itself."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from edgellm.profiles.compare.verdict import Axis, Pair, settle
from edgellm.profiles.report.figures.machines import Place, Shared, ratio_over
from edgellm.profiles.report.figures.pairs import axis_of, interval, standing
from edgellm.profiles.report.figures.scale import capital
from edgellm.profiles.report.findings.findings import headline
from edgellm.profiles.report.words import metric_name, sentence


def sentences(found: Sequence[Place], models: Sequence[Shared], lang: str) -> list[Markup]:
    """Speed and energy of every machine over the first, then each one's own first finding."""
    asked = [
        (axis_of(metric), 0, index, over)
        for index in range(1, len(found))
        for metric in ("decode_tokens_per_second", "decode_joules_per_token")
        if (over := ratio_over(models, index, metric))
    ]
    # Two machines are what is compared, so that a slow hour of one is its own: no margin for other times.
    pairs = settle([(axis, a, b, ratio) for axis, a, b, (ratio, _) in asked], paired=True)
    told = [_one(found, pair, axis, n, lang) for (axis, _, _, (_, n)), pair in zip(asked, pairs, strict=True)]
    for place in found:
        if first := headline(place.report, lang):
            told.append(sentence("join_first", lang, name=place.name, finding=first))
    return told


def _one(found: Sequence[Place], pair: Pair, axis: Axis, n: int, lang: str) -> Markup:
    """What is found of one machine over the first."""
    ratio = pair.ratio
    values = {"a": found[pair.b].name, "b": found[pair.a].name, "ratio": f"{ratio.value:.2f}", "n": n}
    if not pair.differs:
        what = metric_name(axis.metric, lang)
        return sentence("join_level", lang, what=capital(what), standing=standing(pair, lang), **values)
    key = "join_energy" if axis.name == "energy" else "join_one" if n == 1 else "join_speed"
    return sentence(key, lang, interval=interval(ratio, lang), **values)
