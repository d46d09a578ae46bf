"""`edgellm wheel`: llama-cpp-python built here for a board, so that nothing is compiled there."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from edgellm.terminal import note, say


@click.command(short_help="Build llama-cpp-python for another machine.")
@click.option(
    "--for", "name", metavar="DEVICE", required=True, help="raspberry-pi-5, jetson-orin-nano, n100, ..."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder to copy the wheel to.  [default: kept for edgellm bundle]",
)
def command(name: str, output: Path | None) -> None:
    """Build the engine of GGUF models for DEVICE's processor, once: the wheel is kept.

    The source is fetched by pip. Another architecture needs its compiler: on Debian gcc-aarch64-linux-gnu and
    g++-aarch64-linux-gnu.
    """
    from edgellm.bundle import engine
    from edgellm.profiles import devices

    device = devices.device(name)
    wheel = engine.kept(device)
    if wheel is None:
        note(f"compiling llama.cpp for {engine.target(device).name}; this takes minutes")
        wheel = engine.build(device)
    if output is not None:
        wheel = Path(shutil.copyfile(wheel, output / wheel.name))
    say(f"{wheel} ({engine.target(device).name})")
