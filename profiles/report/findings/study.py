"""What a study of several models found: the best value, family against family, thread counts.

Sentences as in findings.py. Two models are as good as each other here when their bits per byte differ by less
than MARGIN: a rule of this page, stated in its sentence, for errors of the same text go together and the single
figures' intervals are too wide to decide it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from markupsafe import Markup

from edgellm.profiles.report.figures.line import Line
from edgellm.profiles.report.figures.pairs import clear, interval, mean, ranked, rate, text, versus
from edgellm.profiles.report.figures.quality_cost import KILOBYTE, Offer, apart, offers, shares_apart
from edgellm.profiles.report.words import sentence
from edgellm.profiles.result.result import Report

#: Of bits per byte: what is within it of the best is called as good.
MARGIN = 0.01
_DECODES = "decode_bytes_per_second"
_JOULES = "decode_joules_per_byte"


def study(report: Report, shown: Sequence[Line], lang: str) -> list[Markup]:
    """Sentences about several models; none that would need what was not measured."""
    found = [offer for offer in offers(report, shown) if offer.bits and offer.seconds]
    sentences = _best_value(found, lang) if len(found) > 1 else []
    if not sentences and len(shown) > 2:
        sentences = [*_fastest(_best_settings(shown), lang), _memory(shown, lang)]
        sentences += [sentence("f_no_quality", lang)] if not report.quality else []
    sentences += [_families(report, shown, lang), _threads(shown, lang)]
    if len(shown) > 2 and not any(line.run.measurement(_JOULES).samples for line in shown):
        off = all(line.run.workload.energy == "none" for line in shown)
        sentences.append(sentence("f_energy_off" if off else "f_no_energy", lang))
    return sentences


def _bits(offer: Offer) -> float:
    assert offer.bits is not None
    return offer.bits.value


def _best_value(found: Sequence[Offer], lang: str) -> list[Markup]:
    """The cheapest of those that predict as well as the best, and the smallest of all."""
    best = min(found, key=_bits)
    good = [offer for offer in found if _bits(offer) <= _bits(best) * (1 + MARGIN)]
    offer = _pick(good)
    pick = offer.line
    values = {
        "a": pick.spoken,
        "b": best.line.spoken,
        "margin": f"{MARGIN:.0%}",
        "bits": f"{_bits(offer):.3f}",
        "best": f"{_bits(best):.3f}",
        "rate": rate(pick, "decode", lang),
        "peak": text("B", offer.peak.value) if offer.peak else sentence("not_measured", lang),
        "versus": "" if offer is best else _versus(pick, best.line, lang),
    }
    sentences = [sentence("f_value_best" if offer is best else "f_value", lang, **values)]
    metered = ranked([o.line for o in good], _JOULES, best=min)
    if metered:
        joules = text("J/B", mean(metered[0], _JOULES))
        sentences.append(sentence("f_least_energy", lang, a=metered[0].spoken, joules=joules))
    return [*sentences, _smallest(found, best, offer, lang)]


def _pick(good: Sequence[Offer]) -> Offer:
    """The fastest; of those that are not measurably slower the one that needs the least memory."""
    fastest = ranked([offer.line for offer in good], _DECODES, best=max)[0]
    level = [
        offer for offer in good if offer.line is fastest or not clear(versus(fastest, offer.line, _DECODES))
    ]
    return min(level, key=lambda o: o.peak.value if o.peak else math.inf)


def _versus(a: Line, b: Line, lang: str) -> Markup:
    found = versus(a, b, _DECODES)
    if not clear(found):
        return sentence("f_versus_same", lang, b=b.spoken)
    ratio = f"{found.ratio.value:.2f}"
    return sentence("f_versus", lang, ratio=ratio, b=b.spoken, interval=interval(found.ratio, lang))


def _smallest(found: Sequence[Offer], best: Offer, picked: Offer, lang: str) -> Markup:
    """What needs the least of all, unless that was said of it already."""
    known = [offer for offer in found if offer.peak]
    if not known:
        return Markup()
    least = min(known, key=lambda offer: offer.peak.value if offer.peak else 0.0)
    if least is picked:
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


def _fastest(shown: Sequence[Line], lang: str) -> list[Markup]:
    if len(shown) < 2:
        return []
    a, b = ranked(shown, _DECODES, best=max)[:2]
    found = versus(a, b, _DECODES)
    values = {
        "a": a.spoken,
        "b": b.spoken,
        "va": rate(a, "decode", lang),
        "vb": rate(b, "decode", lang),
        "ratio": f"{found.ratio.value:.2f}",
        "interval": interval(found.ratio, lang),
    }
    return [sentence("f_fastest" if clear(found) else "f_leaders", lang, **values)]


def _memory(shown: Sequence[Line], lang: str) -> Markup:
    order = ranked(shown, "peak_bytes", best=min)
    if len(order) < 2:
        return Markup()
    a, b = order[0], order[-1]
    va, vb = (text("B", mean(line, "peak_bytes")) for line in (a, b))
    return sentence("f_least_memory", lang, a=a.spoken, b=b.spoken, va=va, vb=vb)


def _families(report: Report, shown: Sequence[Line], lang: str) -> Markup:
    """Qwen against Llama, at the best quantization and settings that both have."""
    qwen, llama = ([line for line in shown if kin in _kind(line)] for kin in ("qwen", "llama"))
    pairs = [(a, b) for a, b in itertools.product(qwen, llama) if _alike(a, b)]
    pairs = [
        (a, b)
        for a, b in pairs
        if a.run.measurement(_DECODES).samples and b.run.measurement(_DECODES).samples
    ]
    if not pairs or len(shown) == 2:
        return Markup()
    a, b = min(pairs, key=lambda pair: _rank(report, pair))
    parts = [part for part in (*_worth(report, a, b, lang), *_costs(a, b, lang)) if part]
    return sentence(
        "f_families",
        lang,
        qa=a.family,
        qb=b.family,
        setting=a.short,
        parts=sentence("join_parts", lang).join(parts),
    )


def _kind(line: Line) -> str:
    return f"{line.run.model.architecture} {line.run.model.name}".lower()


def _alike(a: Line, b: Line) -> bool:
    same = a.run.model.quantization == b.run.model.quantization
    return same and (a.run.settings, a.run.workload) == (b.run.settings, b.run.workload)


def _rank(report: Report, pair: tuple[Line, Line]) -> tuple[float, float]:
    """Best predictions first; of equals the fastest."""
    records = [(report.quality or {}).get(line.run.model.name) for line in pair]
    bits = [r.bits_per_byte.value for r in records if r and r.bits_per_byte]
    return round(sum(bits), 2), -sum(mean(line, _DECODES) for line in pair)


def _worth(report: Report, a: Line, b: Line, lang: str) -> list[Markup]:
    first, second = ((report.quality or {}).get(line.run.model.name) for line in (a, b))
    if not first or not second:
        return []
    parts = []
    x, y = first.bits_per_byte, second.bits_per_byte
    if x and y:
        better = (a if x.value < y.value else b) if apart(x, y) else None
        values = {"va": f"{x.value:.3f}", "vb": f"{y.value:.3f}", "verdict": _verdict(better, lang)}
        parts.append(sentence("p_bits", lang, **values))
    s, t = first.total, second.total
    if s and t and s.n and t.n:
        better = (a if s.value > t.value else b) if shares_apart(s, t) else None
        values = {"va": f"{s.value:.1%}", "vb": f"{t.value:.1%}", "verdict": _verdict(better, lang)}
        parts.append(sentence("p_tasks", lang, **values))
    return parts


def _costs(a: Line, b: Line, lang: str) -> list[Markup]:
    seconds = [KILOBYTE / mean(line, _DECODES) for line in (a, b)]
    parts = [_cost("p_seconds", a, b, _DECODES, [text("s", value) for value in seconds], lang)]
    if not all(line.run.measurement(_JOULES).samples for line in (a, b)):
        return [*parts, sentence("p_no_joules", lang)]
    joules = [KILOBYTE * mean(line, _JOULES) for line in (a, b)]
    return [*parts, _cost("p_joules", a, b, _JOULES, [text("J", value) for value in joules], lang)]


def _cost(key: str, a: Line, b: Line, metric: str, values: Sequence[str], lang: str) -> Markup:
    order = ranked([a, b], metric, best=max if metric == _DECODES else min)
    found = versus(order[0], order[1], metric)
    if found.ratio.p_value is None:
        verdict = sentence("p_untold", lang)
    elif clear(found):
        shown = found.ratio if metric == _DECODES else found.flipped().ratio
        by = {"ratio": f"{shown.value:.2f}", "interval": interval(shown, lang)}
        verdict = sentence("p_better_by", lang, a=order[0].family, **by)
    else:
        verdict = sentence("p_same", lang)
    return sentence(key, lang, va=values[0], vb=values[1], verdict=verdict)


def _verdict(better: Line | None, lang: str) -> Markup:
    return sentence("p_better", lang, a=better.family) if better else sentence("p_same", lang)


def _threads(shown: Sequence[Line], lang: str) -> Markup:
    """The most threads against the fewest, for the model that decodes fastest."""
    for top in ranked(shown, _DECODES, best=max):
        own = [
            line
            for line in shown
            if (line.run.model, line.run.workload) == (top.run.model, top.run.workload)
            and line.run.settings.device == top.run.settings.device
            and line.run.measurement(_DECODES).samples
        ]
        counts = sorted({line.run.settings.n_threads for line in own})
        if len(counts) > 1:
            few = next(line for line in own if line.run.settings.n_threads == counts[0])
            many = next(line for line in own if line.run.settings.n_threads == counts[-1])
            found = versus(many, few, _DECODES)
            values = {"n": counts[-1], "m": counts[0], "a": top.run.model.name}
            if not clear(found):
                return sentence("f_threads_same", lang, **values)
            ratio = f"{found.ratio.value:.2f}"
            return sentence("f_threads", lang, ratio=ratio, interval=interval(found.ratio, lang), **values)
    return Markup()
