"""`edgellm serve`: a local server that apps and agents can be pointed at."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgellm.cli.shared.sampling import engine_options
from edgellm.errors import MissingExtraError, UsageError
from edgellm.terminal import note, say

if TYPE_CHECKING:
    from edgellm.serving.pool import Pool
    from edgellm.server.settings import ServerSettings
    from edgellm.session import EngineOptions

_COUNT = click.IntRange(min=1)
_SECONDS = click.FloatRange(min=0)
_KEY = "EDGELLM_API_KEY"


def _seconds(context: click.Context, param: click.Parameter, value: str) -> float | None:
    """Click callback: seconds, None for `forever`."""
    if value == "forever":
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise click.BadParameter(f"{value!r} is neither seconds nor forever", context, param)
    return seconds


def _size(context: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Click callback: bytes."""
    from edgellm.units import parse_size

    try:
        return None if value is None else parse_size(value)
    except (UsageError, ValueError) as error:
        raise click.BadParameter(str(error), context, param) from None


@click.command(short_help="Serve models over HTTP: OpenAI's and Anthropic's protocols, and a page to chat on.")
@click.argument("models", metavar="[MODEL]...", nargs=-1)
@click.option(
    "--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Where to listen; others need a key."
)
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0: a free one.")
@click.option(
    "--alias", "aliases", multiple=True, metavar="NAME=MODEL", help="Another name for a model, such as gpt-4o."
)
@click.option("--slots", type=_COUNT, metavar="N", help="Answers decoded together.  [default: what fits, up to 4]")
@click.option("--queue", type=click.IntRange(min=0), default=64, show_default=True, help="Requests that may wait.")
@click.option(
    "--timeout", type=_SECONDS, default=600.0, show_default=True, metavar="SECONDS", help="Most time for an answer."
)
@click.option(
    "--keep",
    default="300",
    show_default=True,
    callback=_seconds,
    metavar="SECONDS|forever",
    help="How long a model that nobody asks stays loaded.",
)
@click.option("--max-models", type=_COUNT, metavar="N", help="Models loaded at the same time.")
@click.option("--max-ram", callback=_size, metavar="SIZE", help="Memory for models.  [default: what is free]")
@click.option("--draft", metavar="MODEL", help="Speculative decoding with this smaller model; mtp: its own block.")
@click.option("--lookup", is_flag=True, help="Speculative decoding with draft tokens looked up in the text.")
@click.option("--api-key", metavar="KEY", help=f"What clients have to show; others can see it here: {_KEY} is better.")
@click.option(
    "--api-key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The key is the first line of this file.",
)
@click.option("--allow-host", multiple=True, metavar="NAME", help="A name clients may call this machine by.")
@click.option("--allow-origin", multiple=True, metavar="ORIGIN", help="Pages that may ask: https://app.example.")
@click.option(
    "--grace", type=_SECONDS, default=5.0, show_default=True, metavar="SECONDS", help="For answers to end at the end."
)
@click.option("--log-text", is_flag=True, help="Log prompts' answers, too. Without it no text is logged.")
@engine_options
def command(
    models: tuple[str, ...],
    host: str,
    port: int,
    aliases: tuple[str, ...],
    slots: int | None,
    queue: int,
    timeout: float,
    keep: float | None,
    max_models: int | None,
    max_ram: int | None,
    draft: str | None,
    lookup: bool,
    api_key: str | None,
    api_key_file: Path | None,
    allow_host: tuple[str, ...],
    allow_origin: tuple[str, ...],
    grace: float,
    log_text: bool,
    offline: bool,
    engine: EngineOptions,
) -> None:
    """Serve each MODEL, loaded at its first request: a file, a folder, a bundled name or a hub id.

    \b
      edgellm serve                                  # the bundled model, at http://127.0.0.1:8080
      edgellm serve Qwen/Qwen3-0.6B --alias gpt-4o=Qwen/Qwen3-0.6B
      edgellm serve model.gguf --host 0.0.0.0 --api-key-file key.txt

    Ctrl-C or SIGTERM ends it in order, a second one at once.
    """
    try:
        from edgellm.server import app, listen
        from edgellm.server.settings import ServerSettings
    except ImportError as error:
        if (error.name or "").partition(".")[0] in ("starlette", "uvicorn", "pydantic", "h11"):
            raise MissingExtraError("edgellm serve", "server") from None
        raise

    settings = ServerSettings(
        host=host,
        port=port,
        api_key=_key(api_key, api_key_file),
        allow_hosts=allow_host,
        allow_origins=allow_origin,
        grace_seconds=grace,
        log_text=log_text,
    )
    listening = listen.bound(settings)
