"""Kernel speeds as a file: measured once a machine, taken along to search for another one."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edgellm import files
from edgellm.errors import ArtifactError, UsageError
from edgellm.recipes import kernels
from edgellm.recipes.kernels import Speed

_KIND = "edgellm kernel speeds 1"


@dataclass(frozen=True)
class Speeds:
    """Seconds a weight by ggml type, of one machine."""

    machine: str
    n_threads: int
    types: Mapping[str, Speed]

    def of(self, type_: str) -> Speed:
        """One type's. Raises UsageError when it was not measured."""
        if type_ not in self.types:
            raise UsageError(f"the kernel speeds of {self.machine} have no {type_}; measure them again")
        return self.types[type_]


def measure(types: Sequence[str], n_threads: int, report: Callable[[int], None] = lambda _: None) -> Speeds:
    """This machine's. Raises EngineError."""
    found = {}
    for index, name in enumerate(types):
        found[name] = kernels.measure(name, n_threads)
        report(index + 1)
    return Speeds(f"{platform.node()} ({platform.machine()})", n_threads, found)


def save(path: Path, speeds: Speeds, *, force: bool = False) -> None:
    """Write atomically. Raises OutputExistsError, StorageError."""
    data = {"kind": _KIND, "machine": speeds.machine, "n_threads": speeds.n_threads}
    types = {name: asdict(speed) for name, speed in speeds.types.items()}
    with files.atomic_path(path, force=force) as temporary:
        temporary.write_text(
            json.dumps(data | {"seconds_per_weight": types}, indent=1) + "\n", encoding="utf-8"
        )


def load(path: Path) -> Speeds:
    """Read what `save` wrote. Raises ArtifactError."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["kind"] != _KIND:
            raise ValueError(f"kind {data['kind']!r}")
        types = {name: Speed(**values) for name, values in data["seconds_per_weight"].items()}
        return Speeds(str(data["machine"]), int(data["n_threads"]), types)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"{path}: holds no kernel speeds ({error}); make them with edgellm recipe speed"
        ) from error
