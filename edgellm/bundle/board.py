#!/usr/bin/env python3
"""Verify this bundle and run its model. Needs Python and nothing else: no network, no compiler, no pip.

    ./edgellm-bundle verify            files, processor, Python and memory; exit code 3 names what is wrong
    ./edgellm-bundle run "A question"  and so chat, serve, profile: edgellm's commands, with this device's settings
"""

import hashlib
import json
import os
import platform
import shutil
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
SUMS = "SHA256SUMS"
COMMANDS = ("run", "chat", "serve", "profile", "doctor")
GROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def main(argv):
    """Do what `argv` asks. Returns the exit code."""
    if not argv or argv[0] in ("-h", "--help"):
        print(__doc__.strip())
        return 0 if argv else 2
    if argv[0] == "verify":
        return verdict([*damage(), *unfit()])
    if argv[0] not in COMMANDS:
        return say("there is no command %r; there are: verify, %s" % (argv[0], ", ".join(COMMANDS)), 2)
    if argv[0] == "serve" and not facts()["serve"]:
        return say("this bundle was made without the server; make it with: edgellm bundle --with serve", 2)
    wrong = unfit() if (ROOT / "bundle.json").is_file() else damage()
    return verdict(wrong) if wrong else start(argv)


def facts():
    """What bundle.json says."""
    return json.loads((ROOT / "bundle.json").read_text(encoding="utf-8"))


def say(text, code):
    """One line on standard error; gives `code` back."""
    print("edgellm-bundle: " + text, file=sys.stderr)
    return code


def verdict(wrong):
    """Show what is wrong, each on its line. 3 when there is something, else 0."""
    for line in wrong:
        say(line, 3)
    if not wrong:
        print("%s: whole, and fit for this machine" % facts()["model"]["name"])
    return 3 if wrong else 0


def damage():
    """Files that are missing or not what they were."""
    try:
        lines = (ROOT / SUMS).read_text(encoding="utf-8").splitlines()
        sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    except (OSError, ValueError):
        return ["missing: " + SUMS + "; copy the bundle again"]
    wrong = [] if sums else [SUMS + " is empty; copy the bundle again"]
    for name, digest in sums.items():
        path = ROOT / name
        if not path.is_file():
            wrong.append("missing: %s; copy the bundle again" % name)
        elif sha256(path) != digest:
            wrong.append("changed: %s is not what it was (SHA-256); copy the bundle again" % name)
    return wrong


def unfit():
    """What this machine lacks."""
    try:
        needs = facts()["needs"]
    except (OSError, ValueError, KeyError) as error:
        return ["changed: bundle.json cannot be read (%s); copy the bundle again" % error]
    wrong = []
    if platform.machine() != needs["arch"]:
        wrong.append("processor: made for %s, this is %s" % (needs["arch"], platform.machine()))
    else:
        have = cpu_flags()
        lacking = [flag for flag in needs["cpu_features"] if have and flag not in have]
        if lacking:
            wrong.append("processor: it has no %s, which the engine was built with" % ", ".join(lacking))
    here = "%d.%d" % sys.version_info[:2]
    if here != needs["python"]:
        wrong.append("Python: made for %s, this is %s; start it with python%s" % (needs["python"], here, needs["python"]))
    free = available_bytes()
    if free is not None and free < needs["memory_bytes"]:
        wrong.append("memory: %d MB needed, %d MB free" % (needs["memory_bytes"] // 10**6, free // 10**6))
    return wrong


def cpu_flags():
    """The processor's features as /proc/cpuinfo names them; none where it says nothing."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    fields = (line.partition(":") for line in text.splitlines())
    return {flag for key, _, value in fields if key.strip().lower() in ("flags", "features") for flag in value.split()}


def available_bytes():
    """Memory that is free for a program: the system's word, or its group's limit where that is less."""
    found = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
    except OSError:
        pass
    for limit in GROUP_LIMITS:
        try:
            found.append(int(Path(limit).read_text()))
        except (OSError, ValueError):
            pass
    return min(found) if found else None


def sha256(path):
    """Hex SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def packages():
    """The folder with the wheels unpacked, made on first use: beside them, or in the cache where that is read-only."""
    name = "runtime-" + sha256(ROOT / SUMS)[:16]
    cache = os.environ.get("EDGELLM_CACHE") or os.path.expanduser("~/.cache/edgellm")
    for folder in (ROOT / ".runtime", Path(cache)):
        if (folder / name).is_dir():
            return folder / name
    wrong = damage()
    if wrong:
        sys.exit(verdict(wrong))
    for folder in (ROOT / ".runtime", Path(cache)):
        growing = folder / ("%s.%d" % (name, os.getpid()))
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
    sys.exit(say("the wheels cannot be unpacked: %s; EDGELLM_CACHE names a folder to use" % reason, 1))


def start(argv):
    """Become edgellm, with the bundle's model and settings; what `argv` says comes after and wins."""
    said = facts()
    environment = dict(os.environ, PYTHONPATH=str(packages()), PYTHONNOUSERSITE="1", HF_HUB_OFFLINE="1")
    model = [] if argv[0] == "doctor" else [str(ROOT / said["model"]["path"])]
    settings = [] if argv[0] in ("doctor", "profile") else said["settings"]
    command = [sys.executable, "-m", "edgellm", argv[0], *model, *settings, *argv[1:]]
    sys.stdout.flush()
    os.execve(sys.executable, command, environment)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
