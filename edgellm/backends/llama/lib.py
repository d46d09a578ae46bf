"""llama.cpp's shared library as llama-cpp-python ships it: loading it, its log, its names. No session state."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import re
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from edgellm.errors import EngineError, UsageError
from edgellm.session import Buffers, Place


class KvType(NamedTuple):
    """A type the KV cache can be kept in."""

    id: int  # enum ggml_type (ggml.h)
    bytes_per_value: float  # a block's bytes over its values (ggml-common.h)


KV_TYPES = {
    "f32": KvType(0, 4.0),
    "f16": KvType(1, 2.0),
    "bf16": KvType(30, 2.0),
    "q8_0": KvType(8, 34 / 32),
    "q5_1": KvType(7, 24 / 32),
    "q5_0": KvType(6, 22 / 32),
    "q4_1": KvType(3, 20 / 32),
    "q4_0": KvType(2, 18 / 32),
    "iq4_nl": KvType(20, 18 / 32),
}
FLASH_ATTN = {"auto": -1, "off": 0, "on": 1}

_WARN = 3  # ggml_log_level: 1 debug, 2 info, 3 warning, 4 error, 5 continuation
_FAILED = "failed to load model"
_log: deque[str] = deque(maxlen=400)
_BUFFER = re.compile(
    r"(?P<where>\S+)\s+(?P<what>model|output|KV|RS|compute) buffer size =\s*(?P<mib>[\d.]+) MiB"
)
_KINDS = {"model": "weights", "output": "compute", "KV": "kv", "RS": "kv", "compute": "compute"}
_LAYER = re.compile(r"layer\s+(?P<layer>\d+) assigned to device (?P<device>[^,\s]+)")
_SERVER = re.compile(r"RPC\d+\[(?P<server>.+)\]")  # how it names a server's memory
_buffers: list[str] = []  # the log's lines on memory and layers, which its chatter would push out of `_log`


@cache
def load() -> Any:
    """The ctypes module of llama.h, backend initialised and its log captured instead of printed."""
    try:
        lib = _bindings()
    except (ImportError, OSError, RuntimeError, FileNotFoundError) as error:
        raise EngineError(
            f"llama.cpp cannot be loaded ({error}); reinstall it with: {rebuild_command()}"
        ) from error
    load.callback = _make_log_callback(lib)  # type: ignore[attr-defined]  # ctypes does not keep it alive
    _listen(lib)
    lib.llama_backend_init()
    return lib


def _listen(lib: Any) -> None:
    """Take the log, which another user of the library in this process may have taken since."""
    lib.llama_log_set(load.callback, ctypes.c_void_p(0))  # type: ignore[attr-defined]


def rebuild_command(*cmake: str) -> str:
    """The shell line that builds llama-cpp-python with flags that are right for every CPU, and with `cmake`'s.

    GCC 12 drops the stores of the AMX tile configuration as dead unless these two passes are off
    (llama.cpp issue 20824).
    """
    flags = [*cmake, *(["'-DCMAKE_CXX_FLAGS=-fno-tree-dse -fno-dse'"] if sys.platform == "linux" else [])]
    prefix = f'CMAKE_ARGS="{" ".join(flags)}" ' if flags else ""
    return (
        f"{prefix}pip install --force-reinstall --no-deps --no-cache-dir "
        f"--no-binary llama-cpp-python llama-cpp-python"
    )


def _bindings() -> Any:
    """The module llama_cpp.llama_cpp alone.

    Its package imports numpy, jinja2 and a server's chat formats: a tenth of a second and some memory, for
    nothing that is used here. Whoever imports llama_cpp, before or later, gets all of it.
    """
    name = "llama_cpp"
    spec = None if name in sys.modules else importlib.util.find_spec(name)
    if spec is None:
        return importlib.import_module("llama_cpp.llama_cpp")
    sys.modules[name] = importlib.util.module_from_spec(spec)  # a package that has not run
    try:
        return importlib.import_module("llama_cpp.llama_cpp")
    finally:
        del sys.modules[name]


def _folder() -> Path:
    """Where llama-cpp-python keeps its libraries. Raises EngineError where it is not installed."""
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        raise EngineError(f"llama-cpp-python is not installed; install it with: {rebuild_command()}")
    return Path(spec.origin).parent / "lib"


def library_file() -> Path:
    """The CPU kernels' shared library: what a canary's verdict is about."""
    folder = _folder()
    for pattern in ("*ggml-cpu*", "*ggml*", "*llama*"):
        found = sorted(folder.glob(pattern))
        if found:
            return found[0].resolve()
    raise EngineError(f"{folder} holds no llama.cpp library; reinstall it with: {rebuild_command()}")


def version() -> str:
    """Version of llama-cpp-python, which names the llama.cpp inside it. Raises EngineError where that is missing."""
    beside = sorted(_folder().parent.parent.glob("llama_cpp_python-*.dist-info"))
    if len(beside) == 1:  # by its name: importlib.metadata takes 20 ms to import
        return f"llama-cpp-python {beside[0].stem.removeprefix('llama_cpp_python-')}"
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return f"llama-cpp-python {installed('llama-cpp-python')}"
    except PackageNotFoundError:
        raise EngineError(
            f"llama-cpp-python is not installed; install it with: {rebuild_command()}"
        ) from None


def system_info() -> str:
    """CPU features and build options the library reports of itself."""
    text: str = load().llama_print_system_info().decode()
    return text.strip().strip("|").strip()


def log_lines() -> list[str]:
    """The most recent lines the library logged."""
    return "".join(_log).splitlines()


def log_clear() -> None:
    """Forget what was logged before, so that a failure is explained by its own lines."""
    _listen(load())
    _log.clear()
    _buffers.clear()


def buffers() -> Buffers | None:
    """What the library says it set aside in the host's memory since `log_clear`; None when it says nothing.

    Lines like `load_tensors: CPU_REPACK model buffer size = 522.00 MiB`.
    """
    sizes = dict.fromkeys(("weights", "repacked", "kv", "compute"), 0.0)
    for line in _buffers:
        match = _BUFFER.search(line)
        if match is None or not _on_host(match["where"]):
            continue
        kind = _KINDS[match["what"]]
        kind = "repacked" if kind == "weights" and "REPACK" in match["where"] else kind
        sizes[kind] += float(match["mib"]) * (1 << 20)
    if not any(sizes.values()):
        return None
    return Buffers(**{name: round(size) for name, size in sizes.items()}, source="engine log")


def places(servers: Mapping[str, str]) -> tuple[Place, ...]:
    """Where the library says it put what since `log_clear`, if that is on more than one device; the host comes first.

    `servers` are those at host:port by the library's names for them (RPC0).
    """
    found: dict[str, Place] = {}
    for line in _buffers:
        if match := _LAYER.search(line):
            name, layer = match["device"], int(match["layer"])
            name = servers.get(name, name)
            place = found.setdefault(name, Place(name))
            found[name] = replace(place, layers=(*place.layers, layer))
        elif match := _BUFFER.search(line):
            name = match["where"]
            server = _SERVER.fullmatch(name)
            name = server["server"] if server else "CPU" if _on_host(name) else name
            place = found.setdefault(name, Place(name))
            kind = _KINDS[match["what"]]
            size = getattr(place, kind) + round(float(match["mib"]) * (1 << 20))
            found[name] = replace(place, **{kind: size})
    return tuple(found.values()) if len(found) > 1 else ()


def _on_host(name: str) -> bool:
    return name.startswith("CPU") or name.endswith("_Host")


def last_error() -> str:
    """The last line logged at warning level or above that says what went wrong, or an empty string.

    What only says that loading failed comes after the line that says why.
    """
    told = [line[1:].strip() for line in log_lines() if line.startswith("!")]
    return next((line for line in reversed(told) if not line.endswith(_FAILED)), told[-1] if told else "")


def kv_type(name: str) -> KvType:
    """A KV cache type by name. Raises UsageError for one llama.cpp cannot keep a cache in."""
    try:
        return KV_TYPES[name.lower()]
    except KeyError:
        raise UsageError(f"unknown KV cache type {name!r}; choose one of {', '.join(KV_TYPES)}") from None


def _make_log_callback(lib: Any) -> Any:
    def write(level: int, text: bytes, _: object) -> None:
        mark = "!" if level in (_WARN, 4) else ""
        line = text.decode("utf-8", "replace")
        _log.append(mark + line)
        if "buffer size" in line or "assigned to device" in line:
            _buffers.append(line.strip())

    return lib.llama_log_callback(write)
