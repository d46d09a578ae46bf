"""`edgellm eval`: how good a model is, on a text, against a reference, on the task suite."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgellm.cli.shared.lines import text_file_option
from edgellm.cli.shared.model_argument import hub_option
from edgellm.cli.shared.sampling import device_options
from edgellm.errors import UsageError
from edgellm.terminal import Progress, emit

if TYPE_CHECKING:
    from edgellm.formats.artifact import Artifact
    from edgellm.generation.scoring import Chunk
    from edgellm.profiles.quality.evaluation import Subject, TextResult
    from edgellm.profiles.quality.quality import Reference
    from edgellm.profiles.quality.reference_logits import CompactReference
    from edgellm.profiles.quality.task_scores import Answer
    from edgellm.profiles.quality.tasks import TaskItem
    from edgellm.session import EngineOptions, Session

_HARNESS_CTX = 2048  # tokens, at least: questions with examples are long
_COUNT = click.IntRange(min=1)


@dataclass(frozen=True)
class _Text:
    """What to evaluate on, and against what."""

    file: Path | None
    reference: str | None
    save_reference: Path | None
    n_ctx: int
    n_chunks: int | None
    force: bool


@dataclass(frozen=True)
class _Standard:
    """Which standard tasks, and how."""

    names: tuple[str, ...]
    data: Path | None
    include: Path | None
    limit: int | None
    few_shot: int | None
    chat: bool


@click.command(short_help="Measure quality: perplexity, divergence from a reference, tasks.")
@click.argument("model")
@click.option("--ref", "reference", metavar="REF", help="Model, or file made by --save-ref, to compare with.")
@click.option(
    "--save-ref",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Keep MODEL's probabilities for --ref.",
)
@text_file_option("evaluate on", "held-out dialogues")
@click.option(
    "--tasks",
    "task_names",
    is_flag=False,
    flag_value="all",
    metavar="[NAME,...]",
    help="Answer the task suite, some of its tasks, or those of a .jsonl file.",
)
@click.option(
    "--harness",
    metavar="NAME,...",
    help="Standard tasks of EleutherAI's lm-evaluation-harness (pip install 'edgellm[eval]').",
)
@click.option(
    "--harness-data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Their data sets, by name: FOLDER/allenai/ai2_arc.  [default: Hugging Face's cache]",
)
@click.option(
    "--harness-tasks",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Further task files for the harness.",
)
@click.option("--limit", type=_COUNT, metavar="N", help="The first N questions of each standard task.")
@click.option(
    "--few-shot", type=click.IntRange(min=0), metavar="N", help="Examples before each, not the task's."
)
@click.option("--chat-template", "chat", is_flag=True, help="Standard tasks in the model's chat template.")
@click.option("--max-tokens", type=_COUNT, default=64, help="Longest answer to a task.  [64]")
@click.option(
    "-c", "--ctx-size", "n_ctx", type=click.IntRange(min=32), default=512, help="Tokens of a chunk.  [512]"
)
@click.option(
    "--chunks", "n_chunks", type=_COUNT, help="Chunks, or dialogues, to run.  [default: all, or 224]"
)
@click.option("-t", "--threads", "n_threads", type=_COUNT, help="Threads.  [default: physical cores]")
@hub_option
@device_options
@click.option(
    "-o",
    "--output",
    type=click.Choice(("table", "json")),
    default="table",
    show_default=True,
    help="Form of the result.",
)
@click.option("--force", is_flag=True, help="Let --save-ref replace a file that is there.")
def command(
    model: str,
    reference: str | None,
    save_ref: Path | None,
    text_file: Path | None,
    task_names: str | None,
    harness: str | None,
    harness_data: Path | None,
    harness_tasks: Path | None,
    limit: int | None,
    few_shot: int | None,
    chat: bool,
    max_tokens: int,
    n_ctx: int,
    n_chunks: int | None,
    n_threads: int | None,
    n_gpu_layers: int | None,
    device: str,
    output: str,
    force: bool,
) -> None:
    """Evaluate MODEL: a file, a bundled name, a folder or a hub id. Tasks are decoded greedily.

    \b
      edgellm eval tiny-qwen3 --tasks
      edgellm eval model-Q4_K_M.gguf --ref model-F16.gguf
      edgellm eval model-F16.gguf -f wiki.txt --save-ref wiki.ref
      edgellm eval model-Q4_K_M.gguf --ref wiki.ref
      edgellm eval model-Q4_K_M.gguf --harness arc_easy,hellaswag --harness-data datasets --limit 200
    """
    from dataclasses import replace

    from edgellm import files
    from edgellm.cli.shared import model_argument
    from edgellm.profiles.quality import evaluation, task_scores
    from edgellm.session import EngineOptions

    text = _Text(text_file, reference, save_ref, n_ctx, n_chunks, force)
    if save_ref:
        files.check_output(save_ref, force=force)
    if harness and (text_file or reference or save_ref or task_names):
        raise UsageError("--harness runs alone; leave --ref, --save-ref, -f and --tasks to another call")
    items = task_scores.load(task_names) if task_names else []
    artifact = model_argument.resolve(model)
    engine = EngineOptions(n_threads=n_threads, n_gpu_layers=n_gpu_layers, device=device)
    if harness:
        asked = _Standard(tuple(harness.split(",")), harness_data, harness_tasks, limit, few_shot, chat)
        subject, found = _on_harness(artifact, replace(engine, n_ctx=max(n_ctx, _HARNESS_CTX)), asked)
        return emit(
            evaluation.harness_json(subject, found)
            if output == "json"
            else evaluation.harness_table(subject, found)
        )
    subject: Subject | None = None
    on_text: TextResult | None = None
    answers: list[Answer] = []
    if text_file or reference or save_ref or not items:
        subject, on_text = _on_text(artifact, engine, text)
    if items:
        subject, answers = _on_tasks(artifact, engine, items, max_tokens)
    if subject:
        result = evaluation.Evaluation(subject, on_text, tuple(answers))
        emit(evaluation.to_json(result) if output == "json" else evaluation.to_table(result))
    return None


def _on_harness(
    artifact: Artifact, engine: EngineOptions, asked: _Standard
) -> tuple[Subject, dict[str, Any]]:
    from edgellm.cli.shared import open_model
    from edgellm.profiles.quality import harness

    template = open_model.template(artifact) if asked.chat else None
    render = (lambda messages: template.render(messages, enable_thinking=False)) if template else None
    with open_model.session(artifact, engine) as session:
        found = harness.evaluate(
            session,
            asked.names,
            data=asked.data,
            include=asked.include,
            limit=asked.limit,
            few_shot=asked.few_shot,
            render=render,
        )
        return _subject(session), found


def _on_text(artifact: Artifact, engine: EngineOptions, text: _Text) -> tuple[Subject, TextResult]:
    from dataclasses import replace

    from edgellm.cli.shared import open_model
    from edgellm.profiles.quality import quality, reference_logits
    from edgellm.profiles.quality.evaluation import TextResult

    compact = _compact(text)
    longest = max(len(chunk.tokens) for chunk in compact.chunks) if compact else text.n_ctx
    engine = replace(engine, n_ctx=longest)
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(open_model.session(artifact, engine))
        chunks, name = _chunks(session, text, compact)
        against: Reference | None = None
        label: str | None = None
        if compact:
            against = quality.compact_reference(compact, session)
            label = f"{compact.source.model} {compact.source.quantization} ({compact.path.name})"
        elif text.reference:
            other = stack.enter_context(_open_reference(text.reference, engine))
            against = quality.live_reference(other, session, chunks)
            label = f"{other.artifact.name} {other.artifact.quantization}"
        sink = None
        if text.save_reference:
            source = quality.source_of(session, chunks, name)
            made = reference_logits.create(text.save_reference, chunks, source, force=text.force)
            sink = stack.enter_context(made)
        with _progress("evaluating", len(chunks)) as report:
            found = quality.evaluate(session, chunks, reference=against, sink=sink, report=report)
        return _subject(session), TextResult(name, label, found)


def _on_tasks(
    artifact: Artifact,
    engine: EngineOptions,
    items: list[TaskItem],
    max_tokens: int,
) -> tuple[Subject, list[Answer]]:
    from edgellm.cli.shared import open_model
    from edgellm.profiles.quality import task_scores

    template = open_model.template(artifact)
    with open_model.session(artifact, engine) as session, _progress("answering", len(items)) as report:
        answers = task_scores.answer(
            session,
            # Templates that know thinking are asked for answers only; others pass the variable over.
            lambda messages: template.render(messages, enable_thinking=False),
            items,
            max_tokens=max_tokens,
            report=report,
        )
        return _subject(session), answers


def _compact(text: _Text) -> CompactReference | None:
    """REF as a reference file; None when it is none."""
    from edgellm.profiles.quality import reference_logits

    if not text.reference or not reference_logits.is_reference(Path(text.reference)):
        return None
    if text.file:
        raise UsageError(f"{text.reference} holds the text it was made on; leave -f out")
    return reference_logits.CompactReference(Path(text.reference))


def _chunks(session: Session, text: _Text, compact: CompactReference | None) -> tuple[list[Chunk], str]:
    from edgellm.cli.shared import open_model
    from edgellm.generation import scoring
    from edgellm.profiles.quality import dialogues

    if compact:
        return compact.chunks[: text.n_chunks], compact.source.text
    if text.file:
        content = text.file.read_text(encoding="utf-8", errors="replace")
        return scoring.text_chunks(session, content, text.n_ctx)[: text.n_chunks], text.file.name
    render: dialogues.Render | None = None
    if session.artifact.chat_template:
        template = open_model.template(session.artifact)
        render = lambda messages: template.render(messages, add_generation_prompt=False)  # noqa: E731
    return dialogues.chunks(session, render, text.n_chunks or dialogues.DEFAULT_COUNT), dialogues.NAME


def _open_reference(reference: str, engine: EngineOptions) -> Session:
    from edgellm.cli.shared import model_argument, open_model

    return open_model.session(model_argument.resolve(reference), engine)


def _subject(session: Session) -> Subject:
    from edgellm.profiles.quality.evaluation import Subject

    artifact, info = session.artifact, session.info
    return Subject(
        artifact.name,
        artifact.quantization,
        artifact.format,
        artifact.size_bytes,
        artifact.sha256,
        info.backend,
        info.version,
    )


@contextlib.contextmanager
def _progress(label: str, length: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, with time left."""
    with Progress() as progress:
        yield lambda done: progress.count(label, done, length)
