"""`edgellm explain`: a text token by token, as one model reads it, or two."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgellm.cli.shared.lines import text_file_option
from edgellm.cli.shared.sampling import engine_options
from edgellm.errors import UsageError
from edgellm.terminal import Progress, emit, note
from edgellm.units import count

if TYPE_CHECKING:
    from edgellm.profiles.explain.reading import Reading
    from edgellm.session import EngineOptions


@click.command(short_help="Show each token's probability, its rivals, and where two models differ.")
@click.argument("model")
@click.argument("second", required=False, metavar="[MODEL2]")
@text_file_option("read", "standard input")
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a page of HTML.",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("--force", is_flag=True, help="Let -o replace a file that is there.")
@engine_options
def command(
    model: str,
    second: str | None,
    text_file: Path | None,
    out: Path | None,
    as_json: bool,
    force: bool,
    offline: bool,
    engine: EngineOptions,
) -> None:
    """Read a text with MODEL, and with MODEL2: how likely each token was, what else might have come.

    Two models may be two types of one, or have different tokenizers: they are laid over each other where both cut.

    \b
      edgellm explain tiny-qwen3 -f text.txt
      edgellm explain tiny-qwen3 tiny-llama3 -f text.txt -o page.html
      edgellm explain tiny-qwen3:Q8_0 tiny-qwen3:Q4_0 -f text.txt --json
    """
    from edgellm import files
    from edgellm.profiles.explain import alignment, document

    if out:
        files.check_output(out, force=force)
    text = _text(text_file)
    readings = [_read(name, text, engine, offline=offline) for name in (model, second) if name is not None]
    spans = alignment.align(text, readings)
    if out:
        files.write_text(out, document.to_page(readings, spans))
        note(f"wrote {out}")
    if as_json:
        emit(document.to_json(text, readings, spans))
    else:
        emit(document.to_lines(readings, spans))


def _text(file: Path | None) -> str:
    if file is None and (sys.stdin is None or sys.stdin.isatty()):
        raise UsageError("there is no text to explain: give -f FILE, or text on standard input")
    data = sys.stdin.buffer.read() if file is None else file.read_bytes()
    return data.decode("utf-8", "replace")


def _read(name: str, text: str, engine: EngineOptions, *, offline: bool) -> Reading:
    from edgellm.cli.shared import model_argument, open_model
    from edgellm.profiles.explain import reading

    artifact = model_argument.resolve(name, offline=offline)
    with open_model.session(artifact, engine) as session, Progress() as progress:
        return reading.read(session, text, lambda done: progress.show(f"{name}: {count(done, 'token')}"))
