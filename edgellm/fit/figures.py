"""What a machine's kernels were seen to do, as data: seconds a weight by kernel, and what a token costs beside them.

Kept per machine, build of the engines' libraries and number of threads. probe.py measures, speed.py adds up.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from edgellm import files
from edgellm.errors import ArtifactError
from edgellm.machine import hardware

_FORMAT = 3
_ROW = 1024  # weights in a usual row, by which two times of one kernel are compared


@dataclass(frozen=True)
class Kernel:
    """Seconds of one token decoded, and of each of many: by weight, and by value that comes out of a matrix.

    Short rows have many outputs for their weights, and kernels begin and end with each.
    """

    decode: float
    decode_output: float
    prefill: float
    prefill_output: float

    def best(self, other: Kernel) -> Kernel:
        """Of two times of one kernel the less disturbed: what else runs on a machine only adds."""
        decode = min(self, other, key=lambda k: k.decode + k.decode_output / _ROW)
        prefill = min(self, other, key=lambda k: k.prefill + k.prefill_output / _ROW)
        return Kernel(decode.decode, decode.decode_output, prefill.prefill, prefill.prefill_output)


@dataclass(frozen=True)
class Beside:
    """What one engine's token costs beside its matrices, in seconds and bytes."""

    token: float  # of a decoded token, whatever the model
    layer: float  # of a decoded token, by layer
    row: float  # of a decoded token, by row of the vocabulary: logits checked and drawn from
    head: float  # by position attended to and head
    head_value: float  # by position attended to, head and value of it
    prefill_head: float  # the same for each of many tokens
    prefill_head_value: float
    runtime_bytes: int  # the process with its libraries, beside what a model takes

    def mean(self, other: Beside) -> Beside:
        """Of two times. They are differences of launches, which err to either side."""
        names = [each.name for each in fields(self) if each.name != "runtime_bytes"]
        both = {name: (getattr(self, name) + getattr(other, name)) / 2 for name in names}
        return replace(self, runtime_bytes=min(self.runtime_bytes, other.runtime_bytes), **both)


@dataclass(frozen=True)
class Figures:
    """One engine on one machine."""

    engine: str
    n_threads: int
    machine: str
    build: str
    made: str  # ISO 8601
    kernels: Mapping[str, Kernel] = field(default_factory=dict)
    beside: Beside | None = None
    read_bytes_per_second: float | None = None  # the machine's ceilings, for other devices' sake
    operations_per_second: float | None = None  # int8

    def with_kernels(self, kernels: Mapping[str, Kernel]) -> Figures:
        """With these as well."""
        return replace(self, kernels={**self.kernels, **kernels})


def path(engine: str, n_threads: int, build: str) -> Path:
    """Where this machine's figures are kept."""
    cpu = hardware.cpu()
    key = "\n".join(
        [f"{_FORMAT}", engine, f"{n_threads}", build, cpu.name, *sorted(cpu.flags), f"{cpu.n_logical}"]
    )
    return files.cache_dir("kernels") / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def read(engine: str, n_threads: int, build: str) -> Figures | None:
    """What is remembered, None where nothing is."""
    try:
        return parse(json.loads(path(engine, n_threads, build).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def parse(found: dict[str, object]) -> Figures:
    """From what `write` kept. Raises TypeError, KeyError."""
    from edgellm.profiles.result.codec import from_plain

    return from_plain(Figures, found)


def save(file: Path, figures: Figures, *, force: bool = False) -> None:
    """Write a file to take to another machine. Raises OutputExistsError, StorageError."""
    with files.atomic_path(file, force=force) as temporary:
        temporary.write_text(json.dumps(asdict(figures), indent=1) + "\n", encoding="utf-8")


def load(file: Path) -> Figures:
    """Read what `save` wrote. Raises ArtifactError."""
    try:
        return parse(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ArtifactError(
            f"{file}: holds no kernel speeds ({error}); make them with edgellm recipe speed"
        ) from error


def write(figures: Figures) -> None:
    """Remember."""
    target = path(figures.engine, figures.n_threads, figures.build)
    files.remember(target, json.dumps(asdict(figures), indent=1) + "\n")
