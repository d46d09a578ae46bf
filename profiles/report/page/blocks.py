"""What a page is made of, as data: sections hold cards, cards hold a chart or a table. Knows no markup.

The templates beside this file draw them (`templates/blocks.html.jinja`); whatever is text here is escaped there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgellm.profiles.report.figures.line import Line

#: Up to so many runs each stand by themselves; beyond, runs are grouped by family and details are folded.
FEW = 6


@dataclass(frozen=True)
class Cell:
    """A cell of a table, or its head."""

    text: str = ""
    small: str = ""  # below it
    swatch: str = ""  # class of a colour shown before it
    value: str | None = None  # what a table that can be sorted sorts by


@dataclass(frozen=True)
class Table:
    """Rows of cells; the first of each is its head."""

    css: str
    rows: Sequence[Sequence[Cell]]
    head: Sequence[Cell] = ()


@dataclass(frozen=True)
class Key:
    """A colour of a legend and what it stands for."""

    css: str
    text: str


@dataclass(frozen=True)
class Card:
    """A box. `chart` is SVG text of `plots`, whose words are escaped there."""

    title: str = ""
    chart: str = ""
    small: str = ""  # after the title
    swatch: str = ""  # before it
    legend: Sequence[Key] = ()
    table: Table | None = None
    notes: Sequence[str] = ()
    css: str = ""


@dataclass(frozen=True)
class Fold:
    """Cards that open at a click; on paper they are open."""

    title: str
    cards: Sequence[Card]
    css: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page. Its title are the words for `key`, which is its anchor too."""

    key: str
    note: str = ""
    cards: Sequence[Card] = ()
    css: str = "charts"  # kind of grid; "": one card below the other
    folds: Sequence[Fold] = ()
    paper: bool = True  # whether it is printed


def legend(shown: Sequence[Line]) -> list[Key]:
    """Colours and their models, or families where one colour stands for many models."""
    names: dict[str, str] = {}
    for line in shown:
        models = {other.run.model.name for other in shown if other.css == line.css}
        names.setdefault(line.css, line.run.model.name if len(models) == 1 else line.family)
    return [Key(css, name) for css, name in names.items()]


def heads(shown: Sequence[Line], first: str = "") -> list[Cell]:
    """The head of a table with a column for each run."""
    return [Cell(first), *(Cell(line.label, swatch=line.css) for line in shown)]
