"""Weights as ONNX Runtime's kernels want them, made once and mapped from disk ever after.

Left to itself the library repacks all matrices at every start: seconds, and a private copy of the model in
memory. A prepared copy loads in a fraction of that, and its pages belong to the page cache. It is good for one
library version and one CPU only, so both are part of its name; what no longer fits is simply made again.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgellm import digests, files
from edgellm.backends.ort import graph as ort_graph
from edgellm.errors import EdgellmError
from edgellm.machine import hardware

GRAPH, WEIGHTS, ABOUT = "model.onnx", "weights.bin", "about.json"
MIN_BYTES = 64 << 20  # below it, preparing at every start costs nothing to speak of
_FORMAT = 2
_ORPHANED = 24 * 3600  # seconds a copy is kept whose model is gone: it may have been moved
_GROWTH = 3  # a prepared copy holds the originals too, and repacked weights are a little larger


@dataclass(frozen=True)
class Prepared:
    """One prepared copy on disk."""

    path: Path
    model: str  # the graph it was made from
    size_bytes: int
    used_seconds_ago: float


def folder() -> Path:
    """Where prepared copies are kept. Created where that is possible."""
    return files.cache_dir("prepacked")


def kept() -> list[Prepared]:
    """All prepared copies, the latest used first."""
    found = []
    for path in folder().glob("[!.]*"):
        try:
            model = json.loads((path / ABOUT).read_text())["model"]
            used = time.time() - (path / ABOUT).stat().st_mtime
        except (OSError, ValueError, KeyError):
            continue
        found.append(Prepared(path, model, sum(f.stat().st_size for f in path.iterdir()), used))
    return sorted(found, key=lambda item: item.used_seconds_ago)


def clear() -> int:
    """Delete all prepared copies; return the bytes freed. A session that has one mapped keeps its pages."""
    freed = sum(item.size_bytes for item in kept())
    for path in folder().glob("[!.]*"):
        shutil.rmtree(path, ignore_errors=True)
    return freed


def load(
    model: Path, options: Callable[[], Any], data: tuple[Path, ...], notes: list[str]
) -> ort_graph.Graph:
    """Open `model`, whose weights are in `data`, through its prepared copy, making that first if need be.

    `options` gives fresh session options. Falls back to the plain graph, and says so, when there is no room or
    the copy cannot be used.
    """
    providers = ["CPUExecutionProvider"]
    copy = folder() / _key(model, data)
    try:
        with files.turn(str(copy)):  # another process may be preparing it
            if not (copy / ABOUT).is_file():
                _prepare(model, options(), data, copy)
                notes.append(f"prepared {model.parent.name}'s weights for this CPU, once; see: edgellm cache")
        graph = ort_graph.load(copy / GRAPH, options(), providers)
        _forget_pages(copy / WEIGHTS)
        with contextlib.suppress(OSError):  # a cache that may only be read
            (copy / ABOUT).touch()
        return graph
    except (EdgellmError, OSError) as error:
        shutil.rmtree(copy, ignore_errors=True)
        notes.append(f"weights could not be prepared for this CPU ({error}); starting without, slower")
        return ort_graph.load(model, options(), providers)


def _forget_pages(weights: Path) -> None:
    """Unmap the pages that loading has touched, on Linux.

    The library packs every matrix anew to find its packed copy, so originals and copies are all resident, and
    running needs half of them. The pages are clean: what is used comes back from the page cache.
    """
    if sys.platform != "linux":
        return
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    name = str(weights.resolve())
    for line in Path("/proc/self/maps").read_text("utf-8", "surrogateescape").splitlines():
        if line.endswith(name):
            start, end = (int(address, 16) for address in line.split(maxsplit=1)[0].split("-"))
            madvise(start, end - start, mmap.MADV_DONTNEED)


def _drop_orphans() -> None:
    """Delete copies of models that are no longer where they were, and that no other place had a use for."""
    for item in kept():
        if item.used_seconds_ago > _ORPHANED and not Path(item.model).exists():
            shutil.rmtree(item.path, ignore_errors=True)


def _prepare(model: Path, options: Any, data: tuple[Path, ...], copy: Path) -> None:
    _drop_orphans()
    files.check_space(copy.parent, _GROWTH * sum(file.stat().st_size for file in data))
    with files.atomic_path(copy, force=True) as temporary:
        temporary.mkdir()
        options.optimized_model_filepath = str(temporary / GRAPH)
        entries = {
            "session.optimized_model_external_initializers_file_name": WEIGHTS,
            "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
            "session.save_external_prepacked_constant_initializers": "1",
        }
        for key, value in entries.items():
            options.add_session_config_entry(key, value)
        ort_graph.load(model, options, ["CPUExecutionProvider"])
        (temporary / ABOUT).write_text(json.dumps({"model": str(model), "made": time.time()}) + "\n")


def _key(model: Path, data: tuple[Path, ...]) -> str:
    """A name for this model on this machine: what its files hold, library version, CPU features."""
    cpu = hardware.cpu()
    more = (str(_FORMAT), ort_graph.library().__version__, cpu.name, *sorted(cpu.flags))
    return digests.of_all((model, *data), *more)[:16]
