"""What several machines' results found: each held against the first, and what each found by itself."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from edgellm.profiles.report.figures.machines import Place, Shared, ratio_over
from edgellm.profiles.report.figures.pairs import interval
from edgellm.profiles.report.findings.findings import headline
from edgellm.profiles.report.words import sentence


def sentences(found: Sequence[Place], models: Sequence[Shared], lang: str) -> list[Markup]:
    """Speed and energy of every machine over the first, then each one's own first finding."""
    told = []
    for index in range(1, len(found)):
        for metric, several, one in (
            ("decode_tokens_per_second", "join_speed", "join_one"),
            ("decode_joules_per_token", "join_energy", "join_energy"),
        ):
            over = ratio_over(models, index, metric)
            if over is None:
                break
            ratio, n = over
            values = {"a": found[index].name, "b": found[0].name, "ratio": f"{ratio.value:.2f}", "n": n}
            told.append(sentence(one if n == 1 else several, lang, interval=interval(ratio, lang), **values))
    for place in found:
        if first := headline(place.report, lang):
            told.append(sentence("join_first", lang, name=place.name, finding=first))
    return told
