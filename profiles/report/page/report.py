"""All of one result as the page shows it: what was found, what to doubt, charts, and the rest at a click."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from edgellm.profiles.report.figures.line import Line, lines
from edgellm.profiles.report.figures.llama_bench import params
from edgellm.profiles.report.figures.numbers import number_rows
from edgellm.profiles.report.figures.scale import capital, scale_for
from edgellm.profiles.report.findings.findings import findings
from edgellm.profiles.report.page import energy, facts, memory, numbers, quality_cost, roofline, runs, speed
from edgellm.profiles.report.page.blocks import FEW, Cell, Section
from edgellm.profiles.report.page.first import Doubt, against, doubts
from edgellm.profiles.report.words import metric_name, say, table
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


@dataclass(frozen=True)
class Tile:
    """One run at a glance. A cell without text was not measured."""

    css: str
    title: str
    chips: str
    cells: Sequence[tuple[str, Cell]]


@dataclass(frozen=True)
class View:
    """A result, in the order of the page."""

    found: Sequence[Markup]
    tiles: Sequence[Tile]
    against: Section | None
    doubts: Sequence[Doubt]
    sections: Sequence[Section]
    folded: Sequence[Section]  # open at a click
    command: str
    made: str


def view(report: Report, lang: str) -> View:
    """Everything but the title."""
    shown = lines([run for run in report.runs if run.launches], lang)
    found = findings(report, lang)
    made = f"{report.created[:16].replace('T', ' ')} UTC"
    opened, folded = _sections(report, shown, lang) if shown else ([], [])
    return View(
        found=found.sentences,
        tiles=[_tile(line, lang) for line in shown] if len(shown) <= _TILES and not found.pair else [],
        against=against(found, lang),
        doubts=doubts(report.caveats, lang),
        sections=opened,
        folded=[*folded, facts.where(report, lang)],
        command=report.command,
        made=say("made_by", lang, version=report.edgellm_version, date=made),
    )


def _sections(report: Report, shown: Sequence[Line], lang: str) -> tuple[list[Section], list[Section]]:
    """What stands open - quality against cost or else speed, memory, depth - and what is folded."""
    worth, pace = quality_cost.quality_cost(report, shown, lang), speed.speed(report, shown, lang)
    opened = [worth or pace, memory.memory(report, shown, lang), speed.depth(report, shown, lang)]
    folded = [
        runs.all_runs(report, shown, lang) if len(shown) > 1 else None,
        pace if worth else None,
        *(
            of(report, shown, lang)
            for of in (energy.energy, roofline.roofline, speed.tokens, speed.order, numbers.numbers)
        ),
    ]
    screen = [replace(section, paper=len(shown) <= FEW) for section in folded[1:] if section]
    return [section for section in opened if section], [section for section in folded[:1] if section] + screen


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
    fewest = min(len(run.launches) for run in report.runs)
    least = say("workloads", lang, launches=fewest, repetitions=work.repetitions)
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
