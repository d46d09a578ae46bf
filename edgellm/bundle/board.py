#!/usr/bin/env python3
"""Verify this bundle and run its model. Needs Python and nothing else: no network, no compiler, no pip.

./edgellm-bundle verify            files, processor, Python and memory; exit code 3 names what is wrong
./edgellm-bundle run "A question"  and so chat, serve: edgellm's commands, with this device's settings
./edgellm-bundle profile           and so tune, doctor: measure it here
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
SUMS = "SHA256SUMS"
COMMANDS = ("run", "chat", "serve", "profile", "tune", "doctor")
#: Those that open the model as the device's settings say; the others look for settings of their own.
SET = ("run", "chat", "serve")
#: Of control groups, version 2 and 1: where, the controller's name, limit, use, and what of it the kernel gives back.
GROUPS = (
    ("/sys/fs/cgroup", "", "memory.max", "memory.current", "inactive_file"),
    (
        "/sys/fs/cgroup/memory",
        "memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


def main(argv: list[str]) -> int:
    """Do what `argv` asks. Returns the exit code."""
    if not argv or argv[0] in ("-h", "--help"):
        print((__doc__ or "").strip())
        return 0 if argv else 2
    if argv[0] == "verify":
        return verdict([*damage(), *unfit()])
    if argv[0] not in COMMANDS:
        return say(f"there is no command {argv[0]!r}; there are: verify, {', '.join(COMMANDS)}", 2)
    if wrong := unfit():
        return verdict(wrong)
    if argv[0] == "serve" and not facts()["serve"]:
        return say("this bundle was made without the server; make it with: edgellm bundle --with serve", 2)
    start(argv)
    return 0


def facts() -> dict[str, Any]:
    """What bundle.json says."""
    found: dict[str, Any] = json.loads((ROOT / "bundle.json").read_text(encoding="utf-8"))
    return found


def say(text: str, code: int) -> int:
    """One line on standard error; gives `code` back."""
    print("edgellm-bundle: " + text, file=sys.stderr)
    return code


def verdict(wrong: list[str]) -> int:
    """Show what is wrong, each on its line. 3 when there is something, else 0."""
    for line in wrong:
        say(line, 3)
    if not wrong:
        print(f"{facts()['model']['name']}: whole, and fit for this machine")
    return 3 if wrong else 0


def damage() -> list[str]:
    """Files that are missing or not what they were."""
    try:
        lines = (ROOT / SUMS).read_text(encoding="utf-8").splitlines()
        sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    except (OSError, ValueError):
        return [f"missing: {SUMS}; copy the bundle again"]
    wrong = [] if sums else [f"{SUMS} is empty; copy the bundle again"]
    for name, digest in sums.items():
        path = ROOT / name
        if not path.is_file():
            wrong.append(f"missing: {name}; copy the bundle again")
        elif sha256(path) != digest:
            wrong.append(f"changed: {name} is not what it was (SHA-256); copy the bundle again")
    return wrong


def unfit() -> list[str]:
    """What this machine lacks."""
    try:
        needs = facts()["needs"]
    except (OSError, ValueError, KeyError) as error:
        return [f"changed: bundle.json cannot be read ({error}); copy the bundle again"]
    wrong = []
    if platform.machine() != needs["arch"]:
        wrong.append(f"processor: made for {needs['arch']}, this is {platform.machine()}")
    else:
        have = cpu_flags()
        lacking = [flag for flag in needs["cpu_features"] if have and flag not in have]
        if lacking:
            wrong.append(f"processor: it has no {', '.join(lacking)}, which the engine was built with")
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if here != needs["python"]:
        made = needs["python"]
        wrong.append(f"Python: made for {made}, this is {here}; start it with: python{made} edgellm-bundle")
    library, version = platform.libc_ver()
    if library != "glibc" or numbers(version) < numbers(needs["glibc"]):
        there = f"{library} {version}".strip() or "another"
        wrong.append(f"C library: glibc {needs['glibc']} needed, this is {there}; take a newer system")
    free = available_bytes()
    if free is not None and free < needs["memory_bytes"]:
        wrong.append(f"memory: {needs['memory_bytes'] // 10**6} MB needed, {free // 10**6} MB free")
    return wrong


def cpu_flags() -> set[str]:
    """The processor's features as /proc/cpuinfo names them; none where it says nothing."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    fields = (line.partition(":") for line in text.splitlines())
    return {
        flag
        for key, _, value in fields
        if key.strip().lower() in ("flags", "features")
        for flag in value.split()
    }


def numbers(version: str) -> list[int]:
    """ "2.36" as numbers, which compare as versions do."""
    return [int(part) for part in version.split(".") if part.isdecimal()]


def available_bytes() -> int | None:
    """Memory that is free for a program: the system's word, or what its control groups leave where that is less."""
    found = list(left_by_groups())
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
    except OSError:
        pass
    return min(found) if found else None


def left_by_groups() -> Iterator[int]:
    """What each memory limit leaves, of the groups that this process is in: a group's holds for all below it."""
    try:
        membership = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        membership = []
    for root, controller, limit, used, given_back in GROUPS:
        paths = [""]  # a container sees its own group as the root
        for line in membership:
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                parts = [part for part in path.split("/") if part not in ("", "..")]
                paths += ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
        for path in paths:
            folder = Path(root, path)
            with contextlib.suppress(OSError, ValueError):  # no such group; "max"
                most = int((folder / limit).read_text())
                stat = dict(line.split(" ", 1) for line in (folder / "memory.stat").read_text().splitlines())
                yield max(0, most - int((folder / used).read_text()) + int(stat.get(given_back, 0)))


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def packages() -> Path:
    """The folder with the wheels unpacked, made on first use: beside them, or in the cache where that is read-only."""
    if not (ROOT / SUMS).is_file():
        sys.exit(verdict(damage()))
    name = "runtime-" + sha256(ROOT / SUMS)[:16]
    cache = os.environ.get("EDGELLM_CACHE") or "~/.cache/edgellm"
    folders = (ROOT / ".runtime", Path(cache).expanduser())
    for folder in folders:
        if (folder / name).is_dir():
            return folder / name
    if wrong := damage():
        sys.exit(verdict(wrong))
    reason: OSError | None = None
    for folder in folders:
        growing = folder / f"{name}.{os.getpid()}"
        try:
            growing.mkdir(parents=True)
            for wheel in sorted((ROOT / "wheels").glob("*.whl")):
                with zipfile.ZipFile(str(wheel)) as archive:
                    archive.extractall(str(growing))
            growing.rename(folder / name)
        except OSError as error:
            shutil.rmtree(str(growing), ignore_errors=True)
            if (folder / name).is_dir():  # another start of this bundle was faster
                return folder / name
            reason = error
            continue
        return folder / name
    sys.exit(say(f"the wheels cannot be unpacked: {reason}; EDGELLM_CACHE names a folder to use", 1))


def start(argv: list[str]) -> None:
    """Become edgellm, with the bundle's model and settings; what `argv` says comes after and wins."""
    said = facts()
    environment = dict(os.environ, PYTHONPATH=str(packages()), PYTHONNOUSERSITE="1", HF_HUB_OFFLINE="1")
    model = str(ROOT / said["model"]["path"])
    settings = said["settings"] if argv[0] in SET else []
    command = [sys.executable, "-m", "edgellm", argv[0], model, *settings, *argv[1:]]
    sys.stdout.flush()
    os.execve(sys.executable, command, environment)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
