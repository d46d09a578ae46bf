"""The page's section on energy: by phase where a counter worked, a gap and the reason where none did."""

from __future__ import annotations

from collections.abc import Sequence

from edgellm.profiles.report.figures.line import Line, grouped
from edgellm.profiles.report.figures.numbers import energy_reason
from edgellm.profiles.report.figures.scale import capital, scale_for
from edgellm.profiles.report.page.bars import bar_cards, bar_folds, measured
from edgellm.profiles.report.page.blocks import FEW, Card, Key, Section
from edgellm.profiles.report.plots import svg
from edgellm.profiles.report.words import say, sentence
from edgellm.profiles.result.result import Report, Run

_COSTS = ("prefill_joules_per_token", "decode_joules_per_token", "decode_joules_per_byte")
_PHASES = ("load", "prefill", "decode")


def energy(report: Report, shown: Sequence[Line], lang: str) -> Section:
    """Joules of a request by phase, and joules per byte and token."""
    reason = energy_reason(report)
    if reason is not None:
        return Section("energy", cards=_absent(shown, reason, lang), css="wide")
    record = next(launch.energy for line in shown for launch in line.run.launches if launch.energy.meter)
    work = shown[0].run.workload
    note = say("energy_note", lang, meter=record.meter or "", scope=record.scope or "")
    note += " " + say("e_phases_note", lang, n_prompt=work.n_prompt, n_gen=work.n_gen)
    phases = _by_phase(shown, lang)
    costs = [name for name in _COSTS if measured(name, shown)]
    if len(shown) <= FEW:
        return Section(
            "energy", note, phases + [card for name in costs for card in bar_cards(name, shown, lang)]
        )
    return Section("energy", note, phases, "wide", bar_folds(costs, shown, lang))


def _absent(shown: Sequence[Line], reason: str, lang: str) -> list[Card]:
    names = [line.label for line in shown] if len(shown) <= FEW else dict(grouped(shown))
    rows = [svg.Bar(name, None, say("not_measured", lang), "") for name in names]
    why = [sentence("not_measured_because", lang, reason=reason), say("no_estimate", lang)]
    return [Card(chart=svg.bars(say("energy", lang), rows)), Card(css="absent", notes=why)]


def phase_joules(run: Run) -> tuple[float | None, float | None, float | None]:
    """Joules to load, prefill and decode; None where a phase was not measured."""
    work = run.workload
    load, prefill, decode = (
        run.summary(name) for name in ("load_joules", "prefill_joules_per_token", "decode_joules_per_token")
    )
    return (
        load.median if load else None,
        prefill.median * work.n_prompt if prefill else None,
        decode.median * max(work.n_gen - 1, 0) if decode else None,
    )


def _by_phase(shown: Sequence[Line], lang: str) -> list[Card]:
    found = {id(line): phase_joules(line.run) for line in shown}
    reach = 1.12 * max(sum(joule or 0.0 for joule in phases) for phases in found.values())
    title, cards = say("e_phases", lang), []
    for family, own in grouped(shown) if len(shown) > FEW else [("", list(shown))]:
        chart = svg.thin_stacks(title, [_row(line, found[id(line)], family) for line in own], reach)
        keys = [Key(f"{own[0].css} s{index}", say(key, lang)) for index, key in enumerate(_PHASES)]
        cards.append(Card(title, chart, family, legend=keys, notes=_reasons(own, lang)))
    return cards


def _row(line: Line, phases: Sequence[float | None], family: str) -> svg.Stack:
    total = sum(joule or 0.0 for joule in phases)
    missing = any(joule is None for joule in phases)
    text = f"{'> ' if missing else ''}{scale_for('J', total).text(total)}"
    label = line.short if family else line.label
    return svg.Stack(label, text, line.css, tuple(joule or 0.0 for joule in phases), gap=missing)


def _reasons(own: Sequence[Line], lang: str) -> list[str]:
    """Why a phase has no figure, each reason once."""
    names = ("load_joules", "prefill_joules_per_token", "decode_joules_per_token")
    told: dict[str, None] = {}
    for line in own:
        for phase, name in zip(_PHASES, names, strict=True):
            if why := line.run.measurement(name).reason:
                told.setdefault(f"{say(phase, lang)}: {say('not_measured', lang)} ({why})")
    return [capital(text) for text in list(told)[:3]]
