"""What the kernel's control groups let this process have: CPU time and memory, version 1 and 2, ancestors included.

A group's limit holds for all groups below it, so the tightest on the way to the root counts. Everything is read
under `root`, usually /sys/fs/cgroup; what is not there limits nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

#: Version 1 says "no limit" with the largest multiple of a page that fits in 64 bits.
_UNLIMITED = 1 << 60


def cpus(root: Path, membership: str) -> float | None:
    """CPUs the quota allows (1.5 means one and a half), None when unlimited. `membership`: /proc/self/cgroup."""
    quotas = [_quota_v2(folder) for folder in _groups(root, membership, "")]
    quotas += [_quota_v1(folder) for folder in _groups(root, membership, "cpu")]
    return min((quota for quota in quotas if quota is not None), default=None)


def memory_left(root: Path, membership: str) -> int | None:
    """Bytes left before a limit, file pages that the kernel would drop counted as free; None: no limit."""
    left = [
        _left(folder, "memory.max", "memory.current", "inactive_file")
        for folder in _groups(root, membership, "")
    ]
    left += [
        _left(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        for folder in _groups(root, membership, "memory")
    ]
    return min((n for n in left if n is not None), default=None)


def _groups(root: Path, membership: str, controller: str) -> Iterator[Path]:
    """This process's group and its ancestors; the empty controller is version 2's one hierarchy.

    A container often sees its own group as the root while /proc names the host's path, so the root always counts.
    """
    base = root / controller if controller else root
    for line in membership.splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if names.split(",").count(controller):
            parts = [part for part in path.split("/") if part not in ("", "..")]
            for length in range(len(parts), 0, -1):
                yield base.joinpath(*parts[:length])
    yield base


def _quota_v2(folder: Path) -> float | None:
    words = _text(folder / "cpu.max").split()
    return int(words[0]) / int(words[1]) if len(words) == 2 and words[0] != "max" else None


def _quota_v1(folder: Path) -> float | None:
    quota, period = _int(folder / "cpu.cfs_quota_us"), _int(folder / "cpu.cfs_period_us")
    return quota / period if quota and quota > 0 and period else None


def _left(folder: Path, limit_name: str, used_name: str, droppable: str) -> int | None:
    limit, used = _int(folder / limit_name), _int(folder / used_name)
    if limit is None or used is None or limit >= _UNLIMITED:
        return None
    stat = dict(line.split(" ", 1) for line in _text(folder / "memory.stat").splitlines() if " " in line)
    return max(0, limit - used + int(stat.get(droppable, 0)))


def _int(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.lstrip("-").isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
