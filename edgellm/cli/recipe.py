"""`edgellm recipe`: recipes found by measuring, and what they stand on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgellm.cli.shared.threads import THREADS
from edgellm.errors import UsageError
from edgellm.terminal import Progress, aligned, note, say
from edgellm.units import parse_size

if TYPE_CHECKING:
    from edgellm.recipes.costs import Speeds


@click.group("recipe", short_help="Find which type each matrix should have, by measuring.")
def command() -> None:
    """Recipes say a matrix's type by role and depth; `edgellm convert --recipe` takes them."""


#: Of a recipe, and so of the kernels that a search looks at.
_FORMAT = click.option(
    "--format", "format_", type=click.Choice(["gguf", "onnx"]), default="gguf", show_default=True
)


@command.command("list")
def list_command() -> None:
    """List the recipes that come with edgellm."""
    from edgellm.convert.recipes import recipe

    found = [recipe.load(name) for name in recipe.names()]
    say(*aligned([(each.name, each.base, each.about) for each in found], "<<<"))


@command.command("speed")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="File to write.")
@_FORMAT
@click.option("-t", "--threads", "n_threads", type=THREADS, help="Threads.")
@click.option("-f", "--force", is_flag=True, help="Replace a file that is there.")
def speed_command(output: Path, format_: str, n_threads: int | None, force: bool) -> None:
    """Measure how long this machine's kernels take in each type, for `search --for` here or elsewhere."""
    from edgellm import files
    from edgellm.fit import figures
    from edgellm.recipes import costs

    files.check_output(output, force=force)
    with Progress() as progress:
        found = _timed(format_, n_threads, progress)(costs.kernels(onnx=format_ == "onnx"))
    figures.save(output, found, force=force)
    rows = [(name, *(f"{1e12 * s:.0f}" for s in (k.decode, k.prefill))) for name, k in found.kernels.items()]
    say(*aligned([("type", "decode, ps/weight", "prefill, ps/weight"), *rows], "<>>"))


@command.command("search")
@click.argument("model")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Recipe to write.")
@click.option(
    "--like",
    metavar="TYPE",
    help="Type whose bytes and speed are the measure.  [default: Q4_K_M, or onnx-int4]",
)
@click.option("--bytes", "max_bytes", metavar="SIZE", help="Bytes of all matrices.  [default: as --like has]")
@click.option(
    "--decode", type=click.FloatRange(min=0.01), metavar="RATIO", help="Decode speed over --like's, at least."
)
@_FORMAT
@click.option("--imatrix", metavar="auto|FILE", help="Round with an importance matrix; auto makes one.")
@click.option(
    "--budget", default="20m", show_default=True, metavar="TIME", help="Time it may take, e.g. 20m."
)
@click.option(
    "--for",
    "device",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Kernel speeds of another machine, from edgellm recipe speed.",
)
@click.option(
    "--tokens",
    "n_tokens",
    type=click.IntRange(min=32),
    default=512,
    show_default=True,
    help="Of calibration text, for each measurement.",
)
@click.option("-t", "--threads", "n_threads", type=THREADS, help="Threads.")
@click.option("-f", "--force", is_flag=True, help="Replace a recipe that is there.")
def search_command(model: str, output: Path, device: Path | None, budget: str, **options: Any) -> None:
    """Find the mix of types of least divergence for MODEL, a checkpoint, within bytes and time.

    What was measured stays in OUTPUT.search; the same command goes on from there, and other goals use it.

    \b
      edgellm recipe search ./Qwen2.5-0.5B --like Q4_0 --imatrix auto -o mine.toml
      edgellm recipe search ./Qwen2.5-0.5B --like Q4_K_M --decode 1.4 --for pi5.json -o mine.toml
      edgellm recipe search ./Qwen2.5-0.5B --format onnx --decode 0.97 -o mine.toml
      edgellm convert ./Qwen2.5-0.5B --recipe mine.toml --imatrix mine.toml.search/imatrix.gguf
    """
    from edgellm.catalog import models
    from edgellm.fit.model import chosen
    from edgellm.recipes import search
    from edgellm.recipes.costs import Goal

    format_, imatrix = options["format_"], options["imatrix"]
    onnx = format_ == "onnx"
    if device is not None and not device.is_file():
        raise UsageError(
            f"{device} is not at hand: run `edgellm recipe speed -o FILE` on that device and give the file"
        )
    known = _of_device(device, format_) if device else None
    if options["decode"] is None and known is None:
        note("speed is no limit here: the least divergence at these bytes; give --decode to ask for speed")
    size = parse_size(options["max_bytes"]) if options["max_bytes"] else None
    like, *others = chosen([options["like"] or ("onnx-int4" if onnx else "Q4_K_M")])
    if others:
        raise UsageError(f"--like {options['like']} is no one type; give e.g. Q4_K_M")
    with Progress() as progress:
        if known is None and options["decode"] is not None:
            known = _timed(format_, options["n_threads"], progress)
        request = search.Request(
            source=models.locate(model).path,
            output=output,
            goal=Goal(like, size, options["decode"], onnx=onnx),
            seconds=_seconds(budget),
            speeds=known,
            imatrix=Path(imatrix) if imatrix and imatrix != "auto" else None,
            auto_imatrix=imatrix == "auto",
            n_tokens=options["n_tokens"],
            n_threads=options["n_threads"],
            force=options["force"],
        )
        found = search.search(request, progress.count)
    say(*aligned([("group", "KLD / noise", "KLD alone in Q4_0"), *search.shown(found)], "<>>"))
    measured = "not measured" if found.measured_kld is None else f"measured {found.measured_kld:.4f}"
    milliseconds = found.decode_ms
    pace = f", products of a token {milliseconds:.1f} ms ({found.machine})" if milliseconds else ""
    say(
        f"{output}: {found.nbytes / 1e6:.1f} MB of matrices, KLD on the calibration text predicted "
        f"{found.predicted_kld:.4f}, {measured}{pace}"
    )


def _of_device(file: Path, format_: str) -> Speeds:
    """Speeds that were measured elsewhere. Raises ArtifactError, UsageError for those of the other engine."""
    from edgellm.fit import figures

    found = figures.load(file)
    if found.engine != _engine(format_):
        raise UsageError(
            f"{file} has speeds of {found.engine}, which runs no {format_.upper()}: make them with "
            f"`edgellm recipe speed --format {format_} -o FILE` on that device"
        )
    return lambda _: found


def _timed(format_: str, n_threads: int | None, progress: Progress) -> Speeds:
    """What `edgellm fit` remembers of this machine; kernels that are not known are timed."""
    from edgellm.fit import probe
    from edgellm.machine import hardware

    return lambda kernels: probe.here(_engine(format_), hardware.threads(n_threads), kernels, progress.show)


def _engine(format_: str) -> str:
    """What runs a format."""
    from edgellm.fit import probe

    return next(engine for engine, of in probe.FORMATS.items() if of == format_)


def _seconds(text: str) -> float:
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    if not number.replace(".", "", 1).isdigit() or float(number) <= 0:
        raise UsageError(f"--budget {text!r} is no time; give e.g. 90s, 20m or 1h")
    return float(number) * units[unit]
