"""One JSON object per test and line, with llama-bench's field names."""

from __future__ import annotations

import json
from collections.abc import Mapping

from edgellm.profiles.report.figures.llama_bench import rows
from edgellm.profiles.result.result import Report

SUFFIX = ".jsonl"


def render_many(results: Mapping[str, Report], lang: str = "en") -> str:
    """The rows of all, one after the other: `cpu_info` tells the machine."""
    return "".join(render(report, lang) for report in results.values())


def render(report: Report, lang: str = "en") -> str:
    """JSON lines; the language changes nothing."""
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows(report))
