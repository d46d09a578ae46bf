"""A model by any name, ready to run: a checkpoint is converted the first time it is used, verified, and kept.

Knows what a name means (catalog) and how to convert; opens no engine.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from edgellm.catalog import models
from edgellm.formats.artifact import Artifact
from edgellm.terminal import note

if TYPE_CHECKING:
    from edgellm.catalog.models import Source


def resolve(model: str | None = None, *, offline: bool = False) -> Artifact:
    """The runnable model `model` names (default: the bundled one). Raises EdgellmError.

    A checkpoint (bundled, folder or hub id) is converted once, verified, and kept; `NAME:TYPE` picks the type.
    """
    source = models.locate(model or models.DEFAULT_MODEL, offline=offline)
    if not source.is_checkpoint:
        return Artifact.open(source.path)
    source = replace(source, quant=_canonical(source.quant))
    if not source.kept.exists():
        _convert(source)
    return Artifact.open(source.kept)


def _canonical(quant: str) -> str:
    from edgellm.convert.gguf.recipes import canonical
    from edgellm.convert.onnx.options import is_onnx

    return quant.strip().lower() if is_onnx(quant) else canonical(quant)


def _convert(source: Source) -> None:
    from edgellm.catalog import conversion

    note(f"first use of {source.name}: converting it to {source.quant}, once")
    source.kept.parent.mkdir(exist_ok=True)
    conversion.convert_checkpoint(source.path, source.kept, source.quant)
