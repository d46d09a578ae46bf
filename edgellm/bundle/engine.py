"""llama-cpp-python built for another machine: which target, which compiler, where the wheel is kept."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from edgellm import files
from edgellm.errors import EdgellmError
from edgellm.profiles.devices import Device

#: The release whose llama.cpp is proven with this edgellm (the Makefile's ENGINE).
VERSION = "0.3.36"
#: Without OpenMP the board needs no libgomp: ggml's own threads do its work.
_EVERYWHERE = ("-DGGML_NATIVE=OFF", "-DGGML_OPENMP=OFF", "-DGGML_RPC=ON", "-DLLAVA_BUILD=OFF")


@dataclass(frozen=True)
class Target:
    """A kind of processor that a wheel is built for."""

    name: str
    arch: str  # as `uname -m` says it
    features: tuple[str, ...]  # that it must have, as /proc/cpuinfo names them
    flags: tuple[str, ...]  # of ggml's CMake (ggml/CMakeLists.txt)


_X86 = ("sse4_2", "avx", "avx2", "fma", "f16c", "bmi2")
#: The most demanding first: a device gets the first whose features it has.
TARGETS = (
    Target("armv8.6-i8mm", "aarch64", ("asimddp", "i8mm"), ("-DGGML_CPU_ARM_ARCH=armv8.2-a+dotprod+i8mm",)),
    Target("armv8.2-dotprod", "aarch64", ("asimddp",), ("-DGGML_CPU_ARM_ARCH=armv8.2-a+dotprod",)),
    Target("armv8", "aarch64", ("asimd",), ("-DGGML_CPU_ARM_ARCH=armv8-a",)),
    Target(
        "x86-64-v4",
        "x86_64",
        (*_X86[1:5], "avx512f", "avx512bw"),
        ("-DGGML_AVX512=ON",),
    ),
    Target("x86-64-v3", "x86_64", _X86[1:5], ()),
    Target(
        "x86-64-v2",
        "x86_64",
        (),
        tuple(f"-DGGML_{name}=OFF" for name in ("AVX", "AVX2", "FMA", "F16C", "BMI2")),
    ),
)


def target(device: Device) -> Target:
    """The most of what `device` has. Raises EdgellmError where no wheel can be built for it."""
    for each in TARGETS:
        if (
            device.system == "linux"
            and each.arch == device.arch
            and {*each.features} <= {*device.cpu_features}
        ):
            return each
    raise EdgellmError(f"no wheel is built for {device.title} ({device.system}, {device.arch})")


def kept(device: Device) -> Path | None:
    """The wheel that was built for `device` before, if there is one."""
    return next(iter(sorted(_folder(target(device)).glob("*.whl"))), None)


def build(device: Device) -> Path:
    """The wheel for `device`: the kept one, or else a new one, which takes minutes. Raises EdgellmError."""
    wanted = target(device)
    with files.turn(str(_folder(wanted))):
        if (wheel := kept(device)) is None:
            with files.atomic_path(_folder(wanted), force=True) as growing:
                _compile(wanted, growing)
            wheel = kept(device)
    assert wheel is not None
    return wheel


def arguments(wanted: Target) -> tuple[str, ...]:
    """What CMake is told. Raises EdgellmError when the compiler for another architecture is not installed."""
    told = (*_EVERYWHERE, *wanted.flags)
    if wanted.arch == "x86_64":  # GCC 12 drops stores that AMX needs (llama.cpp issue 20824)
        told += ("-DCMAKE_CXX_FLAGS=-fno-tree-dse -fno-dse",)
    if wanted.arch == platform.machine():
        return told
    prefix = f"{wanted.arch}-linux-gnu"
    if shutil.which(f"{prefix}-g++") is None:
        package = prefix.replace("_", "-")
        raise EdgellmError(
            f"there is no {prefix}-g++ to compile for {wanted.arch} with; "
            f"on Debian: apt install gcc-{package} g++-{package}"
        )
    return (
        *told,
        "-DCMAKE_SYSTEM_NAME=Linux",
        f"-DCMAKE_SYSTEM_PROCESSOR={wanted.arch}",
        f"-DCMAKE_C_COMPILER={prefix}-gcc",
        f"-DCMAKE_CXX_COMPILER={prefix}-g++",
    )


def _compile(wanted: Target, folder: Path) -> None:
    told = ";".join(arguments(wanted))  # scikit-build-core splits at semicolons, and keeps spaces then
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--no-binary", "llama-cpp-python"]
    environment = {
        **os.environ,
        "SKBUILD_CMAKE_ARGS": told,
        "_PYTHON_HOST_PLATFORM": f"linux-{wanted.arch}",  # what the wheel's name says it is for
    }
    done = subprocess.run(
        [*command, "--wheel-dir", str(folder), f"llama-cpp-python=={VERSION}"],
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if "rror" in line] or ["no reason given"]
        raise EdgellmError(f"llama-cpp-python cannot be built for {wanted.name}: {said[0]}")


def _folder(wanted: Target) -> Path:
    recipe = json.dumps([VERSION, _EVERYWHERE, wanted.flags])
    return files.cache_dir("engines") / f"{wanted.name}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
