"""llama-cpp-python built for another machine: which target, which compiler, where the wheel is kept."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from edgellm import files
from edgellm.bundle import wheels
from edgellm.errors import EdgellmError
from edgellm.profiles.devices import Device, device

_FORMAT = 2  # of wheels that are kept: 2 hold what running needs, and the name of their target
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


#: What `-march` of each level brings in, so that a program built for it may use any of it (GCC's manual, ggml's CMake).
_X86_V2 = ("ssse3", "sse4_2", "popcnt")
_X86_V3 = (*_X86_V2, "avx", "avx2", "fma", "f16c", "bmi2")
_X86_V4 = (*_X86_V3, "avx512f", "avx512cd", "avx512dq", "avx512bw", "avx512vl")
_ARM_82 = ("asimd", "atomics", "crc32", "asimdrdm", "asimddp")
#: The most demanding first: a device gets the first whose features it has.
TARGETS = (
    Target("armv8.6-i8mm", "aarch64", (*_ARM_82, "i8mm"), ("-DGGML_CPU_ARM_ARCH=armv8.2-a+dotprod+i8mm",)),
    Target("armv8.2-dotprod", "aarch64", _ARM_82, ("-DGGML_CPU_ARM_ARCH=armv8.2-a+dotprod",)),
    Target("armv8", "aarch64", ("asimd",), ("-DGGML_CPU_ARM_ARCH=armv8-a",)),
    Target("x86-64-v4", "x86_64", _X86_V4, ("-DGGML_AVX512=ON",)),
    Target("x86-64-v3", "x86_64", _X86_V3, ()),
    Target(
        "x86-64-v2",
        "x86_64",
        _X86_V2,
        tuple(f"-DGGML_{name}=OFF" for name in ("AVX", "AVX2", "FMA", "F16C", "BMI2")),
    ),
)
_BY_NAME = {each.name: each for each in TARGETS}
#: Libraries that Python opens by their bare name: llama_cpp, and backends.llama.observe.
_OPENED = ("libllama", "libggml", "libggml-base")
#: In a wheel, the name of the target that it was built for.
_LABEL = "llama_cpp/lib/edgellm-target"


def target(name: str) -> Target:
    """The target called so, or the most demanding one that the device called so can run. Raises EdgellmError."""
    return _BY_NAME[name] if name in _BY_NAME else of_device(device(name))


def of_device(wanted: Device) -> Target:
    """The most of what `wanted` has. Raises EdgellmError where no wheel can be built for it."""
    for each in TARGETS:
        same = wanted.system == "linux" and each.arch == wanted.arch
        if same and {*each.features} <= {*wanted.cpu_features}:
            return each
    raise EdgellmError(f"no wheel is built for {wanted.title} ({wanted.system}, {wanted.arch})")


def of_wheel(wheel: Path) -> Target | None:
    """What a wheel was built for; None where it does not say: one of another maker."""
    with zipfile.ZipFile(wheel) as archive:
        return _BY_NAME.get(archive.read(_LABEL).decode()) if _LABEL in archive.namelist() else None


def kept(wanted: Target) -> Path | None:
    """The wheel that was built for `wanted` before, if there is one."""
    return next(iter(sorted(_folder(wanted).glob("*.whl"))), None)


def build(wanted: Target) -> Path:
    """The wheel for `wanted`: the kept one, or else a new one, which takes minutes. Raises EdgellmError."""
    with files.turn(str(_folder(wanted))):
        if (wheel := kept(wanted)) is None:
            with files.atomic_path(_folder(wanted), force=True) as growing:
                _compile(wanted, growing)
            wheel = kept(wanted)
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
    (wheel,) = folder.glob("*.whl")
    wheels.rewrite(wheel, needed, {_LABEL: wanted.name.encode()})


def needed(name: str, names: Collection[str]) -> bool:
    """Whether running needs this file of the wheel, which holds headers and every library under three names, twice."""
    folder, _, file = name.rpartition("/")
    if folder != "llama_cpp/lib":
        return name.startswith("llama_cpp/") or folder.endswith(".dist-info")
    stem, suffix, version = file.partition(".so")
    if stem in _OPENED and suffix and not version:
        return True
    linked = f"{folder}/{stem}.so.0"  # as other libraries ask for it
    return not stem.startswith("libllama") and (name == linked or linked not in names)


def _folder(wanted: Target) -> Path:
    recipe = json.dumps([_FORMAT, VERSION, _EVERYWHERE, wanted.flags])
    return files.cache_dir("engines") / f"{wanted.name}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
