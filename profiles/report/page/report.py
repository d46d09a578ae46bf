"""All of one result as the page shows it: what was found, charts, all numbers, what to doubt, where and how."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from edgellm.profiles.report.figures.line import Line, lines
from edgellm.profiles.report.figures.llama_bench import params
from edgellm.profiles.report.figures.numbers import number_rows
from edgellm.profiles.report.figures.scale import capital, scale_for
from edgellm.profiles.report.findings.findings import findings
from edgellm.profiles.report.page import energy, facts, memory, numbers, quality_cost, roofline, runs, speed
from edgellm.profiles.report.page.blocks import Cell, Section
from edgellm.profiles.report.words import caveat_words, metric_name, say, table
from edgellm.profiles.result.caveats import Caveat
from edgellm.profiles.result.derive import METRICS
from edgellm.profiles.result.result import Report, Run

#: More models than this are counted in the title, not named.
_NAMED = 3
#: More runs than this have no tile each.
_TILES = 4
#: What a tile shows: a measurement, and one in small below it.
_AT_A_GLANCE = (
    ("prefill_tokens_per_second", "prefill_bytes_per_second"),
    ("decode_tokens_per_second", "decode_bytes_per_second"),
    ("ttft_seconds", ""),
    ("peak_bytes", ""),
    ("decode_joules_per_token", "decode_joules_per_byte"),
)
#: Terms of a page that shows quality.
_QUALITY = ("bits_per_byte", "kld_mean", "same_top", "tasks_right", "best_value")
#: Remarks of one kind that stand by themselves; more are folded into one.
_ALIKE = 3

#: The page's charts, after the table of all runs. None: there is nothing to show.
CHARTS: tuple[Callable[[Report, Sequence[Line], str], Section | None], ...] = (
    speed.speed,
    speed.depth,
    memory.memory,
    energy.energy,
    roofline.roofline,
)


@dataclass(frozen=True)
class Tile:
    """One run at a glance. A cell without text was not measured."""

    css: str
    title: str
    chips: str
    cells: Sequence[tuple[str, Cell]]


@dataclass(frozen=True)
class Remark:
    """Something to know before trusting a figure."""

    subject: str
    fact: str
    advice: str
    more: Sequence[Remark] = ()  # of the same kind, folded


@dataclass(frozen=True)
class View:
    """A result, in the order of the page."""

    found: Sequence[Markup]
    jump: str  # words of the link to the remarks; "" without any
    tiles: Sequence[Tile]
    sections: Sequence[Section]
    beside: Sequence[Section]
    numbers: Section | None
    remarks: Sequence[Remark]
    where: Section
    command: str
    made: str


def view(report: Report, lang: str) -> View:
    """Everything but the title."""
    shown = lines([run for run in report.runs if run.launches], lang)
    remarks, n = _remarks(report.caveats, lang), len(report.caveats)
    made = f"{report.created[:16].replace('T', ' ')} UTC"
    return View(
        found=findings(report, lang),
        jump=say("one_caveat" if n == 1 else "n_caveats", lang, n=n) if n else "",
        tiles=[_tile(line, lang) for line in shown] if len(shown) <= _TILES else [],
        sections=_sections(report, shown, lang) if shown else [],
        beside=_present(order(report, shown, lang) for order in (speed.tokens, speed.order)),
        numbers=numbers.numbers(report, shown, lang) if shown else None,
        remarks=remarks,
        where=facts.where(report, lang),
        command=report.command,
        made=say("made_by", lang, version=report.edgellm_version, date=made),
    )


def _sections(report: Report, shown: Sequence[Line], lang: str) -> list[Section]:
    wide = len(shown) > _TILES or report.quality
    first = (
        quality_cost.quality_cost(report, shown, lang),
        runs.all_runs(report, shown, lang) if wide else None,
    )
    return _present([*first, *(chart(report, shown, lang) for chart in CHARTS)])


def _present(sections: Iterable[Section | None]) -> list[Section]:
    return [section for section in sections if section]


def title(report: Report, lang: str) -> str:
    """The models' names, or how many there are."""
    names = list(dict.fromkeys(run.model.name for run in report.runs))
    if len(names) == 1:
        return names[0]
    if len(names) > _NAMED:
        return say("title_study", lang, models=len(names), runs=len(report.runs))
    return say("versus", lang, a=", ".join(names[:-1]), b=names[-1])


def workload(report: Report, lang: str) -> str:
    """What was run, in a line; several workloads by their labels."""
    works = list(dict.fromkeys(run.workload for run in report.runs))
    work = works[0]
    if len(works) == 1:
        names = ("n_prompt", "n_gen", "repetitions", "launches")
        return say("workload", lang, **{name: getattr(work, name) for name in names})
    labels = dict.fromkeys(label for each in works for label in (each.label_prefill, each.label_decode))
    least = say("workloads", lang, launches=work.launches, repetitions=work.repetitions)
    return f"{', '.join(labels)} · {least}"


def glossary(reports: Sequence[Report], lang: str, more: Iterable[str] = ()) -> list[tuple[str, str]]:
    """What the measurements that were shown, and the other words that a reader may not know, mean."""
    shown = set(more)
    for report in reports:
        ran = [run for run in report.runs if run.launches]
        shown |= {row.name for row in number_rows(report, ran)} | set(_QUALITY if report.quality else ())
        shown |= {
            name for name in ("decode_bandwidth_share",) for run in ran if run.measurement(name).samples
        }
    terms = table(lang)["terms"].items()
    return [(capital(own["name"]), own["meaning"]) for name, own in terms if name in shown]


def _tile(line: Line, lang: str) -> Tile:
    model = line.run.model
    chips = [
        model.architecture,
        model.quantization,
        say("params", lang, n=params(model.n_params)) if model.n_params else None,
        scale_for("B", model.size_bytes).text(model.size_bytes),
    ]
    return Tile(
        line.css,
        line.label,
        " · ".join(chip for chip in chips if chip),
        [
            (capital(metric_name(name, lang)), Cell(_median(line.run, name), _median(line.run, below)))
            for name, below in _AT_A_GLANCE
        ],
    )


def _median(run: Run, name: str) -> str:
    summary = run.summary(name) if name else None
    return scale_for(METRICS[name].unit, summary.median).text(summary.median) if summary else ""


def _remarks(caveats: Sequence[Caveat], lang: str) -> list[Remark]:
    groups: dict[str, list[Remark]] = {}
    for caveat in caveats:
        fact, advice = caveat_words(caveat, lang)
        named = caveat.subject or "names" in caveat.values  # a model's name keeps its first letter
        words = fact if named else capital(fact)
        groups.setdefault(caveat.code, []).append(Remark(caveat.subject, words, capital(advice)))
    found: list[Remark] = []
    for alike in groups.values():
        first = alike[0]
        folded = [Remark(first.subject, first.fact, first.advice, alike[1:])]
        found += alike if len(alike) <= _ALIKE else folded
    return found
