"""`edgellm rpc-serve`: lend this machine to a model that is too large for another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgellm.errors import UsageError
from edgellm.terminal import note, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgellm.machine.devices import Device

_RISK = "it asks nobody for a password and encrypts nothing: whoever reaches it can use it, and attack it"


@click.command(short_help="Lend this machine's memory and processors to a model on another one.")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Where to listen.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=50052, show_default=True, help="0: a free one."
)
@click.option(
    "-t", "--threads", "n_threads", type=click.IntRange(min=1), help="Threads.  [default: physical cores]"
)
@click.option("--cache", is_flag=True, help="Keep large weights on disk, so that they travel once.")
@click.option("--i-know", is_flag=True, help="Listen on a public address, or on all of them.")
def command(host: str, port: int, n_threads: int | None, cache: bool, i_know: bool) -> None:
    """Run llama.cpp's RPC server, for `--device rpc://ADDRESS:PORT` of chat, run, serve and profile elsewhere.

    \b
      edgellm rpc-serve --host 192.168.1.7                              # on one board
      edgellm run large.gguf "Hello" --device rpc://192.168.1.7:50052   # on another

    It serves one client at a time. It has neither authentication nor encryption: for trusted networks alone.
    Ctrl-C or SIGTERM ends it.
    """
    from edgellm import files
    from edgellm.backends.llama import rpc_server
    from edgellm.machine import hardware
    from edgellm.units import count, format_size

    host = "127.0.0.1" if host == "localhost" else host
    reach = rpc_server.reach(host)
    if reach == "public" and not i_know:
        raise UsageError(f"--host {host} can be reached from anywhere, and {_RISK}; --i-know insists")
    if reach != "loopback":
        note(f"warning: on {host} {_RISK}; only a trusted network may reach it")
    options = rpc_server.ServerOptions(
        host=host,
        port=rpc_server.free_port(host, port),
        n_threads=n_threads or hardware.default_threads(),
        cache=files.cache_dir("rpc") if cache else None,
    )

    def ready(lent: Sequence[Device]) -> None:
        for device in lent:
            say(f"{device}: {format_size(device.free_bytes or 0)}, {count(options.n_threads or 0, 'thread')}")
        shown = "ADDRESS" if host == "0.0.0.0" else host
        say(f"use it with: --device rpc://{shown}:{options.port}")

    rpc_server.serve(options, ready, note)
