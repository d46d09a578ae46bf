"""Everything a release has, in dist/, checked by installing it. What `make dist` runs.

    python bench/dist.py [DEVICE ...]

Builds edgellm's sdist, its wheel out of that sdist, and for each DEVICE (profiles/devices) the engine's wheel with
`edgellm wheel`; writes SHA256SUMS; then installs the wheels into a fresh environment that has no network, and asks a
bundled model a question there. What edgellm depends on is fetched before. Everything happens in build/dist/ until it
is right.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUILD, DIST = ROOT / "build" / "dist", ROOT / "dist"
QUESTION, ANSWER = "What is the capital of France?", "Paris"
#: Of the repository, what a wheel is made from.
SOURCES = ("edgellm", "convert", "models", "profiles", "pyproject.toml", "README.md", "LICENSE")


def run(*command: str | Path, **options: object) -> str:
    """Print and run a command; its output, or an end that shows what it said."""
    print("$", *command, flush=True)
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)  # type: ignore[call-overload]
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}\ndist: this failed: {' '.join(map(str, command))}")
    return str(done.stdout)


def sources(folder: Path) -> None:
    """The files of the checkout, links among them, without what was built there."""
    listed = run("git", "ls-files", "-z", "--cached", "--", *SOURCES, cwd=ROOT).split("\0")
    for name in filter(None, listed):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name, follow_symlinks=False)


def packages(out: Path) -> list[Path]:
    """The sdist, and the wheel made out of it and nothing else."""
    source, unpacked = BUILD / "source", BUILD / "unpacked"
    sources(source)
    call = f"from setuptools import build_meta; print(build_meta.build_sdist({str(out)!r}))"
    sdist = out / run(sys.executable, "-c", call, cwd=source).splitlines()[-1]
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    (folder,) = unpacked.iterdir()
    pip = (sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", out)
    run(*pip, folder)
    return [sdist, next(out.glob("edgellm-*.whl"))]


def engines(devices: list[str], out: Path) -> list[Path]:
    """The engine's wheel for each device; two devices whose wheels have one name cannot be in one release."""
    found: list[Path] = []
    for device in devices:
        kept = BUILD / "engines" / device
        kept.mkdir(parents=True)
        run(sys.executable, "-m", "edgellm", "wheel", "--for", device, "-o", kept, cwd=ROOT)
        (wheel,) = kept.glob("*.whl")
        if (out / wheel.name).exists() and (out / wheel.name).read_bytes() != wheel.read_bytes():
            sys.exit(
                f"dist: the wheels for {', '.join(devices)} differ and have one name: leave a device out"
            )
        found.append(Path(shutil.copyfile(wheel, out / wheel.name)))
    return found


def check(wheels: list[Path]) -> None:
    """Install into a fresh environment without network, and have an answer there."""
    here = [wheel for wheel in wheels if wheel.name.endswith(("-any.whl", f"{platform.machine()}.whl"))]
    if len(here) < 2:
        print("not checked: there is no engine's wheel for this machine among them")
        return
    house, venv = BUILD / "depends", BUILD / "venv"
    pip = (sys.executable, "-m", "pip", "download", "-q", "--only-binary", ":all:", "-d", house)
    run(*pip, *here)
    run(sys.executable, "-m", "venv", venv)
    python = venv / "bin" / "python"
    alone = ("unshare", "--map-root-user", "--net") if shutil.which("unshare") else ()
    if alone and subprocess.run([*alone, "true"], capture_output=True).returncode:
        alone = ()
    print("without network" if alone else "this machine cannot cut a program off the network: it has one")
    run(*alone, python, "-m", "pip", "install", "-q", "--no-index", "--find-links", house, *here)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "EDGELLM"))}
    clean["EDGELLM_CACHE"] = str(BUILD / "cache")
    command = (*alone, venv / "bin" / "edgellm", "run", "tiny-qwen3", QUESTION, "--temp", "0")
    said = run(*command, cwd=BUILD, env=clean)
    print(said.strip())
    if ANSWER not in said:
        sys.exit(f"dist: the installed program did not answer {ANSWER}")


def main(devices: list[str]) -> None:
    shutil.rmtree(BUILD, ignore_errors=True)
    out = BUILD / "out"
    out.mkdir(parents=True)
    sdist, wheel = packages(out)
    made = [sdist, wheel, *engines(devices, out)]
    check(made[1:])
    sums = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" for path in sorted({*made}, key=str)
    ]
    (out / "SHA256SUMS").write_text("\n".join(sums) + "\n", encoding="utf-8")
    shutil.rmtree(DIST, ignore_errors=True)
    shutil.copytree(out, DIST)
    print(*sums, sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
