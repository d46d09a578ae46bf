"""What a study of several models found: the best value, who is fastest and smallest, thread counts.

Sentences as in findings.py. A model is as good as the best here when a test of their bits per byte, in pairs, finds
them the same within MARGIN: a rule of this page, stated in its sentence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from markupsafe import Markup

from edgellm.profiles.compare.verdict import BITS
from edgellm.profiles.report.figures.line import Line
from edgellm.profiles.report.figures.pairs import Tests, interval, median, ranked, rate, standing, text
from edgellm.profiles.report.figures.quality_cost import Offer, offers
from edgellm.profiles.report.words import sentence
from edgellm.profiles.result.result import Report

#: Of bits per byte: what a test finds the same as the best within it is called as good.
MARGIN = 0.01
_DECODES = "decode_bytes_per_second"
_JOULES = "decode_joules_per_byte"


def study(report: Report, shown: Sequence[Line], tests: Tests, lang: str) -> list[Markup]:
    """Sentences about several models; none that would need what was not measured."""
    found = [offer for offer in offers(report, shown) if offer.bits and offer.seconds]
    sentences = _best_value(found, tests, lang) if len(found) > 1 else []
    if not sentences and len(shown) > 2:
        best = _best_settings(shown)
        sentences = [*_fastest(best, tests, lang), _memory(best, tests, lang)]
        sentences += [sentence("f_no_quality", lang)] if not report.quality else []
    sentences.append(_threads(shown, tests, lang))
    return sentences


def _bits(offer: Offer) -> float:
    assert offer.bits is not None
    return offer.bits.value


def _best_value(found: Sequence[Offer], tests: Tests, lang: str) -> list[Markup]:
    """The cheapest of those that predict as well as the best, and the smallest of all."""
    best = min(found, key=_bits)
    good = [offer for offer in found if offer is best or _as_good(offer, best, tests)]
    offer = _pick(good, tests)
    pick = offer.line
    values = {
        "a": pick.spoken,
        "b": best.line.spoken,
        "margin": f"{MARGIN:.0%}",
        "bits": f"{_bits(offer):.3f}",
        "best": f"{_bits(best):.3f}",
        "rate": rate(pick, "decode", lang),
        "peak": text("B", offer.peak.value) if offer.peak else sentence("not_measured", lang),
        "versus": "" if offer is best else _versus(pick, best.line, tests, lang),
    }
    sentences = [sentence("f_value_best" if offer is best else "f_value", lang, **values)]
    metered = ranked([o.line for o in good], _JOULES, best=min)
    if len(metered) > 1 and tests.versus(metered[1], metered[0], _JOULES).differs:
        joules = text("J/B", median(metered[0], _JOULES))
        sentences.append(sentence("f_least_energy", lang, a=metered[0].spoken, joules=joules))
    return [*sentences, _smallest(found, best, offer, tests, lang)]


def _as_good(offer: Offer, best: Offer, tests: Tests) -> bool:
    pair = tests.quality(BITS, offer.quality, best.quality)
    return pair is not None and pair.same_within is not None and pair.same_within <= MARGIN


def _pick(good: Sequence[Offer], tests: Tests) -> Offer:
    """The fastest; of those that are not measurably slower the one that needs the least memory."""
    fastest = ranked([offer.line for offer in good], _DECODES, best=max)[0]
    level = [
        offer
        for offer in good
        if offer.line is fastest or not tests.versus(fastest, offer.line, _DECODES).differs
    ]
    return min(level, key=lambda o: o.peak.value if o.peak else math.inf)


def _versus(a: Line, b: Line, tests: Tests, lang: str) -> Markup:
    found = tests.versus(a, b, _DECODES)
    if not found.differs:
        return sentence("f_versus_same", lang, b=b.spoken, standing=standing(found, lang))
    ratio = f"{found.ratio.value:.2f}"
    return sentence("f_versus", lang, ratio=ratio, b=b.spoken, interval=interval(found.ratio, lang))


def _smallest(found: Sequence[Offer], best: Offer, picked: Offer, tests: Tests, lang: str) -> Markup:
    """What needs the least of all, unless that was said of it already."""
    known = sorted((o for o in found if o.peak), key=lambda offer: offer.peak.value if offer.peak else 0.0)
    if len(known) < 2 or known[0] is picked:
        return Markup()
    least, following = known[:2]
    if not tests.versus(following.line, least.line, "peak_bytes").differs:
        return Markup()
    peak = text("B", least.peak.value) if least.peak else ""
    percent = f"{100 * (_bits(least) / _bits(best) - 1):.1f}%"
    return sentence("f_smallest", lang, a=least.line.spoken, peak=peak, percent=percent)


def _best_settings(shown: Sequence[Line]) -> list[Line]:
    """Each model at the settings with which it decodes fastest."""
    best: dict[str, Line] = {}
    for line in ranked(shown, _DECODES, best=max):
        best.setdefault(line.run.model.name, line)
    return list(best.values())


def _fastest(shown: Sequence[Line], tests: Tests, lang: str) -> list[Markup]:
    if len(shown) < 2:
        return []
    a, b = ranked(shown, _DECODES, best=max)[:2]
    found = tests.versus(a, b, _DECODES)
    values = {
        "a": a.spoken,
        "b": b.spoken,
        "va": rate(a, "decode", lang),
        "vb": rate(b, "decode", lang),
        "ratio": f"{found.ratio.value:.2f}",
        "interval": interval(found.ratio, lang),
        "standing": standing(found, lang),
    }
    return [sentence("f_fastest" if found.differs else "f_leaders", lang, **values)]


def _memory(shown: Sequence[Line], tests: Tests, lang: str) -> Markup:
    order = ranked(shown, "peak_bytes", best=min)
    if len(order) < 2:
        return Markup()
    a, following, b = order[0], order[1], order[-1]
    va, vb = (text("B", median(line, "peak_bytes")) for line in (a, b))
    if tests.versus(b, a, "peak_bytes").differs is False:
        return sentence("f_memory_alike", lang, va=va, vb=vb)
    found = tests.versus(following, a, "peak_bytes")
    values = {"a": a.spoken, "b": b.spoken, "va": va, "vb": vb, "c": following.spoken}
    if found.differs:
        return sentence("f_least_memory", lang, **values)
    return sentence("f_least_memory_two", lang, standing=standing(found, lang), **values)


def _threads(shown: Sequence[Line], tests: Tests, lang: str) -> Markup:
    """The most threads against the fewest, over all that ran with both."""
    measured = [line for line in shown if line.run.measurement(_DECODES).samples]
    counts = sorted({line.run.settings.n_threads or 0 for line in measured})
    if len(counts) < 2:
        return Markup()
    few, many = (
        {_but_threads(line): line for line in measured if (line.run.settings.n_threads or 0) == n}
        for n in (counts[0], counts[-1])
    )
    pairs = [(many[key], few[key]) for key in many if key in few]
    if not pairs:
        return Markup()
    found = tests.across(pairs, _DECODES)
    values = {"n": counts[-1], "m": counts[0], "k": len(pairs), "standing": standing(found, lang)}
    ratio, ends = f"{found.ratio.value:.2f}", interval(found.ratio, lang)
    return sentence(
        "f_threads" if found.differs else "f_threads_same", lang, ratio=ratio, interval=ends, **values
    )


def _but_threads(line: Line) -> str:
    """All that a run was made with but its threads."""
    run = line.run
    return repr((run.model.name, run.workload, replace(run.settings, n_threads=0)))
