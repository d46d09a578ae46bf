"""What was found, in sentences: only differences the samples can carry, and the sentence's own numbers.

A difference is claimed when the 95% interval of the ratio of launch means leaves out 1 and the difference is
worth a word; otherwise the sentence says that there is none. Each sentence may hold `<b>`; what comes
from files is escaped.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from edgellm.profiles.report._format import scale_for
from edgellm.profiles.report._words import say
from edgellm.profiles.result import Measurement, Report, Run
from edgellm.profiles.stats import Ratio, launch_means, ratio

#: Less than this is called the same, however sure.
MIN_DIFFERENCE = 0.01
#: Foreign load from which every sentence below it is in doubt.
BUSY_SHARE = 0.1


def findings(report: Report, lang: str) -> list[str]:
    """Sentences for the top of a report, the most telling first."""
    ran = [run for run in report.runs if run.launches]
    sentences = _busy(report, lang)
    sentences += [
        say("f_failed", lang, a=html.escape(run.model.name)) for run in report.runs if not run.launches
    ]
    if len(ran) == 1:
        return sentences + _one(ran[0], lang)
    if len(ran) > 1:
        sentences += [_writing(ran, lang), _reading(ran, lang), _memory(ran, lang), _energy(ran, lang)]
    return [sentence for sentence in sentences if sentence]


def _busy(report: Report, lang: str) -> list[str]:
    shares = [float(c.values["share"]) for c in report.caveats if c.code in ("foreign-load", "steal")]
    if max(shares, default=0.0) < BUSY_SHARE:
        return []
    return [say("f_busy", lang, share=f"{max(shares):.0%}")]


def _one(run: Run, lang: str) -> list[str]:
    rate, speed = run.summary("decode_tokens_per_second"), run.summary("decode_bytes_per_second")
    ttft, peak = run.summary("ttft_seconds"), run.summary("peak_bytes")
    name = html.escape(run.model.name)
    found = []
    if rate and speed and ttft:
        values = {
            "rate": f"{rate.mean:,.1f} tok/s",
            "bytes": _text("B/s", speed.mean),
            "ttft": _text("s", ttft.mean),
        }
        found.append(say("f_one", lang, a=name, **values))
    if peak:
        found.append(say("f_one_memory", lang, peak=_text("B", peak.mean)))
    return [*found, _no_energy(run, lang)]


def _writing(runs: Sequence[Run], lang: str) -> str:
    return _rates(runs, "decode_bytes_per_second", "f_faster", "f_same_speed", lang)


def _reading(runs: Sequence[Run], lang: str) -> str:
    return _rates(runs, "prefill_bytes_per_second", "f_reads", "f_same_reads", lang)


def _rates(runs: Sequence[Run], metric: str, different: str, same: str, lang: str) -> str:
    """The best against the runner-up of two, or against the last of several."""
    ranked = _ranked(runs, metric, best=max)
    if len(ranked) < 2:
        return ""
    a, b = ranked[0], ranked[-1]
    first, last = a.measurement(metric), b.measurement(metric)
    quotient = ratio(_units(first), _units(last))
    values = {
        "a": html.escape(a.model.name),
        "b": html.escape(b.model.name),
        "ratio": f"{quotient.value:.2f}",
        "interval": _interval(quotient, lang),
        "va": _text("B/s", _mean(first)),
        "vb": _text("B/s", _mean(last)),
        "ta": _text("s", _mean(a.measurement("ttft_seconds"))),
        "tb": _text("s", _mean(b.measurement("ttft_seconds"))),
    }
    return say(different if differs(first, last) else same, lang, **values)


def _interval(quotient: Ratio, lang: str) -> str:
    if quotient.ci95_low is None or quotient.ci95_high is None:
        return ""
    words = say("interval", lang, low=f"{quotient.ci95_low:.2f}", high=f"{quotient.ci95_high:.2f}")
    return f"<small>({words})</small>"


def _memory(runs: Sequence[Run], lang: str) -> str:
    return _less(runs, "peak_bytes", "B", "f_memory", "f_same_memory", lang, exact=True)


def _energy(runs: Sequence[Run], lang: str) -> str:
    if any(not run.measurement("decode_joules_per_byte").samples for run in runs):
        return _no_energy(runs[0], lang)
    return _less(runs, "decode_joules_per_byte", "J/B", "f_energy", "f_same_energy", lang)


def _less(
    runs: Sequence[Run], metric: str, unit: str, different: str, same: str, lang: str, *, exact: bool = False
) -> str:
    ranked = _ranked(runs, metric, best=min)
    if len(ranked) < 2:
        return ""
    a, b = ranked[0], ranked[-1]
    low, high = a.measurement(metric), b.measurement(metric)
    share = 1 - _mean(low) / _mean(high)
    clear = share > MIN_DIFFERENCE if exact else differs(high, low)
    values = {
        "a": html.escape(a.model.name),
        "b": html.escape(b.model.name),
        "percent": f"{100 * share:.0f}%",
        "va": _text(unit, _mean(low)),
        "vb": _text(unit, _mean(high)),
        "scope": html.escape(a.launches[0].energy.scope or ""),
    }
    return say(different if clear else same, lang, **values)


def _no_energy(run: Run, lang: str) -> str:
    if run.measurement("decode_joules_per_token").samples:
        return ""
    return say("f_energy_off" if run.workload.energy == "none" else "f_no_energy", lang)


def differs(larger: Measurement, smaller: Measurement) -> bool:
    """Whether the samples carry the claim that `larger` is larger, by more than MIN_DIFFERENCE."""
    quotient = ratio(_units(larger), _units(smaller))
    return quotient.differs and quotient.value > 1 + MIN_DIFFERENCE


def _units(measurement: Measurement) -> Sequence[float]:
    """Launch means, for samples of one launch share its luck; the samples where there was only one launch."""
    means = launch_means(measurement.samples, measurement.launches)
    return means if len(means) > 1 else measurement.samples


def _ranked(runs: Sequence[Run], metric: str, best: object) -> list[Run]:
    measured = [run for run in runs if run.measurement(metric).samples]
    return sorted(measured, key=lambda run: _mean(run.measurement(metric)), reverse=best is max)


def _mean(measurement: Measurement) -> float:
    summary = measurement.summary()
    assert summary is not None
    return summary.mean


def _text(unit: str, value: float) -> str:
    return scale_for(unit, value).text(value)
