"""One self-contained page: what was found, the charts, all numbers, what to doubt, where and how.

No network, no font of its own, and one small script that sorts a table and that nothing depends on; everything
that came from a file or a machine is escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape

from edgellm.profiles.report.page import energy, facts, joined, memory, quality, roofline, runs, speed
from edgellm.profiles.report.page.cards import FEW, fold
from edgellm.profiles.report.page.findings import findings
from edgellm.profiles.report.page.format import capital, scale_for
from edgellm.profiles.report.page.numbers import number_rows
from edgellm.profiles.report.page.rows import params
from edgellm.profiles.report.page.style import CSS
from edgellm.profiles.report.page.view import Line, lines
from edgellm.profiles.report.words.english import METRICS, caveat_words, metric_meaning, metric_name, say
from edgellm.profiles.result.caveats import Caveat
from edgellm.profiles.result.result import Report, Run

SUFFIX = ".html"

#: More models than this are counted in the title, not named.
_NAMED = 3
#: More runs than this have no tile each.
_TILES = 4
#: Runs side by side in one table of numbers.
_COLUMNS = 6
#: Remarks of one kind that stand by themselves; more are folded into one.
_ALIKE = 3

#: A part of the page: of the report and its runs as lines, those that ran.
Section = Callable[[Report, Sequence[Line], str], str]
SECTIONS: tuple[Section, ...] = (
    quality.quality_cost,
    speed.speed,
    speed.depth,
    memory.memory,
    energy.energy,
    roofline.roofline,
    speed.tokens,
)


def render(report: Report, lang: str = "en") -> str:
    """The page as one string of HTML."""
    title = _title(report, lang)
    body = [_header(report, title, lang), found(report, lang), *parts(report, lang), _again(report, lang)]
    return page(title, body, lang)


def render_many(results: Mapping[str, Report], lang: str = "en") -> str:
    """Results of several machines on one page: machine against machine, then each in full behind a click."""
    where = joined.places(results, lang)
    models = joined.shared(where)
    title = say("join_title", lang, n=len(where), models=len(models))
    items = "".join(f"<li>{sentence}</li>" for sentence in joined.sentences(where, models, lang))
    body = [
        f'<header><p class="brand">edgellm report</p><h1>{escape(title)}</h1></header>',
        f'<section class="card findings"><h2>{say("found", lang)}</h2><ul>{items}</ul></section>',
        joined.charts(where, models, lang),
        f"<h2>{say('join_each', lang)}</h2>",
    ]
    for index, place in enumerate(where):
        inside = "".join([found(place.report, lang), *parts(place.report, lang), _again(place.report, lang)])
        for mark in ('id="', 'href="#'):  # what is unique on one page is not on several
            inside = inside.replace(mark, f"{mark}p{index}-")
        body.append(fold(place.name, inside))
    return page(title, body, lang)


def page(title: str, body: Sequence[str], lang: str) -> str:
    """A whole document around sections."""
    return (
        f'<!doctype html>\n<html lang="{"zh-CN" if lang == "zh" else "en"}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(section for section in body if section)
        + f"\n</main>\n<script>{runs.SCRIPT}</script>\n</body>\n</html>\n"
    )


def parts(report: Report, lang: str) -> list[str]:
    """Everything of one report between what was found and how to measure it again."""
    shown = lines([run for run in report.runs if run.launches], lang)
    if not shown:
        return [_caveats(report, lang), facts.where(report, lang)]
    first = _tiles(shown, lang) if len(shown) <= _TILES else ""
    charts = [section(report, shown, lang) for section in SECTIONS]
    table = runs.runs_table(report, shown, lang) if len(shown) > _TILES or report.quality else ""
    numbers = _numbers(report, shown, lang)
    return [
        first,
        charts[0],
        table,
        *charts[1:],
        numbers,
        _caveats(report, lang),
        facts.where(report, lang),
        _definitions(report, shown, lang),
    ]


def _title(report: Report, lang: str) -> str:
    names = list(dict.fromkeys(run.model.name for run in report.runs))
    if len(names) == 1:
        return names[0]
    if len(names) > _NAMED:
        return say("title_study", lang, models=len(names), runs=len(report.runs))
    return say("versus", lang, a=", ".join(names[:-1]), b=names[-1])


def _header(report: Report, title: str, lang: str) -> str:
    machine = report.machine
    on = say("on", lang, machine=machine.cpu_model or say("unknown", lang))
    unfinished = "" if report.complete else f" · {say('incomplete', lang)}"
    return (
        f'<header><p class="brand">edgellm profile · {escape(report.created[:10])}{unfinished}</p>'
        f"<h1>{escape(title)} <i>{escape(on)}</i></h1>"
        f'<p class="note">{_workload(report, lang)}</p></header>'
    )


def _workload(report: Report, lang: str) -> str:
    """What was run, in a line; several workloads by their labels."""
    works = list(dict.fromkeys(run.workload for run in report.runs))
    work = works[0]
    if len(works) == 1:
        names = ("n_prompt", "n_gen", "repetitions", "launches")
        return say("workload", lang, **{name: getattr(work, name) for name in names})
    labels = dict.fromkeys(label for each in works for label in (each.label_prefill, each.label_decode))
    least = say("workloads", lang, launches=work.launches, repetitions=work.repetitions)
    return f"{escape(', '.join(labels))} · {least}"


def found(report: Report, lang: str) -> str:
    """What was found, in a box of its own, with the way to what to doubt."""
    items = "".join(f"<li>{sentence}</li>" for sentence in findings(report, lang))
    n = len(report.caveats)
    words = say("one_caveat", lang) if n == 1 else say("n_caveats", lang, n=n)
    jump = f'<a class="jump" href="#trust">⚠ {words}</a>' if n else ""
    return f'<section class="card findings"><h2>{say("found", lang)}</h2><ul>{items}</ul>{jump}</section>'


def _tiles(shown: Sequence[Line], lang: str) -> str:
    return f'<section class="grid tiles">{"".join(_tile(line, lang) for line in shown)}</section>'


def _tile(line: Line, lang: str) -> str:
    run, model = line.run, line.run.model
    chips = [
        model.architecture,
        model.quantization,
        say("params", lang, n=params(model.n_params)) if model.n_params else None,
        _value("B", model.size_bytes),
    ]
    rate, byte_rate = (
        _mean(run, name, unit)
        for name, unit in (("decode_tokens_per_second", "tok/s"), ("decode_bytes_per_second", "B/s"))
    )
    joules, byte_joules = (
        _mean(run, name, unit)
        for name, unit in (("decode_joules_per_token", "J/tok"), ("decode_joules_per_byte", "J/B"))
    )
    cells = [
        ("t_writes", rate, byte_rate),
        ("t_first", _mean(run, "ttft_seconds", "s"), None),
        ("t_peak", _mean(run, "peak_bytes", "B"), None),
        ("t_energy", joules, byte_joules),
    ]
    rows = "".join(_cell(say(key, lang), value, more, lang) for key, value, more in cells)
    return (
        f'<article class="card tile {line.css}"><h3>{escape(line.label)}</h3>'
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


def _numbers(report: Report, shown: Sequence[Line], lang: str) -> str:
    chunks = [shown[i : i + _COLUMNS] for i in range(0, len(shown), _COLUMNS)]
    tables = "".join(_number_table(report, chunk, lang) for chunk in chunks)
    if len(shown) > FEW:
        tables = fold(say("details", lang), tables)
    note = say("numbers_note", lang)
    return f'<h2>{say("numbers", lang)}</h2><p class="note">{note}</p>{tables}'


def _number_table(report: Report, shown: Sequence[Line], lang: str) -> str:
    heads = "".join(f'<th><span class="swatch {line.css}"></span>{escape(line.label)}</th>' for line in shown)
    body = []
    for row in number_rows(report, [line.run for line in shown]):
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
        f'<div class="card scroll"><table class="numbers"><thead><tr><th>{say("quantity", lang)}</th>{heads}</tr>'
        f"</thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _caveats(report: Report, lang: str) -> str:
    groups: dict[str, list[Caveat]] = {}
    for caveat in report.caveats:
        groups.setdefault(caveat.code, []).append(caveat)
    items = []
    for alike in groups.values():
        singles = [_caveat(caveat, lang) for caveat in alike]
        items.append("".join(singles) if len(alike) <= _ALIKE else _folded(alike, singles, lang))
    inside = f'<ul class="caveats">{"".join(items)}</ul>' if items else f"<p>{say('trust_none', lang)}</p>"
    return f'<h2 id="trust">{say("trust", lang)}</h2>{inside}'


def _caveat(caveat: Caveat, lang: str) -> str:
    fact, advice = caveat_words(caveat, lang)
    subject = f"<b>{escape(caveat.subject)}:</b> " if caveat.subject else ""
    fact = fact if subject else capital(fact)
    return f"<li>{subject}{escape(fact)}<small>{escape(capital(advice))}</small></li>"


def _folded(alike: Sequence[Caveat], singles: Sequence[str], lang: str) -> str:
    """Many of one kind: the first in full, the others behind a click."""
    more = fold(say("n_alike", lang, n=len(alike) - 1), f'<ul class="caveats">{"".join(singles[1:])}</ul>')
    return singles[0].replace("</li>", f"{more}</li>")


def _definitions(report: Report, lines_: Sequence[Line], lang: str) -> str:
    shown = {row.name for row in number_rows(report, [line.run for line in lines_])}
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
