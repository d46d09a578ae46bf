"""A comparison in each of its formats."""

from __future__ import annotations

from collections.abc import Sequence

from edgellm.profiles.compare.comparison import Comparison, label
from edgellm.profiles.report.comparison.json_ import to_json
from edgellm.profiles.report.comparison.rows import notes, table
from edgellm.profiles.report.figures.doubts import FEW, doubts
from edgellm.profiles.report.figures.text_table import aligned, escape, markdown
from edgellm.profiles.result.result import Report


def render(format_: str, comparisons: Sequence[Comparison], report: Report | None, lang: str) -> str:
    """ "table", "json", "md" or "html", in which all of the report follows where there is only one."""
    if format_ == "json":
        return to_json(comparisons)
    if format_ == "html":
        from edgellm.profiles.report.comparison.page import to_html  # Jinja, for pages only

        return to_html(comparisons, report, lang)
    if format_ == "md":
        told = [escape(f"- {line}") for line in _doubts(report, lang)]
        return (
            "\n\n".join([*(_markdown(each, lang) for each in comparisons), *(["\n".join(told)] * bool(told))])
            + "\n"
        )
    return "\n".join(_text(each, lang) for each in comparisons) + "".join(
        f"! {line}\n" for line in _doubts(report, lang)
    )


def _doubts(report: Report | None, lang: str) -> list[str]:
    return doubts(report, lang, FEW) if report else []


def _text(comparison: Comparison, lang: str) -> str:
    cells = table(comparison, lang)
    return f"{_work(comparison)}\n{aligned(cells, left=(0, len(cells[0]) - 1))}\n{_notes(comparison, lang)}\n"


def _markdown(comparison: Comparison, lang: str) -> str:
    cells = table(comparison, lang)
    lines = markdown(cells, left=(0, len(cells[0]) - 1))
    return f"{_work(comparison)}\n\n{lines}\n\n{_notes(comparison, lang)}"


def _work(comparison: Comparison) -> str:
    return label(comparison.candidates[0].run)


def _notes(comparison: Comparison, lang: str) -> str:
    return "\n".join(f"- {note}" for note in notes(comparison, lang))
