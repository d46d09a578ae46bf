"""`edgellm batch`: a file of prompts in, a file of answers out."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgellm.cli.shared import model_argument, served
from edgellm.cli.shared.sampling import drawing_options, engine_options, valid_text
from edgellm.cli.shared.view import think_option
from edgellm.errors import CheckFailedError, UsageError
from edgellm.terminal import Progress, note, say

if TYPE_CHECKING:
    from edgellm.batch.journal import Sink
    from edgellm.batch.rows import Manner
    from edgellm.batch.tally import Tally
    from edgellm.formats.artifact import Artifact
    from edgellm.serving.pool import Offer
    from edgellm.session import EngineOptions

_STREAM = Path("-")
_FILE = click.Path(dir_okay=False, allow_dash=True, path_type=Path)


@click.command(short_help="Answer a file of prompts, many at a time.")
@click.argument("model")
@click.option(
    "-i",
    "--input",
    "source",
    type=_FILE,
    required=True,
    metavar="FILE",
    help="Rows to answer; - is standard input.",
)
@click.option(
    "-o",
    "--output",
    type=_FILE,
    required=True,
    metavar="FILE",
    help="Where answers go; - is standard output.",
)
@click.option(
    "--resume", is_flag=True, help="Go on with a run that ended early: ask what is not answered in -o."
)
@click.option("--force", is_flag=True, help="Replace the answers that are there.")
@click.option("--ordered", is_flag=True, help="Answers in the order of the input, not as they come.")
@click.option(
    "--slots", type=click.IntRange(min=1), default=16, help="Rows decoded together, if memory allows.  [16]"
)
@click.option(
    "--alias", "aliases", multiple=True, metavar="NAME", help="Another name by which rows may ask the model."
)
@click.option("--ray", "address", metavar="auto|ADDRESS", help="Answer on every node of a Ray cluster.")
@click.option("--raw", is_flag=True, help="Continue plain prompts as they are, without a chat template.")
@click.option("-sys", "--system", metavar="TEXT", callback=valid_text, help="System prompt of plain rows.")
@think_option
@drawing_options
@served.drafting_options
@engine_options
def command(
    model: str,
    source: Path,
    output: Path,
    resume: bool,
    force: bool,
    ordered: bool,
    slots: int,
    aliases: tuple[str, ...],
    address: str | None,
    raw: bool,
    system: str | None,
    think: bool | None,
    drawing: dict[str, Any],
    draft: str | None,
    lookup: bool,
    offline: bool,
    engine: EngineOptions,
) -> None:
    """Answer every row of a JSONL file with MODEL: lines of OpenAI's batch format, or plain ones.

    \b
      {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [...]}}
      {"prompt": "What is the capital of France?", "max_tokens": 20}

    Settings of the command line hold for plain rows that do not have them. A row that cannot be answered becomes an
    error row, and the exit code is then 3. A run that was ended goes on with --resume.

    \b
      edgellm batch tiny-qwen3 -i prompts.jsonl -o answers.jsonl --temp 0
    """
    served.need_libraries("edgellm batch")
    from edgellm.batch import asking
    from edgellm.batch.rows import Manner
    from edgellm.serving.job import ServingOptions
    from edgellm.serving.pool import Offer

    _check(output, force=force, resume=resume, ordered=ordered, raw=raw, system=system)
    artifact = model_argument.resolve(model, offline=offline)
    manner = Manner(_model(artifact, engine), drawing, system, think, raw)
    serving = ServingOptions(
        slots, asking.UNBOUNDED, lookup=lookup, draft=served.draft_model(draft, lookup, offline)
    )
    offer = Offer(served.name_of(model), artifact, aliases, engine, serving)
    with _file_of(source) as file:
        tally = _answer(file, manner, offer, address, output, force=force, resume=resume, ordered=ordered)
    (note if output == _STREAM else say)(tally.summary())
    if n_errors := tally.n_errors + tally.n_errors_before:
        first = f", the first {tally.first_error}" if tally.n_errors else ""
        raise CheckFailedError(f"{n_errors:,} of {tally.n_rows:,} rows are error rows{first}")


def _check(output: Path, *, force: bool, resume: bool, ordered: bool, raw: bool, system: str | None) -> None:
    """Refuse early what cannot be. Raises UsageError, OutputExistsError, StorageError."""
    from edgellm.batch import journal

    if force and resume:
        raise UsageError("--force starts over and --resume goes on: give one")
    if raw and system is not None:
        raise UsageError("--raw has no place for a system prompt: write it into the prompts")
    if output == _STREAM:
        if resume or ordered:
            what = "--resume" if resume else "--ordered"
            raise UsageError(f"{what} needs a file to keep answers in: -o FILE")
    else:
        journal.check(output, force=force, resume=resume)


@contextlib.contextmanager
def _file_of(source: Path) -> Iterator[Path]:
    """The input as a file, which is read twice; standard input is read to its end first."""
    if source != _STREAM:
        if not source.is_file():
            raise UsageError(f"{source} is no file; -i names the rows to answer")
        yield source
        return
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("there is nothing to answer: give -i FILE, or rows on standard input")
    with tempfile.TemporaryDirectory(prefix="edgellm-batch-") as folder:
        path = Path(folder) / "standard input"
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield path


def _answer(
    source: Path,
    manner: Manner,
    offer: Offer,
    address: str | None,
    output: Path,
    *,
    force: bool,
    resume: bool,
    ordered: bool,
) -> Tally:
    """Ask all rows and keep the answers; where that ends early, how to go on is said."""
    from edgellm.batch import journal, rows

    ids = rows.check(source, manner)
    if output == _STREAM:
        return asyncio.run(_run(source, manner, ids, offer, address, journal.Printed()))
    with journal.journal(output, ids, force=force, resume=resume) as sink:
        try:
            tally = asyncio.run(_run(source, manner, ids, offer, address, sink))
            sink.finish(ids if ordered else None)
        except BaseException:
            if sink.n_rows:
                there = f"{sink.n_rows:,} of {len(ids):,} rows are in {journal.part_of(output)}"
                note(f"{there}: --resume goes on with it")
            raise
    return tally


async def _run(
    source: Path, manner: Manner, ids: dict[str, str], offer: Offer, address: str | None, sink: Sink
) -> Tally:
    from edgellm.batch import asking, nodes, run
    from edgellm.batch.tally import Tally

    if len(sink.answered) == len(ids):
        return Tally(len(ids), len(ids), sink.n_errors)
    async with asking.asker(offer) if address is None else nodes.nodes(offer, address) as asks:
        with Progress() as progress:
            return await run.run(source, manner, ids, asks, sink, lambda tally: progress.show(tally.line()))


def _model(artifact: Artifact, engine: EngineOptions) -> str:
    """What of the model an answer depends on: its files, and adapters on it."""
    return " ".join([artifact.fingerprint, *(f"{lora.sha256}:{lora.scale:g}" for lora in engine.lora)])
