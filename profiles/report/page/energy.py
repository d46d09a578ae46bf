"""The page's section on energy: by phase where a counter worked, a gap and the reason where none did."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from edgellm.profiles.report.page.cards import FEW, bar_cards, card, fold, grid, measured, section
from edgellm.profiles.report.page.format import capital, scale_for
from edgellm.profiles.report.page.numbers import energy_reason
from edgellm.profiles.report.page.view import Line, grouped
from edgellm.profiles.report.plots import svg
from edgellm.profiles.report.words.english import metric_name, say
from edgellm.profiles.result.result import Report, Run

_COSTS = ("decode_joules_per_byte", "decode_joules_per_token", "prefill_joules_per_token")
_PHASES = ("e_load", "e_prefill", "e_decode")


def energy(report: Report, shown: Sequence[Line], lang: str) -> str:
    """Joules of a request by phase, and joules per byte and token."""
    reason = energy_reason(report)
    if reason is not None:
        return section("energy", "", _absent(shown, reason, lang), lang)
    record = next(launch.energy for line in shown for launch in line.run.launches if launch.energy.meter)
    note = say("energy_note", lang, meter=escape(record.meter or ""), scope=escape(record.scope or ""))
    work = shown[0].run.workload
    note += " " + say("e_phases_note", lang, n_prompt=work.n_prompt, n_gen=work.n_gen)
    phases = _by_phase(shown, lang)
    costs = [name for name in _COSTS if measured(name, shown)]
    if len(shown) <= FEW:
        return section("energy", note, grid(phases + "".join(bar_cards(n, shown, lang) for n in costs)), lang)
    folds = "".join(
        fold(capital(metric_name(name, lang)), grid(bar_cards(name, shown, lang), "wide")) for name in costs
    )
    return section("energy", note, grid(phases, "wide") + folds, lang)


def _absent(shown: Sequence[Line], reason: str, lang: str) -> str:
    names = [line.label for line in shown] if len(shown) <= FEW else dict(grouped(shown))
    rows = [svg.Bar(name, None, say("not_measured", lang), "") for name in names]
    chart = svg.bars(say("energy", lang), rows)
    return (
        f'<div class="grid wide"><div class="card">{chart}</div>'
        f'<div class="card absent"><p><strong>{capital(say("not_measured", lang))}</strong>: {escape(reason)}.</p>'
        f"<p>{say('no_estimate', lang)}</p></div></div>"
    )


def phase_joules(run: Run) -> tuple[float | None, float | None, float | None]:
    """Joules to load, to read the prompt and to write the answer; None where a phase was not measured."""
    work = run.workload
    load, prefill, decode = (
        run.summary(name) for name in ("load_joules", "prefill_joules_per_token", "decode_joules_per_token")
    )
    return (
        load.mean if load else None,
        prefill.mean * work.n_prompt if prefill else None,
        decode.mean * max(work.n_gen - 1, 0) if decode else None,
    )


def _by_phase(shown: Sequence[Line], lang: str) -> str:
    found = {id(line): phase_joules(line.run) for line in shown}
    reach = 1.12 * max(sum(joule or 0.0 for joule in phases) for phases in found.values())
    cards = []
    for family, own in grouped(shown) if len(shown) > FEW else [("", list(shown))]:
        rows = [_row(line, found[id(line)], family) for line in own]
        chart = svg.thin_stacks(say("e_phases", lang), rows, reach)
        reasons = _reasons(own, lang)
        title = say("e_phases", lang)
        small = f" <small>{escape(family)}</small>" if family else ""
        cards.append(card(title, chart + _legend(own[0].css, lang) + reasons, small))
    return "".join(cards)


def _row(line: Line, phases: Sequence[float | None], family: str) -> svg.Stack:
    total = sum(joule or 0.0 for joule in phases)
    missing = any(joule is None for joule in phases)
    text = f"{'> ' if missing else ''}{scale_for('J', total).text(total)}"
    label = line.short if family else line.label
    return svg.Stack(label, text, line.css, tuple(joule or 0.0 for joule in phases), gap=missing)


def _reasons(own: Sequence[Line], lang: str) -> str:
    """Why a phase has no figure, each reason once."""
    names = ("load_joules", "prefill_joules_per_token", "decode_joules_per_token")
    told: dict[str, None] = {}
    for line in own:
        for phase, name in zip(_PHASES, names, strict=True):
            if why := line.run.measurement(name).reason:
                told.setdefault(f"{say(phase, lang)}: {say('not_measured', lang)} ({why})")
    return "".join(f'<p class="note">{escape(capital(text))}</p>' for text in list(told)[:3])


def _legend(css: str, lang: str) -> str:
    items = "".join(
        f'<span><b class="{css} s{index}"></b>{say(key, lang)}</span>' for index, key in enumerate(_PHASES)
    )
    return f'<div class="legend">{items}</div>'
