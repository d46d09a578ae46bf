"""What was found, in sentences: only what the samples can carry, and the sentence's own numbers.

Of each pair that a sentence is about it says what compare/verdict.py finds when all pairs of the page are judged
together: that they differ, that they are the same within a margin, or that it cannot be told. Sentences are markup,
in which what comes from files is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from edgellm.profiles.report.figures.line import Line, lines
from edgellm.profiles.report.figures.pairs import Tests, text
from edgellm.profiles.report.findings.study import study
from edgellm.profiles.report.findings.versus import Aspect, aspects, rivals
from edgellm.profiles.report.words import sentence
from edgellm.profiles.result.result import Report, Run

#: Foreign load from which every sentence below it is in doubt.
BUSY_SHARE = 0.1
_JOULES = "decode_joules_per_token"


@dataclass(frozen=True)
class Found:
    """What a result has to say, all of it judged together."""

    sentences: Sequence[Markup]  # the most telling first
    pair: tuple[Line, Line] | None  # who is held against whom in the table
    aspects: Sequence[Aspect]  # the table


def findings(report: Report, lang: str) -> Found:
    """Sentences and a table for the top of a report."""
    tests = Tests()
    while True:
        told = _findings(report, tests, lang)
        if tests.settled():
            return told


def _findings(report: Report, tests: Tests, lang: str) -> Found:
    shown = lines([run for run in report.runs if run.launches], lang)
    sentences = _busy(report, lang)
    failed = dict.fromkeys(run.model.name for run in report.runs if not run.launches)
    sentences += [sentence("f_failed", lang, a=name) for name in failed]
    sentences += _one(shown[0].run, lang) if len(shown) == 1 else study(report, shown, tests, lang)
    pair = rivals(report, shown) if len(shown) > 1 else None
    rows = aspects(report, pair, tests, lang) if pair else []
    if len(shown) > 2 and not pair and not any(line.run.measurement(_JOULES).samples for line in shown):
        sentences.append(no_energy(shown[0].run, lang))
    return Found([told for told in sentences if told], pair, rows)


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


def no_energy(run: Run, lang: str) -> Markup:
    """That energy was not measured, or nothing."""
    if run.measurement(_JOULES).samples:
        return Markup()
    return sentence("f_energy_off" if run.workload.energy == "none" else "f_no_energy", lang)


def headline(report: Report, lang: str) -> Markup:
    """The first finding that is no warning, for a joined page: a sentence, or the table's first row."""
    found = findings(report, lang)
    sentences = found.sentences[len(_busy(report, lang)) :]
    if sentences and not (len(report.runs) == 2 and found.aspects):
        return sentences[0]
    if not found.aspects or found.pair is None:
        return Markup()
    first = found.aspects[0]
    values = {"va": first.figures[0][0], "vb": first.figures[1][0], "verdict": first.verdict}
    return sentence(
        "f_pair", lang, a=found.pair[0].spoken, b=found.pair[1].spoken, what=first.title, **values
    )
