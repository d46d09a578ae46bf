"""The further axes, models side by side: a line for each figure, a column for each model; only what was asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgellm.profiles.report.words import say
from edgellm.profiles.result.axes_record import Axes, LanguageRecord
from edgellm.profiles.result.quality_stats import Estimate, Share
from edgellm.profiles.result.result import Report

#: Kinds of change -> what they are called.
_KINDS = {
    "typos": "axis_typos",
    "homophones": "axis_homophones",
    "spacing": "axis_spacing",
    "punctuation": "axis_punctuation",
    "paraphrase": "axis_paraphrase",
}
_NONE = "-"


def axes_table(report: Report, lang: str) -> list[list[str]]:
    """A head of models, then name and cells of each figure; nothing where no axis was asked for."""
    found = {name: record.axes for name, record in (report.quality or {}).items() if record.axes is not None}
    rows: list[list[str]] = []

    def add(name: str, of: Callable[[Axes], str | None]) -> None:
        cells = [of(axes) or _NONE for axes in found.values()]
        if any(cell != _NONE for cell in cells):
            rows.append([name, *cells])

    spoken = sorted({key for axes in found.values() for key in axes.language or {}})
    for key in spoken:
        add(say("axis_bits", lang, language=key), lambda a: _estimate(_of(a, key).bits_per_byte))  # noqa: B023
        add(say("axis_right", lang, language=key), lambda a: _share(_of(a, key).right))  # noqa: B023
    add(say("axis_gap", lang), _gap)
    for kind, word in _KINDS.items():
        add(say(word, lang), lambda a: _share(a.robustness[kind].kept) if _has(a.robustness, kind) else None)  # noqa: B023
    n_prompt = max((axes.response.n_prompt for axes in found.values() if axes.response), default=0)
    n_clients = max((axes.response.n_clients for axes in found.values() if axes.response), default=0)
    add(say("axis_ttft", lang, n=n_prompt), lambda a: _ms(a.response and a.response.ttft_seconds))
    add(say("axis_pause", lang), lambda a: _ms(a.response and a.response.gap_p95_seconds))
    add(
        say("axis_loaded_ttft", lang, n=n_clients),
        lambda a: _ms(a.response and a.response.loaded_ttft_seconds),
    )
    add(
        say("axis_loaded_pause", lang, n=n_clients),
        lambda a: _ms(a.response and a.response.loaded_gap_p95_seconds),
    )
    add(say("axis_joules", lang), lambda a: _joules(a, lang))
    return [["", *found], *rows] if rows else []


def _of(axes: Axes, language: str) -> LanguageRecord:
    return (axes.language or {}).get(language) or LanguageRecord()


def _has(records: Mapping[str, object] | None, kind: str) -> bool:
    return records is not None and kind in records


def _estimate(found: Estimate | None) -> str | None:
    return None if found is None else f"{found.value:.3f}"


def _share(found: Share | None) -> str | None:
    return f"{found.value:.1%} ({found.k}/{found.n})" if found and found.n else None


def _gap(axes: Axes) -> str | None:
    """Bits per byte of Chinese over those of English."""
    zh, en = (_of(axes, language).bits_per_byte for language in ("zh", "en"))
    return f"{zh.value / en.value:.2f}" if zh and en and en.value else None


def _ms(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds * 1e3:.4g} ms"


def _joules(axes: Axes, lang: str) -> str | None:
    if axes.energy and axes.energy.joules_per_right is not None:
        return f"{axes.energy.joules_per_right:.3g} J ({axes.energy.meter})"
    return say("not_measured", lang) if "energy" in (axes.reasons or {}) else None
