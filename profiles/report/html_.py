"""One self-contained page: what was found, the charts, all numbers, what to doubt, where and how.

No script, no network, no font of its own; everything that came from a file or a machine is escaped.
"""

from __future__ import annotations

from html import escape

from edgellm.profiles.report import _charts, _facts
from edgellm.profiles.report._findings import findings
from edgellm.profiles.report._format import capital, scale_for
from edgellm.profiles.report._numbers import number_rows
from edgellm.profiles.report._rows import params
from edgellm.profiles.report._style import CSS
from edgellm.profiles.report._words import METRICS, caveat_words, metric_meaning, metric_name, say
from edgellm.profiles.result import Report, Run

SUFFIX = ".html"

_COLOURS = 6
#: More models than this are counted in the title, not named.
_NAMED = 3


def render(report: Report, lang: str = "en") -> str:
    """The page as one string of HTML."""
    ran = [run for run in report.runs if run.launches]
    title = _title(report, lang)
    sections = [
        _header(report, title, lang),
        _findings(report, lang),
        _tiles(ran, lang),
        *(section(report, ran, lang) for section in _charts.SECTIONS if ran),
        _numbers(report, ran, lang) if ran else "",
        _caveats(report, lang),
        _facts.where(report, lang),
        _definitions(report, ran, lang),
        _again(report, lang),
    ]
    return (
        f'<!doctype html>\n<html lang="{"zh-CN" if lang == "zh" else "en"}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(section for section in sections if section)
        + "\n</main>\n</body>\n</html>\n"
    )


def colour(index: int) -> str:
    """The colour class of a model."""
    return f"m{index % _COLOURS}"


def _title(report: Report, lang: str) -> str:
    names = [run.model.name for run in report.runs]
    if len(names) == 1:
        return names[0]
    if len(names) > _NAMED:
        return say("several", lang, n=len(names))
    return say("versus", lang, a=", ".join(names[:-1]), b=names[-1])


def _header(report: Report, title: str, lang: str) -> str:
    machine, work = report.machine, report.runs[0].workload
    on = say("on", lang, machine=machine.cpu_model or say("unknown", lang))
    values = {name: getattr(work, name) for name in ("n_prompt", "n_gen", "repetitions", "launches")}
    unfinished = "" if report.complete else f" · {say('incomplete', lang)}"
    return (
        f'<header><p class="brand">edgellm profile · {escape(report.created[:10])}{unfinished}</p>'
        f"<h1>{escape(title)} <i>{escape(on)}</i></h1>"
        f'<p class="note">{say("workload", lang, **values)}</p></header>'
    )


def _findings(report: Report, lang: str) -> str:
    items = "".join(f"<li>{sentence}</li>" for sentence in findings(report, lang))
    n = len(report.caveats)
    words = say("one_caveat", lang) if n == 1 else say("n_caveats", lang, n=n)
    jump = f'<a class="jump" href="#trust">⚠ {words}</a>' if n else ""
    return f'<section class="card findings"><h2>{say("found", lang)}</h2><ul>{items}</ul>{jump}</section>'


def _tiles(ran: list[Run], lang: str) -> str:
    return (
        f'<section class="grid tiles">{"".join(_tile(run, i, lang) for i, run in enumerate(ran))}</section>'
    )


def _tile(run: Run, index: int, lang: str) -> str:
    model = run.model
    chips = [
        model.architecture,
        model.quantization,
        say("params", lang, n=params(model.n_params)) if model.n_params else None,
        _value("B", model.size_bytes),
    ]
    cells = [
        (
            "t_writes",
            _mean(run, "decode_tokens_per_second", "tok/s"),
            _mean(run, "decode_bytes_per_second", "B/s"),
        ),
        ("t_first", _mean(run, "ttft_seconds", "s"), None),
        ("t_peak", _mean(run, "peak_bytes", "B"), None),
        (
            "t_energy",
            _mean(run, "decode_joules_per_token", "J/tok"),
            _mean(run, "decode_joules_per_byte", "J/B"),
        ),
    ]
    rows = "".join(_cell(say(key, lang), value, more, lang) for key, value, more in cells)
    return (
        f'<article class="card tile {colour(index)}"><h3>{escape(model.name)}</h3>'
        f'<p class="chips">{escape(" · ".join(chip for chip in chips if chip))}</p><dl>{rows}</dl></article>'
    )


def _cell(label: str, value: str | None, more: str | None, lang: str) -> str:
    if value is None:
        return f'<div><dt>{label}</dt><dd class="none">{say("not_measured", lang)}</dd></div>'
    small = f"<small>{more}</small>" if more else ""
    return f"<div><dt>{label}</dt><dd>{value}{small}</dd></div>"


def _mean(run: Run, name: str, unit: str) -> str | None:
    summary = run.summary(name)
    return _value(unit, summary.mean) if summary else None


def _value(unit: str, value: float) -> str:
    return scale_for(unit, value).text(value)


def _numbers(report: Report, ran: list[Run], lang: str) -> str:
    heads = "".join(
        f'<th><span class="swatch {colour(i)}"></span>{escape(run.model.name)}</th>'
        for i, run in enumerate(ran)
    )
    body = []
    for row in number_rows(report, ran):
        cells = []
        for summary in row.cells:
            if summary is None:
                cells.append(f"<td>{say('not_measured', lang)}</td>")
                continue
            interval = ""
            if summary.ci95_low is not None and summary.ci95_high is not None and summary.n > 2:
                low, high = row.scale.number(row.floor(summary.ci95_low)), row.scale.number(summary.ci95_high)
                interval = f"<small>{low} – {high}</small>"
            cells.append(f"<td>{row.scale.spread(summary)} {row.scale.unit}{interval}</td>")
        test = f"<small>{escape(row.test)}</small>" if row.test else ""
        body.append(f"<tr><th>{capital(metric_name(row.name, lang))}{test}</th>{''.join(cells)}</tr>")
    return (
        f'<h2>{say("numbers", lang)}</h2><p class="note">{say("numbers_note", lang)}</p>'
        f'<div class="card scroll"><table class="numbers"><thead><tr><th>{say("quantity", lang)}</th>{heads}</tr>'
        f"</thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _caveats(report: Report, lang: str) -> str:
    items = []
    for caveat in report.caveats:
        fact, advice = caveat_words(caveat, lang)
        subject = f"<b>{escape(caveat.subject)}:</b> " if caveat.subject else ""
        fact = fact if subject else capital(fact)
        items.append(f"<li>{subject}{escape(fact)}<small>{escape(capital(advice))}</small></li>")
    inside = f'<ul class="caveats">{"".join(items)}</ul>' if items else f"<p>{say('trust_none', lang)}</p>"
    return f'<h2 id="trust">{say("trust", lang)}</h2>{inside}'


def _definitions(report: Report, ran: list[Run], lang: str) -> str:
    shown = {row.name for row in number_rows(report, ran)} if ran else set()
    items = "".join(
        f"<dt>{capital(metric_name(name, lang))}</dt><dd>{metric_meaning(name, lang)}</dd>"
        for name in METRICS
        if name in shown
    )
    return f'<h2>{say("definitions", lang)}</h2><dl class="defs card">{items}</dl>' if items else ""


def _again(report: Report, lang: str) -> str:
    made = say(
        "made_by", lang, version=report.edgellm_version, date=report.created[:16].replace("T", " ") + " UTC"
    )
    return (
        f'<h2>{say("again", lang)}</h2><p class="note">{say("again_note", lang)}</p>'
        f"<pre>{escape(report.command)}</pre><footer>{escape(made)}</footer>"
    )
