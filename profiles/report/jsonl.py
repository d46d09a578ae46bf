"""One JSON object per test and line, with llama-bench's field names."""

from __future__ import annotations

import json

from edgellm.profiles.report._rows import rows
from edgellm.profiles.result import Report

SUFFIX = ".jsonl"


def render(report: Report, lang: str = "en") -> str:
    """JSON lines; the language changes nothing."""
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows(report))
