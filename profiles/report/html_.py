"""One self-contained page: what was found, the charts, all numbers, what to doubt, where and how.

No network, no font of its own, and one small script that sorts a table and that nothing depends on.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgellm.profiles.report.figures.machines import METRICS, places, shared
from edgellm.profiles.report.findings.machines import sentences
from edgellm.profiles.report.page import machines
from edgellm.profiles.report.page.document import render as page
from edgellm.profiles.report.page.report import glossary, title, view, workload
from edgellm.profiles.report.words import say
from edgellm.profiles.result.result import Report

SUFFIX = ".html"


def render(report: Report, lang: str = "en") -> str:
    """The page as one string of HTML."""
    return page(
        "report.html.jinja",
        lang,
        title=title(report, lang),
        date=report.created[:10],
        complete=report.complete,
        machine=report.machine.cpu_model or say("unknown", lang),
        workload=workload(report, lang),
        view=view(report, lang),
        words=glossary([report], lang),
    )


def render_many(results: Mapping[str, Report], lang: str = "en") -> str:
    """Results of several machines on one page: machine against machine, then each in full behind a click."""
    where = places(results, lang)
    models = shared(where)
    return page(
        "machines.html.jinja",
        lang,
        title=say("join_title", lang, n=len(where), models=len(models)),
        sentences=sentences(where, models, lang),
        groups=machines.groups(where, models, lang),
        places=[(place.name, view(place.report, lang)) for place in where],
        words=glossary([place.report for place in where], lang, METRICS),
    )
