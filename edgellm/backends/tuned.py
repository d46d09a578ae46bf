"""What tuning found on this machine, remembered per machine, model and library build; read whenever a model is opened.

Light: it knows no engine, and a missing or damaged record means that nothing is remembered.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from edgellm import files
from edgellm.formats.artifact import Artifact
from edgellm.machine import hardware
from edgellm.session import EngineOptions

_FORMAT = 1

#: Settings that were measured together: where the user sets one, none of the others is touched.
_TOGETHER = (
    ("flash_attn", "type_k", "type_v"),
    ("n_threads", "n_threads_batch"),
    ("n_batch", "n_ubatch"),
    ("repack",),
    ("spin_us",),
)

#: A setting as people type it; None: no flag of its own.
_FLAGS = {
    "flash_attn": "-fa {}",
    "type_k": "-ctk {}",
    "type_v": "-ctv {}",
    "n_threads": "-t {}",
    "n_threads_batch": "-tb {}",
    "n_ubatch": "-ub {}",
    "repack": "--no-repack",
    "spin_us": "spinning {} us",
}


@dataclass(frozen=True)
class Record:
    """One remembered search."""

    model: str
    settings: Mapping[str, Any]  # EngineOptions' fields that differ from the defaults
    how: str  # full | quick | given up: why nothing was found
    made: str  # ISO 8601
    depths: tuple[int, ...] = ()
    busy: float | None = None  # share of the processors that other programs used; None: not known
    rows: tuple[
        Mapping[str, Any], ...
    ] = ()  # phase, depth, tokens per second before and after, the ratio's interval

    @property
    def flags(self) -> str:
        """The settings as one would type them."""
        return " ".join(_FLAGS[name].format(value) for name, value in self.settings.items())


def enabled() -> bool:
    """Whether tuned settings are used at all: `EDGELLM_NO_TUNE` turns them off."""
    return not os.environ.get("EDGELLM_NO_TUNE")


def path(artifact: Artifact, build: str) -> Path:
    """Where the record for this machine, model and `build` of the engine's library is kept."""
    cpu = hardware.cpu()
    machine = [cpu.name, *sorted(cpu.flags), f"{cpu.n_logical}", f"{hardware.default_threads()}"]
    key = hashlib.sha256("\n".join([f"{_FORMAT}", build, *machine, *_shape(artifact)]).encode()).hexdigest()[
        :16
    ]
    return files.cache_dir("tuned") / f"{key}.json"


def read(artifact: Artifact, build: str) -> Record | None:
    """What is remembered, None when nothing is."""
    try:
        found = json.loads(path(artifact, build).read_text(encoding="utf-8"))
        found["depths"], found["rows"] = tuple(found["depths"]), tuple(found["rows"])
        record = Record(**found)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    known = {field.name for field in fields(EngineOptions)}
    return record if known.issuperset(record.settings) and _FLAGS.keys() >= record.settings.keys() else None


def write(artifact: Artifact, build: str, record: Record) -> None:
    """Remember."""
    text = json.dumps(asdict(record), ensure_ascii=False, indent=1)
    files.write_text(path(artifact, build), text + "\n")


def forget(artifact: Artifact, build: str) -> bool:
    """Forget; whether there was something."""
    target = path(artifact, build)
    there = target.exists()
    target.unlink(missing_ok=True)
    return there


def apply(artifact: Artifact, build: str, options: EngineOptions, notes: list[str]) -> EngineOptions:
    """`options` with what is open filled by what is remembered, and a note saying which; for the CPU alone."""
    record = read(artifact, build) if options.tuned and enabled() else None
    used = open_settings(options, record.settings) if record else {}
    if record and used:
        notes.append(f"tuned for this machine: {replace(record, settings=used).flags} (edgellm tune --show)")
    return replace(options, **used)


def open_settings(options: EngineOptions, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `settings` that the user left open, together with all they were measured with."""
    default = EngineOptions()
    free = [
        name
        for group in _TOGETHER
        if all(getattr(options, n) == getattr(default, n) for n in group)
        for name in group
    ]
    return {name: value for name, value in settings.items() if name in free}


def _shape(artifact: Artifact) -> list[str]:
    """What speed depends on: the numbers of the architecture and the types. Not the values of the weights."""
    numbers = {k: v for k, v in artifact.metadata.items() if k.startswith(f"{artifact.architecture}.")}
    parts = [artifact.format, artifact.architecture, artifact.quantization, f"{artifact.size_bytes}"]
    return [*parts, *(f"{key}={value}" for key, value in sorted(numbers.items()))]
