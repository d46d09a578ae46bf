"""`edgellm wheel`: llama-cpp-python built here for a board, so that nothing is compiled there."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from edgellm.terminal import note, say


@click.command(short_help="Build llama-cpp-python for another machine.")
@click.option(
    "--for",
    "name",
    metavar="DEVICE|TARGET",
    required=True,
    help="raspberry-pi-5, n100, ..., x86-64-v2, armv8, ...",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder to copy the wheel to.  [default: kept for edgellm bundle]",
)
def command(name: str, output: Path | None) -> None:
    """Build the engine of GGUF models for DEVICE's processor, once: the wheel is kept.

    Targets are armv8, armv8.2-dotprod, armv8.6-i8mm, x86-64-v2, x86-64-v3 and x86-64-v4.

    The source is fetched by pip. Another architecture needs its compiler: on Debian gcc-aarch64-linux-gnu and
    g++-aarch64-linux-gnu.
    """
    from edgellm.bundle import engine

    target = engine.target(name)
    wheel = engine.kept(target)
    if wheel is None:
        note(f"compiling llama.cpp for {target.name}; this takes minutes")
        wheel = engine.build(target)
    if output is not None:
        wheel = Path(shutil.copyfile(wheel, output / wheel.name))
    say(f"{wheel} ({target.name})")
