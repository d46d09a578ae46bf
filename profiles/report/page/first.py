"""The page's first screen: one run against another in a table, and what to doubt in a line for each kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from edgellm.profiles.report.findings.findings import Found
from edgellm.profiles.report.findings.versus import Aspect, names
from edgellm.profiles.report.page.blocks import Card, Cell, Section, Table
from edgellm.profiles.report.words import caveat_words, doubt_name, say
from edgellm.profiles.result.caveats import Caveat, kind_of


@dataclass(frozen=True)
class Remark:
    """Something to know before trusting a figure."""

    subject: str
    fact: str
    advice: str


@dataclass(frozen=True)
class Doubt:
    """All remarks of a kind: what they are is told in a line, and each opens at a click."""

    title: str
    told: str  # the only remark, or how many there are of which
    remarks: Sequence[Remark]


def against(found: Found, lang: str) -> Section | None:
    """The table; None where no two runs can be held against each other."""
    if found.pair is None:
        return None
    heads = [
        Cell(name, line.label.removeprefix(name).removeprefix("-").removeprefix(" · "), line.css)
        for name, line in zip(names(found.pair), found.pair, strict=True)
    ]
    rows = [_row(aspect, [line.css for line in found.pair]) for aspect in found.aspects]
    table = Table("numbers against", rows, [Cell(), *heads, Cell(say("verdict", lang))])
    return Section("against", say("against_note", lang), [Card(css="scroll", table=table)], "")


def _row(aspect: Aspect, colours: Sequence[str]) -> list[Cell]:
    cells = [Cell(figure, small) if figure else Cell("–") for figure, small in aspect.figures]
    colour = "" if aspect.winner is None else colours[aspect.winner]
    return [Cell(aspect.title), *cells, Cell(aspect.verdict or "–", swatch=colour)]


def doubts(caveats: Sequence[Caveat], lang: str) -> list[Doubt]:
    """At most a line for each kind: the machine, the figures, the runs."""
    titles = {
        "machine": say("doubt_machine", lang),
        "figures": say("doubt_figures", lang),
        "runs": say("doubt_runs", lang),
    }
    groups: dict[str, list[Caveat]] = {}
    for caveat in caveats:
        groups.setdefault(kind_of(caveat.code), []).append(caveat)
    return [_doubt(title, groups[kind], lang) for kind, title in titles.items() if kind in groups]


def _doubt(title: str, own: Sequence[Caveat], lang: str) -> Doubt:
    remarks = [Remark(caveat.subject, *caveat_words(caveat, lang)) for caveat in own]
    counts = Counter(caveat.code for caveat in own)
    told = say("list", lang).join(
        doubt_name(code, lang) + (f" ({n})" if n > 1 else "") for code, n in counts.most_common()
    )
    return Doubt(title, remarks[0].fact if len(own) == 1 and not own[0].subject else told, remarks)
