"""The whole report as JSON, raw samples included: the format that everything else can be made from."""

from __future__ import annotations

from edgellm.profiles.result.result import Report, to_json

SUFFIX = ".json"


def render(report: Report, lang: str = "en") -> str:
    """Indented JSON; the language changes nothing."""
    return to_json(report)
