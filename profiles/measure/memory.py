"""Memory of this process by phase: the highest it rose to, and what it was made of at the end.

On Linux nothing is sampled: writing 5 to `clear_refs` sets the kernel's own high-water mark (`VmHWM`) back to
the present size, so the mark read at the end of a phase is that phase's peak, however short it was. What it
is made of comes from `smaps_rollup`, which walks the page tables (milliseconds: never inside a timed part).
Elsewhere psutil tells the size at the end of a phase, and the peak only since the process began.
Kernel: Documentation/filesystems/proc.rst. Weights mapped from a file are resident but not anonymous, and
shared among processes: that is why RSS, PSS and anonymous memory disagree, and all three are kept.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from edgellm.profiles.result.result import MemoryPhase, MemoryRecord, MemorySplit
from edgellm.session import Buffers

_KIB = 1024


class MemoryWatch:
    """Records phases one after another. `weights` are the model's files, to tell them from other mappings.

    A folder among them stands for whatever lies under it.
    """

    def __init__(self, weights: Iterable[Path] = (), proc: Path = Path("/proc/self")) -> None:
        self._weights = frozenset(str(path.resolve()) for path in weights)
        self._proc = proc
        self._phases: list[MemoryPhase] = []
        self._can_reset = self._reset()
        self._has_rollup = (proc / "smaps_rollup").exists()

    def end_phase(self, phase: str) -> MemoryPhase:
        """Close the phase that began with the last call (or with the watch), and begin the next one."""
        record = self._linux(phase) if self._has_rollup else _portable(phase)
        self._phases.append(record)
        self._reset()
        return record

    def record(self) -> MemoryRecord:
        """All phases so far."""
        reason = None
        if not self._has_rollup:
            reason = f"{sys.platform} tells neither the peak of a phase nor what memory is made of"
        elif not self._can_reset:
            reason = f"{self._proc}/clear_refs cannot be written: peaks are since the process began"
        return MemoryRecord(tuple(self._phases), "phase" if self._can_reset else "process", reason)

    def _reset(self) -> bool:
        try:
            (self._proc / "clear_refs").write_text("5")
        except OSError:
            return False
        return True

    def _linux(self, phase: str) -> MemoryPhase:
        peak = _kib_fields((self._proc / "status").read_text().splitlines()).get("VmHWM")
        now = _kib_fields((self._proc / "smaps_rollup").read_text().splitlines())
        resident, anonymous = now["Rss"], now["Anonymous"]
        return MemoryPhase(
            phase=phase,
            peak=None if peak is None else max(peak, resident),
            resident=resident,
            anonymous=anonymous,
            file=resident - anonymous,
            weights_mapped=self._weights_mapped(),
            swap=now.get("Swap"),
            pss=now.get("Pss"),
        )

    def _weights_mapped(self) -> int:
        """Resident bytes of the mappings of the model's files."""
        if not self._weights:
            return 0
        with (self._proc / "smaps").open(encoding="utf-8", errors="surrogateescape") as lines:
            return sum(rss for path, rss in mappings(lines) if self._is_weight(path))

    def _is_weight(self, path: str) -> bool:
        return path in self._weights or any(str(parent) in self._weights for parent in Path(path).parents)


def take_apart(phases: Iterable[MemoryPhase], buffers: Buffers) -> MemorySplit | None:
    """The highest peak in parts, with what the engine set aside; None where the phases do not tell.

    Mapped weights are resident as far as they were touched, copies of them and a cleared KV cache wholly. Scratch
    memory is what private memory grew by after loading: pages of it that no graph ever touched are not there.
    """
    known = {phase.phase: phase for phase in phases}
    loaded, top = known.get("load"), max(known.values(), key=lambda phase: phase.peak or 0, default=None)
    if loaded is None or top is None or top.peak is None or None in (top.anonymous, loaded.anonymous):
        return None
    weights = (top.weights_mapped or 0) + buffers.repacked
    if not any(phase.weights_mapped for phase in known.values()):  # read into memory, not mapped
        weights += buffers.weights
    grown = top.peak - (top.file or 0) - (loaded.anonymous or 0)
    evaluated = top.phase not in ("start", "load")
    compute = min(max(0, grown), buffers.compute) if evaluated else 0
    weights = min(weights, top.peak)
    cleared = evaluated or buffers.source == "engine log"  # llama.cpp's cache is there from the start
    kv = min(buffers.kv, top.peak - weights - compute) if cleared else 0
    return MemorySplit(weights, kv, compute, top.peak - weights - kv - compute)


def mappings(lines: Iterable[str]) -> Iterator[tuple[str, int]]:
    """(path, resident bytes) of each mapping of a /proc/*/smaps file; the path is empty for anonymous ones."""
    path = ""
    for line in lines:
        head, _, rest = line.partition(" ")
        if head == "Rss:":
            yield path, int(rest.split()[0]) * _KIB
        elif not head.endswith(":"):
            fields = line.split(maxsplit=5)
            path = fields[5].rstrip("\n") if len(fields) > 5 else ""


def _kib_fields(lines: Iterable[str]) -> dict[str, int]:
    """`Name:  123 kB` lines as bytes."""
    fields = {}
    for line in lines:
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            fields[name] = int(value[:-3]) * _KIB
    return fields


def _portable(phase: str) -> MemoryPhase:
    """What psutil tells everywhere: the size now; the peak since the process began."""
    import psutil

    info = psutil.Process().memory_info()
    peak = getattr(info, "peak_wset", None)
    if peak is None:
        peak = _getrusage_peak()
    return MemoryPhase(phase=phase, peak=peak, resident=int(info.rss))


def _getrusage_peak() -> int | None:
    try:
        import resource
    except ImportError:  # Windows, where psutil told the peak already
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * _KIB
