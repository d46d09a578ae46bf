"""The wheels that running needs, and no more: edgellm's own, made of what is installed, and others' by pip."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Collection, Mapping
from importlib import metadata
from pathlib import Path

from edgellm import files
from edgellm.errors import EdgellmError, StorageError
from edgellm.profiles.devices import Device
from edgellm.version import __version__

#: What `edgellm run`, `chat` and `profile` import, whatever the engine.
_COMMON = ("click", "jinja2", "markupsafe", "numpy", "prompt_toolkit", "psutil", "wcwidth")
_ENGINE = {
    "onnx": ("onnxruntime", "tokenizers"),
    "gguf": ("gguf", "pyyaml", "tqdm", "typing_extensions"),  # the canary writes a small model with gguf
}
_SERVE = (
    *("pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"),
    *("starlette", "uvicorn", "anyio", "idna", "h11", "llguidance"),
)
#: Rooms of edgellm that no command on a board enters, and weights that are not this model's.
_LEFT_OUT = ("models/bundled/", "models/training/", "profiles/quality/tasks/")
_LEAST_GLIBC, _GLIBC = 17, 36  # manylinux2014; Debian 12, on which Raspberry Pi OS and others stand
_DATE = (1980, 1, 1, 0, 0, 0)


def requirements(format: str, python: str, *, serve: bool) -> tuple[str, ...]:
    """What pip is asked for, as `name==version` of what is installed and proven here, sorted."""
    names = {*_COMMON, *_ENGINE[format], *(_SERVE if serve else ())}
    if python == "3.10":
        names |= {"tomli", "exceptiongroup"} if serve else {"tomli"}
    found = []
    for name in sorted(names):
        try:
            found.append(f"{name}=={metadata.version(name)}")
        except metadata.PackageNotFoundError:
            raise EdgellmError(
                f"{name} is not installed here, so that no version of it is known to work; "
                f"install it with: pip install {name}"
            ) from None
    return tuple(found)


def platforms(device: Device) -> tuple[str, ...]:
    """The platform tags of wheels that run on `device`, as PEP 600 names them. Raises EdgellmError."""
    if device.system != "linux":
        raise EdgellmError(
            f"{device.title} runs {device.system}, for which no bundle is made; use: pip install edgellm"
        )
    glibc = [f"manylinux_2_{minor}_{device.arch}" for minor in range(_GLIBC, _LEAST_GLIBC - 1, -1)]
    return (*glibc, f"manylinux2014_{device.arch}")


def fetch(wanted: tuple[str, ...], device: Device, python: str, folder: Path, given: Path | None) -> None:
    """Put the wheels of `wanted` into `folder`: from `given` alone, else from the cache, else by pip. Raises."""
    key = "\n".join((*wanted, device.arch, python))
    kept = files.cache_dir("wheels") / hashlib.sha256(key.encode()).hexdigest()[:16]
    if given is None and not kept.is_dir():
        with files.atomic_path(kept, force=True) as growing:
            _download(wanted, device, python, growing, ())
    if given is None:
        for wheel in sorted(kept.glob("*.whl")):
            shutil.copyfile(wheel, folder / wheel.name)
    else:
        _download(wanted, device, python, folder, ("--no-index", "--find-links", str(given)))


def _download(
    wanted: tuple[str, ...], device: Device, python: str, folder: Path, source: tuple[str, ...]
) -> None:
    tags = [part for tag in platforms(device) for part in ("--platform", tag)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", python]
    done = subprocess.run(
        [*command, *tags, *source, "--dest", str(folder), *wanted], capture_output=True, text=True
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr]
        raise EdgellmError(
            f"pip finds no wheel for {device.arch} and Python {python} ({said[-1].strip()}); "
            f"give a folder that has it with --wheels, or another --python"
        )


def own(folder: Path, *, serve: bool) -> Path:
    """Write edgellm's own wheel into `folder`, the same bytes each time, of the files that run here."""
    root = Path(__file__).resolve().parents[1]
    left_out = _LEFT_OUT if serve else (*_LEFT_OUT, "server/page/")
    content: dict[str, bytes] = {}
    for path in sorted(_below(root)):
        name = path.relative_to(root).as_posix()
        if name.startswith(left_out) and path.name != "__init__.py":
            continue
        content[f"edgellm/{name}"] = path.read_bytes()
    info = f"edgellm-{__version__}.dist-info"
    content[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: edgellm\nVersion: {__version__}\n".encode()
    content[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: edgellm\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    wheel = folder / f"edgellm-{__version__}-py3-none-any.whl"
    _write(wheel, content)
    return wheel


def rewrite(wheel: Path, kept: Callable[[str, Collection[str]], bool], added: Mapping[str, bytes]) -> None:
    """Leave in `wheel` the files of which `kept` says so, given a name and all names, and `added`."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith(("/", "/RECORD"))]
        content = {name: archive.read(name) for name in names if kept(name, names)}
    _write(wheel, {**content, **added})


def _write(wheel: Path, content: Mapping[str, bytes]) -> None:
    """A wheel of these files and its RECORD, the same bytes each time."""
    info = next(name for name in content if name.endswith(".dist-info/WHEEL")).rpartition("/")[0]
    record = [f"{name},sha256={_digest(data)},{len(data)}" for name, data in content.items()]
    whole = {**content, f"{info}/RECORD": "\n".join((*record, f"{info}/RECORD,,", "")).encode()}
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in whole.items():
            entry = zipfile.ZipInfo(name, _DATE)
            entry.external_attr = 0o644 << 16
            entry.create_system = 3  # Unix, wherever it is made
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)


def glibc(folder: Path) -> str:
    """The least C library that all wheels in `folder` run with, as "2.28": by their names, which PEP 600 spells, or
    by the versions of symbols that the libraries of one without such a name ask for.
    """
    least = _LEAST_GLIBC
    for wheel in folder.glob("*.whl"):
        if named := re.findall(r"manylinux_2_(\d+)_", wheel.name):
            least = max(least, min(map(int, named)))
        elif not wheel.name.endswith("-any.whl"):
            with zipfile.ZipFile(wheel) as archive:
                libraries = [archive.read(name) for name in archive.namelist() if ".so" in name]
            asked = [int(minor) for data in libraries for minor in re.findall(rb"GLIBC_2\.(\d+)", data)]
            least = max([least, *asked])
    return f"2.{least}"


def add_engine(wheel: Path, device: Device, folder: Path) -> None:
    """Take an engine's wheel that was built for `device`. Raises StorageError, EdgellmError."""
    if not wheel.is_file():
        raise StorageError(f"{wheel} does not exist; make one with: edgellm wheel --for {device.name}")
    named = wheel.name.startswith("llama_cpp_python-") and wheel.name.endswith(f"{device.arch}.whl")
    if not named or not zipfile.is_zipfile(wheel):
        raise EdgellmError(
            f"{wheel.name} is no wheel of llama-cpp-python for {device.arch}; "
            f"make one with: edgellm wheel --for {device.name}"
        )
    shutil.copyfile(wheel, folder / wheel.name)


def _below(root: Path) -> list[Path]:
    """All files of the package, those behind its links to the folders beside it too, without what Python caches."""
    found = []
    for path in root.iterdir():
        if path.is_dir() and path.name != "__pycache__":
            found += _below(path)
        elif path.is_file() and path.suffix != ".pyc":
            found.append(path)
    return found


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
