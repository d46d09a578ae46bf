"""MODEL arguments: what they name, converted on first use when it is a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgellm.artifact import Artifact
    from edgellm.catalog import Source


def resolve(model: str | None = None, *, offline: bool = False) -> Artifact:
    """The runnable model `model` names (default: the bundled one). Raises EdgellmError.

    A checkpoint (bundled, folder or hub id) is converted once, verified, and kept; `NAME:TYPE` picks the type.
    """
    from edgellm import catalog
    from edgellm.artifact import Artifact
    from edgellm.convert.onnx_options import is_onnx
    from edgellm.convert.recipes import canonical

    source = catalog.locate(model or catalog.DEFAULT_MODEL, offline=offline)
    if not source.is_checkpoint:
        return Artifact.open(source.path)
    quant = source.quant.strip().lower() if is_onnx(source.quant) else canonical(source.quant)
    source = replace(source, quant=quant)
    if not source.kept.exists():
        _convert(source)
    return Artifact.open(source.kept)


def _convert(source: Source) -> None:
    import click

    from edgellm.convert.onnx_options import is_onnx

    if is_onnx(source.quant):
        from edgellm.cli._convert_onnx import convert_checkpoint
    else:
        from edgellm.cli._convert import convert_checkpoint

    click.echo(f"edgellm: first use of {source.name}: converting it to {source.quant}, once", err=True)
    source.kept.parent.mkdir(exist_ok=True)
    convert_checkpoint(source.path, source.kept, source.quant)
