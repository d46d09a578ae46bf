"""`edgellm bundle`: one model and all that running it on a board needs, in one folder or archive."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgellm.cli.shared.model_argument import hub_option
from edgellm.terminal import Progress, note, say

if TYPE_CHECKING:
    from edgellm.fit.places import Place
    from edgellm.formats.artifact import Artifact


@click.command(short_help="Put a model and all a board needs to run it into one folder or archive.")
@click.argument("model")
@click.option(
    "--for", "name", metavar="DEVICE", required=True, help="raspberry-pi-5, jetson-orin-nano, n100, ..."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="A folder, or .tar, .tar.gz, .tar.zst.",
)
@click.option(
    "--python",
    metavar="3.X",
    default=f"{sys.version_info[0]}.{sys.version_info[1]}",
    help="Python there.  [default: as here]",
)
@click.option("-c", "--ctx-size", type=click.IntRange(1), help="Tokens of context.  [default: the device's]")
@click.option(
    "--ram", metavar="SIZE", help="Memory of the device.  [default: the least that is sold and enough]"
)
@click.option(
    "--tuned",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Settings found there: what ./edgellm-bundle tune --json printed.",
)
@click.option(
    "--with",
    "extras",
    type=click.Choice(("serve", "ollama", "llamafile")),
    multiple=True,
    help="The server and its systemd unit; a Modelfile; a script for llamafile.",
)
@click.option(
    "--wheels",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Take Python packages from this folder and ask no index.",
)
@click.option(
    "--engine-wheel",
    type=click.Path(path_type=Path),
    help="llama-cpp-python for the device, for a GGUF model.  [default: what edgellm wheel made]",
)
@click.option("--force", is_flag=True, help="Replace what is there.")
@click.option("--offline", is_flag=True, help="Use what is on this machine, ask no hub.")
@hub_option
def command(
    model: str,
    name: str,
    output: Path,
    python: str,
    ctx_size: int | None,
    ram: str | None,
    tuned: Path | None,
    extras: tuple[str, ...],
    wheels: Path | None,
    engine_wheel: Path | None,
    force: bool,
    offline: bool,
) -> None:
    """Bundle MODEL for a board: the model, wheels for its processor and Python, settings, and a script that runs it.

    The board needs Python alone: no network, no compiler, no pip. ONNX models need no compiler here either.

    \b
      edgellm convert tiny-llama3 --quant onnx-int4 -o llama-onnx
      edgellm bundle llama-onnx --for raspberry-pi-5 -o llama.tar.gz
      (there) tar xf llama.tar.gz && cd llama-onnx-* && ./edgellm-bundle verify && ./edgellm-bundle chat
    """
    from edgellm.bundle import contents, engine
    from edgellm.cli.shared import model_argument
    from edgellm.profiles import devices
    from edgellm.units import format_size, parse_size

    device = devices.device(name)
    artifact = model_argument.resolve(model, offline=offline)
    if engine_wheel is None and artifact.format == "gguf":
        engine_wheel = engine.kept(engine.of_device(device))
    plan = contents.Plan(
        artifact,
        device,
        python,
        extras,
        wheels,
        engine_wheel,
        ctx_size,
        None if ram is None else parse_size(ram),
        tuned,
    )
    contents.check(plan)
    contents.make(replace(plan, place=_place(artifact, name)), output, force=force)
    written = [output] if output.is_file() else [path for path in output.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in written)
    say(f"wrote {output} ({format_size(size)}) for {device.title}, Python {python}")


def _place(artifact: Artifact, name: str) -> Place | None:
    """The device by this machine's kernels, timed now where they were not; None where they cannot be."""
    from edgellm.errors import ArtifactError, EngineError
    from edgellm.fit import builds, places

    try:
        build = builds.of_artifact(artifact).types.values()
        with Progress() as progress:
            local = places.here(build, lambda text: progress.show(f"this machine, once: {text}"))
        return places.named(local, name)
    except (ArtifactError, EngineError) as error:
        note(f"no speed is told: {error}")
        return None
