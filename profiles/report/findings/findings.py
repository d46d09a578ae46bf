"""What was found, in sentences: only what the samples can carry, and the sentence's own numbers.

Of each pair that a sentence is about it says what compare/verdict.py finds when all pairs of the page are judged
together: that they differ, that they are the same within a margin, or that it cannot be told. Sentences are markup,
in which what comes from files is escaped.
"""

from __future__ import annotations

from markupsafe import Markup

from edgellm.profiles.report.figures.line import Line, lines
from edgellm.profiles.report.figures.pairs import Tests, interval, median, ranked, rate, standing, text
from edgellm.profiles.report.findings.study import study
from edgellm.profiles.report.words import sentence
from edgellm.profiles.result.result import Report, Run

#: Foreign load from which every sentence below it is in doubt.
BUSY_SHARE = 0.1


def findings(report: Report, lang: str) -> list[Markup]:
    """Sentences for the top of a report, the most telling first."""
    tests = Tests()
    while True:
        told = _findings(report, tests, lang)
        if tests.settled():
            return told


def _findings(report: Report, tests: Tests, lang: str) -> list[Markup]:
    shown = lines([run for run in report.runs if run.launches], lang)
    sentences = _busy(report, lang)
    failed = dict.fromkeys(run.model.name for run in report.runs if not run.launches)
    sentences += [sentence("f_failed", lang, a=name) for name in failed]
    if len(shown) == 1:
        return [s for s in [*sentences, *_one(shown[0].run, lang)] if s]
    if len(shown) == 2:
        a, b = shown
        sentences += [tell(a, b, tests, lang) for tell in (_decode, _prefill, _memory, _energy)]
    sentences += study(report, shown, tests, lang)
    return [sentence for sentence in sentences if sentence]


def _busy(report: Report, lang: str) -> list[Markup]:
    shares = [float(c.values["share"]) for c in report.caveats if c.code in ("foreign-load", "steal")]
    if max(shares, default=0.0) < BUSY_SHARE:
        return []
    return [sentence("f_busy", lang, share=f"{max(shares):.0%}")]


def _one(run: Run, lang: str) -> list[Markup]:
    prefill, decode = run.summary("prefill_tokens_per_second"), run.summary("decode_tokens_per_second")
    speed = run.summary("decode_bytes_per_second")
    ttft, peak = run.summary("ttft_seconds"), run.summary("peak_bytes")
    name = run.model.name
    found = []
    if prefill and decode and speed and ttft:
        values = {
            "prefill": text("tok/s", prefill.median),
            "decode": text("tok/s", decode.median),
            "bytes": text("B/s", speed.median),
            "ttft": text("s", ttft.median),
        }
        found.append(sentence("f_one", lang, a=name, **values))
    if peak:
        found.append(sentence("f_one_memory", lang, peak=text("B", peak.median)))
    return [*found, no_energy(run, lang)]


def _decode(a: Line, b: Line, tests: Tests, lang: str) -> Markup:
    return _speeds(a, b, "decode", "f_faster", "f_same_speed", tests, lang)


def _prefill(a: Line, b: Line, tests: Tests, lang: str) -> Markup:
    return _speeds(a, b, "prefill", "f_prefill", "f_same_prefill", tests, lang)


def _speeds(
    first: Line, second: Line, phase: str, different: str, same: str, tests: Tests, lang: str
) -> Markup:
    """By text, so that different tokenizers compare."""
    metric = f"{phase}_bytes_per_second"
    order = ranked([first, second], metric, best=max)
    if len(order) < 2:
        return Markup()
    a, b = order
    found = tests.versus(a, b, metric)
    values = {
        "a": a.spoken,
        "b": b.spoken,
        "ratio": f"{found.ratio.value:.2f}",
        "interval": interval(found.ratio, lang),
        "va": rate(a, phase, lang),
        "vb": rate(b, phase, lang),
        "ta": text("s", median(a, "ttft_seconds")),
        "tb": text("s", median(b, "ttft_seconds")),
        "standing": standing(found, lang),
    }
    return sentence(different if found.differs else same, lang, **values)


def _memory(a: Line, b: Line, tests: Tests, lang: str) -> Markup:
    return _less(a, b, "peak_bytes", "B", "f_memory", "f_same_memory", tests, lang)


def _energy(a: Line, b: Line, tests: Tests, lang: str) -> Markup:
    metric = "decode_joules_per_byte"
    if not all(line.run.measurement(metric).samples for line in (a, b)):
        return no_energy(a.run, lang)
    return _less(a, b, metric, "J/B", "f_energy", "f_same_energy", tests, lang)


def _less(
    first: Line, second: Line, metric: str, unit: str, different: str, same: str, tests: Tests, lang: str
) -> Markup:
    order = ranked([first, second], metric, best=min)
    if len(order) < 2:
        return Markup()
    a, b = order
    share = 1 - median(a, metric) / median(b, metric)
    found = tests.versus(b, a, metric)
    values = {
        "a": a.spoken,
        "b": b.spoken,
        "percent": f"{100 * share:.0f}%",
        "va": text(unit, median(a, metric)),
        "vb": text(unit, median(b, metric)),
        "scope": a.run.launches[0].energy.scope or "",
        "standing": standing(found, lang),
    }
    return sentence(different if found.differs else same, lang, **values)


def no_energy(run: Run, lang: str) -> Markup:
    """That energy was not measured, or nothing."""
    if run.measurement("decode_joules_per_token").samples:
        return Markup()
    return sentence("f_energy_off" if run.workload.energy == "none" else "f_no_energy", lang)


def headline(report: Report, lang: str) -> Markup:
    """The first finding that is no warning, for a joined page; empty without one."""
    found = findings(report, lang)[len(_busy(report, lang)) :]
    return found[0] if found else Markup()
