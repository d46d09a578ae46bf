"""`edgellm serve`: a local server that apps and agents can be pointed at."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgellm.cli.shared import model_argument, served
from edgellm.cli.shared.sampling import engine_options
from edgellm.errors import UsageError
from edgellm.terminal import say

if TYPE_CHECKING:
    import socket

    from edgellm.serving.job import ServingOptions
    from edgellm.serving.pool import Offer
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


@click.command(
    short_help="Serve models over HTTP: OpenAI's and Anthropic's protocols, and a page to chat on."
)
@click.argument("models", metavar="[MODEL]...", nargs=-1)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Where to listen; others need a key.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0: a free one.")
@click.option(
    "--alias",
    "aliases",
    multiple=True,
    metavar="NAME=MODEL",
    help="Another name for a model, such as gpt-4o.",
)
@click.option(
    "--slots", type=_COUNT, default=4, show_default=True, help="Answers decoded together, by model."
)
@click.option(
    "--queue", type=click.IntRange(min=0), default=64, show_default=True, help="Requests that may wait."
)
@click.option(
    "--timeout",
    type=_SECONDS,
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="Most time for an answer.",
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
@served.drafting_options
@click.option(
    "--api-key", metavar="KEY", help=f"What clients have to show; others can see it here: {_KEY} is better."
)
@click.option(
    "--api-key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The key is the first line of this file.",
)
@click.option("--allow-host", multiple=True, metavar="NAME", help="A name clients may call this machine by.")
@click.option(
    "--allow-origin", multiple=True, metavar="ORIGIN", help="Pages that may ask: https://app.example."
)
@click.option(
    "--grace",
    type=_SECONDS,
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="For answers to end at the end.",
)
@click.option(
    "--log-text", is_flag=True, help="Log what was asked and answered, too; without it no text is logged."
)
@engine_options
def command(
    models: tuple[str, ...],
    host: str,
    port: int,
    aliases: tuple[str, ...],
    slots: int,
    queue: int,
    timeout: float,
    keep: float | None,
    max_models: int | None,
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
    served.need_libraries("edgellm serve")
    from edgellm.server import app, listen
    from edgellm.server.settings import ServerSettings
    from edgellm.serving.job import ServingOptions
    from edgellm.serving.pool import Pool

    settings = ServerSettings(
        host=host,
        port=port,
        api_key=_key(api_key, api_key_file),
        allow_hosts=allow_host,
        allow_origins=allow_origin,
        grace_seconds=grace,
        log_text=log_text,
    )
    with contextlib.closing(listen.bound(settings)) as listening:
        serving = ServingOptions(
            n_slots=slots,
            max_queue=queue,
            timeout_seconds=timeout or None,
            lookup=lookup,
            draft=served.draft_model(draft, lookup, offline),
        )
        offers = _offers(models, aliases, engine, serving, offline)
        pool = Pool(offers, keep_seconds=keep, max_loaded=max_models)
        listen.serve(
            app.application(pool, settings), settings, listening, lambda: say(_greeting(offers, listening))
        )


def _key(given: str | None, file: Path | None) -> str | None:
    """The key, from where it is given. Raises UsageError."""
    if given is not None and file is not None:
        raise UsageError("--api-key and --api-key-file exclude each other: give one")
    if file is not None:
        given = file.read_text(encoding="utf-8").partition("\n")[0].strip()
    key = os.environ.get(_KEY) if given is None else given
    if key is not None and not key.strip():
        raise UsageError("the key is empty; leave it out, or give one that is hard to guess")
    return key


def _offers(
    models: tuple[str, ...],
    aliases: tuple[str, ...],
    engine: EngineOptions,
    serving: ServingOptions,
    offline: bool,
) -> list[Offer]:
    """What is served under which names; checkpoints are converted now. Raises EdgellmError."""
    from edgellm.catalog.models import DEFAULT_MODEL
    from edgellm.serving.pool import Offer

    names: dict[str, list[str]] = {model: [] for model in models or (DEFAULT_MODEL,)}
    if len(names) < len(models):
        raise UsageError("a model is given twice; leave one of them out")
    for alias in aliases:
        name, _, model = alias.partition("=")
        if not name or model not in names:
            known = ", ".join(names)
            raise UsageError(f"--alias {alias} is not NAME=MODEL with one of the models served: {known}")
        names[model].append(name)
    return [
        Offer(
            served.name_of(model),
            model_argument.resolve(model, offline=offline),
            tuple(more),
            engine,
            serving,
        )
        for model, more in names.items()
    ]


def _greeting(offers: Sequence[Offer], listening: socket.socket) -> str:
    """Where the server is, and what a client has to be told."""
    host, port = listening.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    url = f"http://{shown}:{port}"
    names = ", ".join(offer.name for offer in offers)
    return f"{names}: page at {url}/, clients by OPENAI_BASE_URL={url}/v1 or ANTHROPIC_BASE_URL={url}"
