"""The result of `edgellm eval`, and its two renderings. Measures nothing."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from edgellm.profiles.quality.quality import Divergence, Quality
from edgellm.profiles.quality.task_scores import Answer, TaskScore, languages, scores, total
from edgellm.profiles.result.codec import to_plain
from edgellm.profiles.result.quality_stats import Estimate, Share
from edgellm.terminal import aligned, visible
from edgellm.units import count

#: Changed whenever a field changes its meaning or goes.
SCHEMA = "edgellm.eval/1"


@dataclass(frozen=True)
class Subject:
    """What was evaluated, with what."""

    name: str
    quantization: str
    format: str
    size_bytes: int
    sha256: str
    backend: str
    engine: str  # version of the engine's library


@dataclass(frozen=True)
class TextResult:
    """Figures on a text."""

    text: str  # its name
    reference: str | None  # what the divergence is from
    quality: Quality


@dataclass(frozen=True)
class Evaluation:
    """One run of `edgellm eval`. Either part may be missing."""

    subject: Subject
    text: TextResult | None
    answers: tuple[Answer, ...]


def to_json(evaluation: Evaluation) -> str:
    """All figures and, for tasks, every miss."""
    plain: dict[str, Any] = {"schema": SCHEMA, "model": asdict(evaluation.subject)}
    plain["text"] = None if evaluation.text is None else to_plain(evaluation.text)
    plain["tasks"] = _plain_tasks(evaluation.answers) if evaluation.answers else None
    return json.dumps(plain, ensure_ascii=False, indent=1, allow_nan=False)


def to_table(evaluation: Evaluation) -> str:
    """What a terminal shows."""
    subject = evaluation.subject
    engine = f"{subject.backend} ({subject.engine})"
    lines = [f"{subject.name} {subject.quantization}, {subject.size_bytes / 1e6:.1f} MB, {engine}"]
    if evaluation.text:
        lines += ["", *_text_lines(evaluation.text)]
    if evaluation.answers:
        lines += ["", *task_lines(evaluation.answers)]
    return "\n".join(map(visible, lines))


def harness_json(subject: Subject, found: dict[str, Any]) -> str:
    """The harness's results as it gives them, beside the model."""
    plain = {"schema": SCHEMA, "model": asdict(subject), "text": None, "tasks": None, "harness": found}
    return json.dumps(to_plain(plain), ensure_ascii=False, indent=1, allow_nan=False)


def harness_table(subject: Subject, found: dict[str, Any]) -> str:
    """A line for each figure that the harness gives."""
    rows = []
    for task, figures in found["results"].items():
        for name, value in figures.items():
            metric, _, filter_ = name.partition(",")
            if not filter_ or metric.endswith("_stderr") or not isinstance(value, float):
                continue
            error = figures.get(f"{metric}_stderr,{filter_}")
            n = found["n-samples"].get(task, {}).get("effective", "")
            told = f"{value:.4f}" + (f" ± {error:.4f}" if isinstance(error, float) else "")
            rows.append((task, str(n), metric if filter_ == "none" else f"{metric} ({filter_})", told))
    head = f"{subject.name} {subject.quantization}, {subject.backend} ({subject.engine}); ± is the standard error"
    return "\n".join([visible(head), "", *aligned([("task", "questions", "figure", ""), *rows])])


def task_lines(answers: tuple[Answer, ...]) -> list[str]:
    """The accuracy table: each task, then the closed tasks together, then the open ones."""
    lines = [
        "greedy decoding, exact match, 95% intervals (Wilson)",
        "",
        "| task | items | exact match | 95% interval | stopped by itself |",
        "|---|---:|---:|---:|---:|",
    ]
    return lines + [_task_row(score) for score in [*scores(answers), *totals(answers)]]


def totals(answers: tuple[Answer, ...]) -> list[TaskScore]:
    """Closed items together, then each language of theirs where there are several, then open ones."""
    closed = [each for each in answers if each.closed]
    groups = {"closed tasks": closed}
    if len(spoken := languages(closed)) > 1:
        groups |= {f"closed tasks, {lang}": group for lang, group in spoken.items()}
    groups["open tasks"] = [each for each in answers if not each.closed]
    return [total(name, group) for name, group in groups.items() if group]


def _task_row(score: TaskScore) -> str:
    exact = f"{score.exact.value:.1%} | {_interval(score.exact)}" if score.exact.n else "- | -"
    return f"| {score.name} | {score.stopped.n} | {exact} | {score.stopped.value:.1%} |"


def _interval(share: Share) -> str:
    low, high = share.interval
    return f"{low:.1%} to {high:.1%}"


def _text_lines(result: TextResult) -> list[str]:
    quality = result.quality
    rows = [
        ("text", f"{result.text}: {count(quality.n_chunks, 'chunk')}, {quality.n_tokens:,} tokens scored"),
        ("PPL", show(quality.perplexity, 4)),
        ("bits per byte", "-" if quality.bits_per_byte is None else show(quality.bits_per_byte, 4)),
    ]
    if quality.divergence:
        rows += [("reference", str(result.reference)), *_divergence_rows(quality.divergence)]
    return aligned(rows)


def _divergence_rows(found: Divergence) -> list[tuple[str, str]]:
    return [
        ("PPL of reference", show(found.perplexity, 4)),
        ("PPL ratio", show(found.perplexity_ratio, 5)),
        ("Mean KLD", show(found.kld_mean, 6)),
        ("Median KLD", show(found.kld_median, 6)),
        ("99% KLD", show(found.kld_99, 6)),
        ("99.9% KLD", show(found.kld_999, 6)),
        ("Maximum KLD", show(Estimate(found.kld_max, found.kld_max_error), 6)),
        ("Same top p", f"{show(found.same_top.scaled(100), 3)} %"),
        ("Mean Δp", f"{show(found.delta_p_mean.scaled(100), 3)} %"),
        ("RMS Δp", f"{show(found.delta_p_rms.scaled(100), 3)} %"),
    ]


def show(estimate: Estimate, digits: int) -> str:
    """`value ± standard error`."""
    if estimate.error is None:
        return f"{estimate.value:.{digits}f}"
    return f"{estimate.value:.{digits}f} ± {estimate.error:.{digits}f}"


def _plain_tasks(answers: tuple[Answer, ...]) -> dict[str, Any]:
    return {
        "scores": [_plain_score(score) for score in scores(answers)],
        "totals": [_plain_score(score) for score in totals(answers)],
        "languages": {
            lang: [_plain_score(score) for score in scores(group)]
            for lang, group in languages(answers).items()
        },
        "misses": [
            {"id": each.item.id, "want": each.item.answer, "got": each.text, "stopped": each.stopped}
            for each in answers
            if each.closed and not (each.exact and each.stopped)
        ],
    }


def _plain_score(score: TaskScore) -> dict[str, Any]:
    return {"name": score.name, "exact": _plain_share(score.exact), "stopped": _plain_share(score.stopped)}


def _plain_share(share: Share) -> dict[str, Any]:
    low, high = share.interval
    return {"k": share.k, "n": share.n, "value": share.value if share.n else None, "low": low, "high": high}
