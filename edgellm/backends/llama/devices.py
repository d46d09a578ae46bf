"""The devices llama.cpp was built for and finds here, from ggml's registry of backends."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from edgellm.backends.llama import lib
from edgellm.machine.devices import CPU, RPC, Device, Offer, servers

_TYPE_CPU, _TYPE_GPU, _TYPE_IGPU = 0, 1, 2  # enum ggml_backend_dev_type (ggml-backend.h)

#: Names of ggml's backends (ggml_backend_reg_name) as --device calls them; the others in lower case.
_KINDS = {"MTL": "metal", "HIP": "rocm"}

#: The build flag of each kind.
_FLAGS = {
    "cuda": "-DGGML_CUDA=on",
    "metal": "-DGGML_METAL=on",
    "vulkan": "-DGGML_VULKAN=on",
    "rocm": "-DGGML_HIP=on",
    "sycl": "-DGGML_SYCL=on -DCMAKE_C_COMPILER=icx -DCMAKE_CXX_COMPILER=icpx",
    "opencl": "-DGGML_OPENCL=on",
    "musa": "-DGGML_MUSA=on",
    "rpc": "-DGGML_RPC=on",
}


def offer() -> Offer:
    """What the installed library can run on beside the CPU."""
    there = tuple(device for device, _ in found() if device.kind != CPU)
    return Offer("llama.cpp", there, install_line, remote=bool(lib.load().llama_supports_rpc()))


def install_line(kind: str) -> str | None:
    """The shell line that builds the library for `kind`, None for a kind it does not know."""
    flag = _FLAGS.get(kind)
    return flag and lib.rebuild_command(flag)


def handles(device: Device | None) -> Any:
    """The NULL-terminated list for llama_model_params.devices: this device alone, those of servers, or none at all."""
    if device and device.kind == RPC:
        chosen = [handle for server in servers(device.name) for _, handle in of_server(server)]
    else:
        chosen = [handle for known, handle in found() if device and known.name == device.name]
    return (ctypes.c_void_p * (len(chosen) + 1))(*chosen, None)


def server_names(device: Device | None) -> dict[str, str]:
    """host:port by the library's names for the devices of servers."""
    there = servers(device.name) if device else ()
    return {known.name: server for server in there for known, _ in of_server(server)}


@cache
def found() -> tuple[tuple[Device, int], ...]:
    """All devices with their handles, the CPU among them; accelerators that only help the CPU are left out."""
    ggml = _bind(lib.load()._lib)
    return tuple(_scan(ggml, map(ggml.ggml_backend_dev_get, range(ggml.ggml_backend_dev_count()))))


def of_server(server: str) -> tuple[tuple[Device, int], ...]:
    """The devices of the server at host:port, with their handles. llama.cpp connects to it, and ends the process where
    it cannot: ask first (remote.py).
    """
    ggml = _bind(lib.load()._lib)
    registry = ggml.ggml_backend_rpc_add_server(server.encode())
    count = ggml.ggml_backend_reg_dev_count(registry) if registry else 0
    return tuple(_scan(ggml, (ggml.ggml_backend_reg_dev_get(registry, i) for i in range(count))))


def _scan(ggml: Any, handles: Iterable[int]) -> Iterator[tuple[Device, int]]:
    for handle in handles:
        type_ = ggml.ggml_backend_dev_type(handle)
        if type_ not in (_TYPE_CPU, _TYPE_GPU, _TYPE_IGPU):
            continue
        family = ggml.ggml_backend_reg_name(ggml.ggml_backend_dev_backend_reg(handle)).decode()
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        ggml.ggml_backend_dev_memory(handle, ctypes.byref(free), ctypes.byref(total))
        device = Device(
            kind=CPU if type_ == _TYPE_CPU else _KINDS.get(family, family.lower()),
            name=ggml.ggml_backend_dev_name(handle).decode(),
            description=ggml.ggml_backend_dev_description(handle).decode().strip(),
            free_bytes=free.value or None,
            total_bytes=total.value or None,
            integrated=type_ == _TYPE_IGPU,
        )
        yield device, handle


def _bind(ggml: Any) -> Any:
    """Types of the functions, which llama-cpp-python does not declare."""
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    for name, result, arguments in (
        ("dev_count", size, []),
        ("dev_get", pointer, [size]),
        ("dev_type", ctypes.c_int, [pointer]),
        ("dev_name", ctypes.c_char_p, [pointer]),
        ("dev_description", ctypes.c_char_p, [pointer]),
        ("dev_memory", None, [pointer, ctypes.POINTER(size), ctypes.POINTER(size)]),
        ("dev_backend_reg", pointer, [pointer]),
        ("reg_name", ctypes.c_char_p, [pointer]),
        ("reg_dev_count", size, [pointer]),
        ("reg_dev_get", pointer, [pointer, size]),
        ("rpc_add_server", pointer, [ctypes.c_char_p]),
        ("rpc_start_server", None, [ctypes.c_char_p, ctypes.c_char_p, size, size, pointer]),
    ):
        function = getattr(ggml, f"ggml_backend_{name}", None)
        if function is None:
            continue  # of a part that was not built
        function.restype, function.argtypes = result, arguments
    return ggml
