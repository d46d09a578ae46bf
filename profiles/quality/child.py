"""How good a model is, for a report: its text figures and task scores, measured in a process of its own.

Run as `python -m edgellm.profiles.quality.child`: the request is
one JSON document on standard input, the `QualityRecord` one on standard output. A reference's probabilities are
kept in a compact file, made once and shared by all formats of a model.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgellm import files, lifeline
from edgellm.errors import EdgellmError
from edgellm.profiles.result.codec import from_plain, to_plain
from edgellm.profiles.result.quality_record import QualityRecord
from edgellm.profiles.result.settings import QualityPlan
from edgellm.version import __version__

if TYPE_CHECKING:
    from edgellm.generation.scoring import Chunk
    from edgellm.profiles.quality.quality import Quality
    from edgellm.profiles.quality.reference_logits import CompactReference
    from edgellm.profiles.quality.task_scores import Answer
    from edgellm.profiles.quality.tasks import TaskItem
    from edgellm.session import EngineOptions, Session

_N_CTX = 1024
_SMALL_BYTES = 64 << 20
_TIMEOUT_SECONDS = 3600


@dataclass(frozen=True)
class QualityRequest:
    """What to measure, and by what."""

    path: str
    reference: str | None  # a converted model, or None: no divergence
    dialogues: int
    items: int  # of each task
    axes: tuple[str, ...] = ()  # of axes_record.AXES
    text: str = "dialogues"  # of settings.TEXTS


def meters(paths: Mapping[str, str], plan: QualityPlan) -> dict[str, Callable[[str], QualityRecord]]:
    """What measures the quality of each model (name -> path) of a report."""

    def meter(name: str) -> QualityRecord:
        reference = plan.references.get(name)
        reference = reference and str(Path(reference).expanduser())
        asked = (plan.dialogues, plan.items, plan.axes, plan.text)
        return in_child(QualityRequest(paths[name], reference, *asked))

    return dict.fromkeys(paths, meter)


def in_child(request: QualityRequest) -> QualityRecord:
    """Measure in a fresh process; a record with the reason where that fails."""
    command = [sys.executable, "-m", "edgellm.profiles.quality.child"]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(to_plain(request)),
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_SECONDS,
            **lifeline.attached(),
        )
        return from_plain(QualityRecord, json.loads(done.stdout.splitlines()[-1]))
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        return QualityRecord(reason=f"the process that measured it failed ({type(error).__name__})")


def measure(request: QualityRequest) -> QualityRecord:
    """Do it here. Raises EdgellmError."""
    from edgellm import backends
    from edgellm.formats.artifact import Artifact
    from edgellm.profiles.quality import quality
    from edgellm.profiles.quality.axes import Asked
    from edgellm.session import EngineOptions

    begin = time.perf_counter()
    artifact = Artifact.open(request.path)
    # Threads of a very small model wait for one another longer than they work.
    engine = EngineOptions(n_ctx=_N_CTX, n_threads=1 if artifact.size_bytes < _SMALL_BYTES else None)
    reference = _reference(request, engine) if request.reference else None
    with backends.open_session(artifact, engine) as session:
        spoken = _text(session, request)
        chunks = reference.chunks if reference else [chunk for chunk, _ in spoken]
        against = quality.compact_reference(reference, session) if reference else None
        found = quality.evaluate(session, chunks, reference=against)
        asked = Asked(session, artifact, request.axes)
        answers = asked.answers(_items(request))
        langs = {chunk.tokens: lang for chunk, lang in spoken}
        asked.language(found, [langs.get(chunk.tokens, "") for chunk in chunks])
    asked.response(engine)
    record = _record(found, reference, answers, time.perf_counter() - begin)
    return replace(record, text=_name(request), axes=asked.axes)


def _text(session: Session, request: QualityRequest) -> list[tuple[Chunk, str]]:
    """What is scored, each chunk with its language: dialogues as the model's template writes them, or general text."""
    from edgellm.profiles.quality import dialogues, texts
    from edgellm.prompt.model_template import template_of

    if request.text == "general":
        return texts.with_languages(session)
    template = template_of(session.artifact) if session.artifact.chat_template else None

    def render(messages: Sequence[dict[str, str]]) -> str:
        assert template
        return template.render(messages, add_generation_prompt=False)

    return dialogues.with_languages(session, render if template else None, request.dialogues)


def _name(request: QualityRequest) -> str:
    from edgellm.profiles.quality import dialogues, texts

    return texts.NAME if request.text == "general" else dialogues.NAME


def _items(request: QualityRequest) -> list[TaskItem]:
    """The first of each task; of the choices, of all their tasks in turns."""
    from edgellm.profiles.quality import tasks

    if request.text == "general":
        found = tasks.choices()
        return found[: request.items * len({item.task for item in found})]
    return [item for name in tasks.names() for item in tasks.load(name)[: request.items]]


def _reference(request: QualityRequest, engine: EngineOptions) -> CompactReference:
    """The reference's file: made by evaluating it once, with this engine on this version's dialogues."""
    from edgellm import backends, digests
    from edgellm.formats.artifact import Artifact
    from edgellm.profiles.quality import quality, reference_logits

    assert request.reference
    artifact = Artifact.open(request.reference)
    tokenizer = (artifact.path / "tokenizer.json",) if artifact.format == "onnx" else ()  # not in the digest
    rules = (
        __version__,
        backends.build(artifact.format),
        artifact.chat_template or "",
        _name(request) + f" {request.dialogues}",
    )
    path = files.cache_dir("references") / f"{digests.of_all(tokenizer, artifact.sha256, *rules)[:24]}.ref"
    if not path.exists():
        with backends.open_session(artifact, engine) as session:
            chunks = [chunk for chunk, _ in _text(session, request)]
            source = quality.source_of(session, chunks, _name(request))
            with reference_logits.create(path, chunks, source, force=True) as sink:
                quality.evaluate(session, chunks, sink=sink)
    return reference_logits.CompactReference(path)


def _record(
    found: Quality, reference: CompactReference | None, answers: Sequence[Answer], seconds: float
) -> QualityRecord:
    from edgellm.profiles.quality import task_scores

    divergence = found.divergence
    closed = [each for each in answers if each.closed]
    return QualityRecord(
        n_tokens=found.n_tokens,
        perplexity=found.perplexity,
        bits_per_byte=found.bits_per_byte,
        dialogue_bits=tuple(round(bits, 4) for bits in found.chunk_bits),
        dialogue_bytes=found.chunk_bytes,
        reference=f"{reference.source.model} {reference.source.quantization}" if reference else None,
        kld_mean=divergence.kld_mean if divergence else None,
        kld_max=divergence.kld_max if divergence else None,
        same_top=divergence.same_top if divergence else None,
        tasks={score.name: score.exact for score in task_scores.scores(closed)} if closed else None,
        total=task_scores.total("all", closed).exact if closed else None,
        right="".join("01"[each.exact] for each in closed) or None,
        reason=None if reference else "no reference was named: there is no divergence",
        seconds=seconds,
    )


def main() -> None:
    """The child's whole life."""
    lifeline.follow()
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)  # libraries print
        try:
            record = measure(from_plain(QualityRequest, json.load(sys.stdin)))
        except EdgellmError as error:
            record = QualityRecord(reason=str(error))
        print(json.dumps(to_plain(record), allow_nan=False), file=out, flush=True)


if __name__ == "__main__":
    main()
