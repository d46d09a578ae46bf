"""A model by any name, ready to run: a checkpoint is converted the first time it is used, verified, and kept.

Knows what a name means (catalog) and how to convert; opens no engine in this process.
"""

from __future__ import annotations

import atexit
import contextlib
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgellm import files
from edgellm.catalog import models
from edgellm.errors import StorageError
from edgellm.formats.artifact import Artifact
from edgellm.terminal import note

if TYPE_CHECKING:
    from edgellm.catalog.models import Source

_said: set[Path] = set()  # foreign models that were spoken of: a command may ask for one several times


def resolve(model: str | None = None, *, offline: bool = False) -> Artifact:
    """The runnable model `model` names (default: the bundled one), tried once. Raises EdgellmError.

    A checkpoint (bundled, folder or hub id) is converted once, verified, and kept; `NAME:TYPE` picks the type,
    `NAME:auto` the one that is recommended for this machine.
    """
    source = planned(model, offline=offline)
    if not source.is_checkpoint:
        return _tried(Artifact.open(source.path))
    if source.kept.exists():
        return _tried(Artifact.open(source.kept))
    with files.turn(str(source.kept), lambda: note(f"another process is converting {source.name}; waiting")):
        kept = source.kept if source.kept.exists() else _convert(source)
    return _tried(Artifact.open(kept))


def planned(model: str | None = None, *, offline: bool = False) -> Source:
    """What `resolve` would open, of a checkpoint the type that it would be converted to. Raises EdgellmError."""
    source = models.locate(model or models.DEFAULT_MODEL, offline=offline)
    return replace(source, quant=_canonical(_type(source))) if source.is_checkpoint else source


def _tried(artifact: Artifact) -> Artifact:
    from edgellm.backends import trial

    trial.ensure(artifact)
    if artifact.foreign and artifact.path not in _said:
        _said.add(artifact.path)
        note(f"{artifact.path.name}: outside the verified families: runs, but edgellm did not check it")
    return artifact


def _type(source: Source) -> str:
    """The type to convert to: as asked for, `auto` by timing kernels, and else what is known of them recommends."""
    from edgellm.catalog import choosing

    if source.quant.lower() == "auto":
        return choosing.recommended(str(source.path), offline=True) or models.DEFAULT_TYPE
    if source.named or source.kept.exists():
        return source.quant
    return _remembered(source) or source.quant


def _remembered(source: Source) -> str | None:
    """What was recommended at the first use: looked for once, so that later uses find its conversion at once."""
    from edgellm.catalog import choosing
    from edgellm.fit.model import USUAL

    place = files.cache_dir("chosen") / source.kept.parent.name
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if (known := place.read_text(encoding="utf-8")) in USUAL:
            return known
    found = choosing.recommended(str(source.path), offline=True, measure=False)
    if found is not None:
        files.remember(place, found)
    return found


def _canonical(quant: str) -> str:
    from edgellm.convert.gguf.recipes import canonical
    from edgellm.convert.onnx import is_onnx

    return quant.strip().lower() if is_onnx(quant) else canonical(quant)


def _convert(source: Source) -> Path:
    """Where the conversion is: kept, or in a folder that this process removes at its end, where nothing can be kept."""
    from edgellm.catalog import conversion

    note(f"first use of {source.name}: converting it to {source.quant}, once")
    try:
        with files.storage_errors(source.kept):
            source.kept.parent.mkdir(parents=True, exist_ok=True)
        conversion.convert_checkpoint(source.path, source.kept, source.quant)
        return source.kept
    except StorageError as error:
        scratch = Path(tempfile.mkdtemp(prefix="edgellm-"))
        atexit.register(shutil.rmtree, scratch, ignore_errors=True)
        files.say_cache_fails(error)
        conversion.convert_checkpoint(source.path, scratch / source.kept.name, source.quant)
        return scratch / source.kept.name
